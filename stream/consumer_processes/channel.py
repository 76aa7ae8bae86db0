"""Shared-memory channel between a feeder and the engine: request ring and answer ring.

A feeder has at most `places` requests in flight; each counts until its answer is taken. So neither ring overflows,
and the engine's side never waits for room: a request's place is free again before its answer is put, and every
answer has a place.
"""

import mmap
import os
from dataclasses import dataclass
from struct import Struct

from earlybird.engine.types import Verdict
from earlybird.schemas.signal import ExitReason
from earlybird.stream.consumer_processes.shared_ring import Ring
from earlybird.stream.stage.messages import Answer, TimedRequest

CLASSES = 3
REASONS = tuple(ExitReason)
LONGEST_ERROR = 200  # bytes of UTF-8
NEVER = -(2**63)  # stands for None
_BOARD = 64  # bytes before the rings: the feeder's health port

_REQUEST = Struct("<qqqii")  # turn, ticket, due, depth limit or 0, tokens; then the token ids
_ANSWER = Struct(
    f"<qqqqiiiI{CLASSES}d{CLASSES}dd"
)  # turn, ticket, in, exited, label or -1, layer, reason, bytes of error


@dataclass(frozen=True, slots=True)
class Tickets:
    """Mapping between one feeder's tickets and the engine's.

    Each feeder numbers its own tickets. The engine's ticket is the feeder's ticket * `feeders` + `number`.
    """

    feeders: int = 1
    number: int = 0


class RequestForm:
    """Layout of a request with up to `longest` tokens.

    `tickets` maps the feeder's ticket to the reader's.
    """

    def __init__(self, longest: int, tickets: Tickets = Tickets()) -> None:
        self.size = _round_up(_REQUEST.size + 4 * longest)
        self._feeders, self._number = tickets.feeders, tickets.number
        self._ids = [Struct(f"<{length}I") for length in range(longest + 1)]

    def pack(self, memory: memoryview, start: int, turn: int, message: TimedRequest) -> None:
        """See Form.pack."""
        ids, due_us = message.token_ids, message.due_us
        due_us = NEVER if due_us is None else due_us
        _REQUEST.pack_into(memory, start, turn, message.ticket, due_us, message.depth_limit or 0, len(ids))
        self._ids[len(ids)].pack_into(memory, start + _REQUEST.size, *ids)

    def unpack(self, memory: memoryview, start: int) -> tuple[int, TimedRequest]:
        """See Form.unpack."""
        turn, ticket, due_us, limit, length = _REQUEST.unpack_from(memory, start)
        ids = self._ids[length].unpack_from(memory, start + _REQUEST.size)
        ticket = ticket * self._feeders + self._number
        return turn, TimedRequest(ticket, ids, limit or None, None if due_us == NEVER else due_us)


class AnswerForm:
    """Layout of an answer of the engine; floats keep every bit.

    `tickets` maps the writer's ticket back to the feeder's.
    """

    size = _ANSWER.size + LONGEST_ERROR + -(_ANSWER.size + LONGEST_ERROR) % 8

    def __init__(self, tickets: Tickets = Tickets()) -> None:
        self._feeders = tickets.feeders

    def pack(self, memory: memoryview, start: int, turn: int, message: Answer) -> None:
        """See Form.pack."""
        ticket, verdict = message.ticket // self._feeders, message.verdict
        stamps = (
            NEVER if message.engine_in_us is None else message.engine_in_us,
            NEVER if message.exited_us is None else message.exited_us,
        )
        if verdict is None:
            error = message.error.encode(errors="replace")[:LONGEST_ERROR]
            _ANSWER.pack_into(memory, start, turn, ticket, *stamps, -1, 0, 0, len(error), *_NO_FLOATS)
            memory[start + _ANSWER.size : start + _ANSWER.size + len(error)] = error
            return
        reason = _REASON_NUMBERS[verdict.exit_reason]
        decided = (verdict.label, verdict.exit_layer, reason, 0)
        floats = (*verdict.probs, *verdict.logits, verdict.puzzlement)
        _ANSWER.pack_into(memory, start, turn, ticket, *stamps, *decided, *floats)

    def unpack(self, memory: memoryview, start: int) -> tuple[int, Answer]:
        """See Form.unpack."""
        turn, ticket, in_us, exited_us, label, layer, reason, size, *floats = _ANSWER.unpack_from(memory, start)
        engine_in_us, exited_us = None if in_us == NEVER else in_us, None if exited_us == NEVER else exited_us
        if label < 0:
            error = bytes(memory[start + _ANSWER.size : start + _ANSWER.size + size]).decode(errors="replace")
            return turn, Answer(ticket, None, engine_in_us, exited_us, error=error)
        probs, logits = tuple(floats[:CLASSES]), tuple(floats[CLASSES:-1])
        verdict = Verdict(ticket, label, probs, logits, layer, REASONS[reason], floats[-1])
        return turn, Answer(ticket, verdict, engine_in_us, exited_us)


@dataclass(frozen=True, slots=True)
class Line:
    """Shared memory and two counting eventfds of one feeder.

    The memory has no name outside the processes that hold its descriptors: nothing is left behind when they are
    killed.
    """

    places: int
    longest: int  # tokens per request, at most
    memory: int
    requested: int
    answered: int

    @classmethod
    def create(cls, places: int, longest: int) -> "Line":
        """Create the shared memory and both eventfds."""
        memory = os.memfd_create("earlybird-feeder")
        size = _BOARD + places * (RequestForm(longest).size + AnswerForm.size)
        os.ftruncate(memory, size)
        counts = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2)]
        return cls(places, longest, memory, *counts)

    @classmethod
    def inherited(cls, spelt: str) -> "Line":
        """Rebuild a line from `spelt`, in a child that inherits its descriptors."""
        return cls(*map(int, spelt.split(":")))

    def spelt(self) -> str:
        """Return the line as text for `inherited`."""
        return f"{self.places}:{self.longest}:{self.memory}:{self.requested}:{self.answered}"

    @property
    def descriptors(self) -> tuple[int, int, int]:
        """File descriptors that a child must inherit to hold the other end."""
        return self.memory, self.requested, self.answered

    def feeder_end(self) -> "End":
        """Return the end that puts requests and takes answers."""
        return End(self, Tickets())

    def engine_end(self, tickets: Tickets) -> "End":
        """Return the end that takes requests and puts answers."""
        return End(self, tickets)

    def close(self) -> None:
        """Close the descriptors."""
        for descriptor in self.descriptors:
            os.close(descriptor)


class End:
    """One end of a line."""

    def __init__(self, line: Line, tickets: Tickets) -> None:
        memory = memoryview(mmap.mmap(line.memory, 0))
        form, between = RequestForm(line.longest, tickets), _BOARD + line.places * RequestForm(line.longest).size
        self.places = line.places
        self.requests = Ring[TimedRequest](memory[_BOARD:between], form, line.requested)
        self.answers = Ring[Answer](memory[between:], AnswerForm(tickets), line.answered)
        self._board = memory[:_BOARD].cast("q")

    @property
    def port(self) -> int:
        """Port of the feeder's health server on 127.0.0.1; 0 until it serves."""
        return self._board[0]

    @port.setter
    def port(self, port: int) -> None:
        self._board[0] = port


def _round_up(size: int) -> int:
    return size + -size % 8


_REASON_NUMBERS = {reason: number for number, reason in enumerate(REASONS)}
_NO_FLOATS = (0.0,) * (2 * CLASSES + 1)
