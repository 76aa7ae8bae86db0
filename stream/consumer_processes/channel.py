"""Shared-memory channel between a consumer process and the engine: request ring and answer ring.

A consumer process has at most `capacity` requests in flight; each counts until its answer is taken. So neither ring
overflows, and the engine's side never waits for room: a request's slot is free again before its answer is put, and
every answer has one.
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
_HEADER_BYTES = 64  # bytes before the rings: the consumer's health port

_REQUEST = Struct("<qqqiii")  # sequence, ticket, due, depth limit or 0, rung or -1, tokens; then the token ids
_ANSWER = Struct(
    f"<qqqqiiiiI4x{CLASSES}d{CLASSES}dd"
)  # sequence, ticket, in, exited, label or -1, layer, reason, rung or -1, bytes of error


@dataclass(frozen=True, slots=True)
class TicketMap:
    """Mapping between one consumer's tickets and the engine's.

    Each consumer process numbers its own tickets. The engine's ticket is the consumer's ticket * `processes` +
    `number`.
    """

    processes: int = 1
    number: int = 0


class RequestCodec:
    """Layout of a request with up to `longest` tokens.

    `ticket_map` maps the consumer's ticket to the reader's.
    """

    def __init__(self, longest: int, ticket_map: TicketMap = TicketMap()) -> None:
        self.size = _round_up(_REQUEST.size + 4 * longest)
        self._processes, self._number = ticket_map.processes, ticket_map.number
        self._ids = [Struct(f"<{length}I") for length in range(longest + 1)]

    def pack(self, memory: memoryview, start: int, sequence: int, message: TimedRequest) -> None:
        ids, due_us = message.token_ids, message.due_us
        due_us = NEVER if due_us is None else due_us
        rung = -1 if message.rung is None else message.rung
        _REQUEST.pack_into(memory, start, sequence, message.ticket, due_us, message.depth_limit or 0, rung, len(ids))
        self._ids[len(ids)].pack_into(memory, start + _REQUEST.size, *ids)

    def unpack(self, memory: memoryview, start: int) -> tuple[int, TimedRequest]:
        sequence, ticket, due_us, limit, rung, length = _REQUEST.unpack_from(memory, start)
        ids = self._ids[length].unpack_from(memory, start + _REQUEST.size)
        ticket = ticket * self._processes + self._number
        due_us, rung = None if due_us == NEVER else due_us, None if rung < 0 else rung
        return sequence, TimedRequest(ticket, ids, limit or None, rung, due_us=due_us)


class AnswerCodec:
    """Layout of an answer of the engine; floats keep every bit.

    `ticket_map` maps the writer's ticket back to the consumer's.
    """

    size = _ANSWER.size + LONGEST_ERROR + -(_ANSWER.size + LONGEST_ERROR) % 8

    def __init__(self, ticket_map: TicketMap = TicketMap()) -> None:
        self._processes = ticket_map.processes

    def pack(self, memory: memoryview, start: int, sequence: int, message: Answer) -> None:
        ticket, verdict = message.ticket // self._processes, message.verdict
        stamps = (
            NEVER if message.engine_in_us is None else message.engine_in_us,
            NEVER if message.exited_us is None else message.exited_us,
        )
        if verdict is None:
            error = message.error.encode(errors="replace")[:LONGEST_ERROR]
            _ANSWER.pack_into(memory, start, sequence, ticket, *stamps, -1, 0, 0, -1, len(error), *_NO_FLOATS)
            memory[start + _ANSWER.size : start + _ANSWER.size + len(error)] = error
            return
        reason = _REASON_NUMBERS[verdict.exit_reason]
        rung = -1 if verdict.rung is None else verdict.rung
        decided = (verdict.label, verdict.exit_layer, reason, rung, 0)
        floats = (*verdict.probs, *verdict.logits, verdict.puzzlement)
        _ANSWER.pack_into(memory, start, sequence, ticket, *stamps, *decided, *floats)

    def unpack(self, memory: memoryview, start: int) -> tuple[int, Answer]:
        sequence, ticket, in_us, exited_us, label, layer, reason, rung, size, *floats = _ANSWER.unpack_from(
            memory, start
        )
        engine_in_us, exited_us = None if in_us == NEVER else in_us, None if exited_us == NEVER else exited_us
        if label < 0:
            error = bytes(memory[start + _ANSWER.size : start + _ANSWER.size + size]).decode(errors="replace")
            return sequence, Answer(ticket, None, engine_in_us, exited_us, error=error)
        probs, logits = tuple(floats[:CLASSES]), tuple(floats[CLASSES:-1])
        verdict = Verdict(ticket, label, probs, logits, layer, REASONS[reason], floats[-1], None if rung < 0 else rung)
        return sequence, Answer(ticket, verdict, engine_in_us, exited_us)


@dataclass(frozen=True, slots=True)
class Channel:
    """Shared memory and two counting eventfds of one consumer process.

    The memory has no name outside the processes that hold its descriptors: nothing is left behind when they are
    killed.
    """

    capacity: int
    longest: int  # tokens per request, at most
    memory: int
    requested: int
    answered: int

    @classmethod
    def create(cls, capacity: int, longest: int) -> "Channel":
        """Create the shared memory and both eventfds."""
        memory = os.memfd_create("earlybird-channel")
        size = _HEADER_BYTES + capacity * (RequestCodec(longest).size + AnswerCodec.size)
        os.ftruncate(memory, size)
        counts = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2)]
        return cls(capacity, longest, memory, *counts)

    @classmethod
    def from_argument(cls, argument: str) -> "Channel":
        """Rebuild a channel from `argument`, in a child that inherits its descriptors."""
        return cls(*map(int, argument.split(":")))

    def argument(self) -> str:
        """Return the channel as text for `from_argument`."""
        return f"{self.capacity}:{self.longest}:{self.memory}:{self.requested}:{self.answered}"

    @property
    def descriptors(self) -> tuple[int, int, int]:
        """File descriptors that a child must inherit to hold the other end."""
        return self.memory, self.requested, self.answered

    def consumer_end(self) -> "ChannelEnd":
        """Return the end that puts requests and takes answers."""
        return ChannelEnd(self, TicketMap())

    def engine_end(self, ticket_map: TicketMap) -> "ChannelEnd":
        """Return the end that takes requests and puts answers."""
        return ChannelEnd(self, ticket_map)

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)


class ChannelEnd:
    """One end of a channel."""

    def __init__(self, channel: Channel, ticket_map: TicketMap) -> None:
        memory = memoryview(mmap.mmap(channel.memory, 0))
        codec, answers_at = (
            RequestCodec(channel.longest, ticket_map),
            _HEADER_BYTES + channel.capacity * RequestCodec(channel.longest).size,
        )
        self.capacity = channel.capacity
        self.requests = Ring[TimedRequest](memory[_HEADER_BYTES:answers_at], codec, channel.requested)
        self.answers = Ring[Answer](memory[answers_at:], AnswerCodec(ticket_map), channel.answered)
        self._header = memory[:_HEADER_BYTES].cast("q")

    @property
    def port(self) -> int:
        """Port of the consumer's health server on 127.0.0.1; 0 until it serves."""
        return self._header[0]

    @port.setter
    def port(self, port: int) -> None:
        self._header[0] = port


def _round_up(size: int) -> int:
    return size + -size % 8


_REASON_NUMBERS = {reason: number for number, reason in enumerate(REASONS)}
_NO_FLOATS = (0.0,) * (2 * CLASSES + 1)
