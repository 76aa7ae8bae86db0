"""Measure own code beside the library that could do its job, in CPU time per text.

  texts between processes   a request to the engine's process and its answer: shared rings, and pyzmq (PUSH/PULL over
                            ipc) with the same codecs; of both processes, by texts per message
  signals to JSON           the stage's dict through pydantic-core, and Structs through msgspec

The ways take turns; each row is the best of its rounds.
"""

import argparse
import importlib
import json
import os
import select
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from pydantic_core import to_json

from earlybird.engine.types import Verdict
from earlybird.schemas.signal import ExitReason
from earlybird.stream.bench.tables import bench_console, figures
from earlybird.stream.commands.arguments import positive_int
from earlybird.stream.consumer_processes.channel import AnswerCodec, Channel, RequestCodec, TicketMap
from earlybird.stream.consumer_processes.shared_ring import MessageCodec
from earlybird.stream.stage.messages import Answer, TimedRequest
from earlybird.stream.strategies.invented import invented

BATCHES = (1, 8, 64)  # texts per message
ROUNDS = 3
_TOKENS = (5,) * 20
_LONGEST = 80
_VERDICT = Verdict(0, 1, (0.1, 0.2, 0.7), (0.1, 0.2, 0.3), 2, ExitReason.CONFIDENCE, 0.5)

Send = Callable[[Sequence[Any]], object]
Receive = Callable[[], Sequence[Any]]


class Link(Protocol):
    """A way between a consumer's process and the engine's."""

    name: str

    def consumer(self) -> tuple[Send, Receive]:
        """Return what sends requests, and what waits for answers."""

    def engine(self) -> tuple[Send, Receive]:
        """Return what sends answers, and what waits for requests."""


class Rings:
    """The stage's own link."""

    name = "shared rings"

    def __init__(self) -> None:
        self._channel = Channel.create(1_024, _LONGEST)

    def consumer(self) -> tuple[Send, Receive]:
        end = self._channel.consumer_end()
        return end.requests.put, _waiting(self._channel.answered, end.answers.take)

    def engine(self) -> tuple[Send, Receive]:
        end = self._channel.engine_end(TicketMap())
        return end.answers.put, _waiting(self._channel.requested, end.requests.take)


class Sockets:
    """Messages of pyzmq; each process makes its own context."""

    name = "pyzmq"

    def __init__(self) -> None:
        # The at sign: a name without a file, which nothing leaves behind.
        self._requests, self._answers = (f"ipc://@earlybird-{uuid.uuid4().hex}" for _ in range(2))

    def consumer(self) -> tuple[Send, Receive]:
        return self._pair("bind", self._requests, RequestCodec(_LONGEST), self._answers, AnswerCodec())

    def engine(self) -> tuple[Send, Receive]:
        return self._pair("connect", self._answers, AnswerCodec(), self._requests, RequestCodec(_LONGEST))

    @staticmethod
    def _pair(
        join: str, to: str, sent: MessageCodec[Any], source: str, received: MessageCodec[Any]
    ) -> tuple[Send, Receive]:
        zmq = importlib.import_module("zmq")
        context = zmq.Context()
        out, into = context.socket(zmq.PUSH), context.socket(zmq.PULL)
        getattr(out, join)(to)
        getattr(into, join)(source)

        def packed(message: object) -> bytearray:
            frame = bytearray(sent.size)
            sent.pack(memoryview(frame), 0, 0, message)
            return frame

        def receive() -> list[Any]:
            return [received.unpack(memoryview(frame), 0)[1] for frame in into.recv_multipart()]

        return lambda messages: out.send_multipart([packed(message) for message in messages]), receive


@dataclass(frozen=True, slots=True)
class Row:
    """CPU time per text of one way, and how many times the first way's it is."""

    job: str
    way: str
    us: float
    ratio: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how many texts each row takes."""
    parser.add_argument("--texts", type=positive_int, default=20_000, help="texts per row (default 20,000)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout; the table goes to stderr")


def run(args: argparse.Namespace) -> int:
    """Measure and print; the exit status is 0."""
    rows = [*between_processes(args.texts), *to_text(args.texts)]
    table = figures("own code and libraries", "job", "way", "us of CPU per text", "times the first")
    for row in rows:
        table.add_row(row.job, row.way, f"{row.us:.1f}", f"{row.ratio:.2f}")
    bench_console(stderr=args.json).print(table)
    if args.json:
        print(json.dumps({"rows": [{"job": row.job, "way": row.way, "us": row.us} for row in rows]}))
    return 0


def between_processes(texts: int) -> Iterator[Row]:
    """Yield the rows of the links, by texts per message."""
    for batch in BATCHES:
        ways = {kind.name: partial(_exchanged_s, kind, texts, batch) for kind in (Rings, Sockets)}
        yield from _rows(f"to the engine's process and back, {batch} per message", ways, texts)


def to_text(texts: int) -> Iterator[Row]:
    """Yield the rows of a signal's way to JSON."""
    msgspec = importlib.import_module("msgspec")
    fields = invented("1", 1_770_000_000_000_000).model_dump(mode="json")
    encode, struct = msgspec.json.Encoder().encode, _struct(msgspec.defstruct, "Signal", fields)
    ways = {
        "dict, pydantic-core": lambda: _spent_s(lambda: to_json(fields), texts),
        "Struct, msgspec": lambda: _spent_s(lambda: encode(struct), texts),
    }
    yield from _rows("a signal to JSON", ways, texts)


def _rows(job: str, ways: Mapping[str, Callable[[], float]], texts: int) -> Iterator[Row]:
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, way in ways.items():
            best[name] = min(best[name], way())
    first_s = next(iter(best.values()))
    for name, seconds in best.items():
        yield Row(job, name, seconds / texts * 1e6, seconds / first_s)


def _exchanged_s(kind: Callable[[], Link], texts: int, batch: int) -> float:
    """Return the CPU seconds of both processes for so many texts, each sent and answered."""
    link = kind()
    child = os.fork()
    if child == 0:
        left = texts
        send, receive = link.engine()
        while left > 0:
            requests = receive()
            left -= len(requests)
            send([Answer(request.ticket, _VERDICT, 1, 2) for request in requests])
        select.select([], [], [], 0.2)  # the last answers leave
        os._exit(0)
    send, receive = link.consumer()
    before, before_s = os.times(), time.process_time()
    for ticket in range(0, texts, batch):
        left = min(batch, texts - ticket)
        send([TimedRequest(ticket + number, _TOKENS) for number in range(left)])
        while left:
            left -= len(receive())
    own_s = time.process_time() - before_s
    os.waitpid(child, 0)
    after = os.times()
    return own_s + after.children_user + after.children_system - before.children_user - before.children_system


def _waiting(count: int, take: Receive) -> Receive:
    poll = select.poll()
    poll.register(count, select.POLLIN)

    def receive() -> Sequence[Any]:
        poll.poll()
        return take()

    return receive


def _struct(define: Callable[..., Any], name: str, fields: dict[str, Any]) -> object:
    """Return the fields as a Struct, objects within as Structs of their own."""
    values = {key: _struct(define, key, value) if isinstance(value, dict) else value for key, value in fields.items()}
    return define(name, [(key, object) for key in fields])(**values)


def _spent_s(way: Callable[[], object], times: int) -> float:
    before_s = time.process_time()
    for _ in range(times):
        way()
    return time.process_time() - before_s
