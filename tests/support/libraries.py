"""Measure own code beside the library that could do its job: CPU time per text.

  texts between processes   a request to the engine's process and its answer: shared rings, and pyzmq (PUSH/PULL over
                            ipc) with the same codecs; of both processes, by texts per message
  signals to JSON           the stage's dict through pydantic-core, and Structs through msgspec

Run as `python tests/support/libraries.py`. The ways take turns; each row is the best of its rounds.
"""

import argparse
import importlib
import json
import os
import resource
import select
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from timeit import timeit
from typing import Any

from pydantic_core import to_json

from earlybird.engine.types import Verdict
from earlybird.schemas.signal import ExitReason
from earlybird.stream.bench.tables import bench_console, figures
from earlybird.stream.commands.arguments import positive_int
from earlybird.stream.consumer_processes.channel import AnswerCodec, Channel, RequestCodec, TicketMap
from earlybird.stream.stage.messages import Answer, TimedRequest
from earlybird.stream.strategies.invented import invented

BATCHES = (1, 8, 64)  # texts per message
ROUNDS = 3
_TOKENS = (5,) * 20
_LONGEST = 80
_VERDICT = Verdict(0, 1, (0.1, 0.2, 0.7), (0.1, 0.2, 0.3), 2, ExitReason.CONFIDENCE, 0.5)

Send = Callable[[Sequence[Any]], object]
Receive = Callable[[], Sequence[Any]]
Join = Callable[[], tuple[Send, Receive]]
"""Joins a link, in the process that uses it."""


def rings() -> tuple[Join, Join]:
    """Return how a consumer's process and the engine's join the stage's own link."""
    channel = Channel.create(1_024, _LONGEST)

    def consumer() -> tuple[Send, Receive]:
        end = channel.consumer_end()
        return end.requests.put, partial(_awaited, channel.answered, end.answers.take)

    def engine() -> tuple[Send, Receive]:
        end = channel.engine_end(TicketMap())
        return end.answers.put, partial(_awaited, channel.requested, end.requests.take)

    return consumer, engine


def sockets() -> tuple[Join, Join]:
    """Return the same over pyzmq; each process makes its own context."""
    # The at sign: a name without a file, which nothing leaves behind.
    requests, answers = (
        (f"ipc://@earlybird-{uuid.uuid4().hex}", codec) for codec in (RequestCodec(_LONGEST), AnswerCodec())
    )
    return partial(_pair, "bind", requests, answers), partial(_pair, "connect", answers, requests)


def main() -> None:
    """Measure the rings beside pyzmq and JSON beside msgspec, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=positive_int, default=10_000, help="texts per row (default 10,000)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout; the table goes to stderr")
    args = parser.parse_args()
    links = {"shared rings": rings, "pyzmq": sockets}
    jobs: dict[str, Mapping[str, Callable[[], float]]] = {
        f"to the engine's process and back, {batch} per message": {
            name: partial(_exchanged_s, link, args.texts, batch) for name, link in links.items()
        }
        for batch in BATCHES
    }
    jobs["a signal to JSON"] = encoders(args.texts)
    found = {job: _best_us(ways, args.texts) for job, ways in jobs.items()}
    table = figures("own code and libraries", "job", "way", "us of CPU per text", "times the first")
    for job, ways_us in found.items():
        for way, us in ways_us.items():
            table.add_row(job, way, f"{us:.1f}", f"{us / next(iter(ways_us.values())):.2f}")
    bench_console(stderr=args.json).print(table)
    if args.json:
        print(json.dumps(found))


def encoders(texts: int) -> dict[str, Callable[[], float]]:
    """Return what encodes one signal so many times, and returns the seconds."""
    msgspec = importlib.import_module("msgspec")
    fields = invented("1", 1_770_000_000_000_000).model_dump(mode="json")
    encode, struct = msgspec.json.Encoder().encode, _struct(msgspec.defstruct, "Signal", fields)
    ways = {"dict, pydantic-core": partial(to_json, fields), "Struct, msgspec": partial(encode, struct)}
    return {name: partial(timeit, way, timer=time.process_time, number=texts) for name, way in ways.items()}


def _best_us(ways: Mapping[str, Callable[[], float]], texts: int) -> dict[str, float]:
    rounds = [{name: way() for name, way in ways.items()} for _ in range(ROUNDS)]
    return {name: min(seconds[name] for seconds in rounds) / texts * 1e6 for name in ways}


def _exchanged_s(link: Callable[[], tuple[Join, Join]], texts: int, batch: int) -> float:
    """Return the CPU seconds of both processes for so many texts, each sent and answered."""
    consumer, engine = link()
    child = os.fork()
    if child == 0:
        (send, receive), left = engine(), texts
        while left > 0:
            requests = receive()
            left -= len(requests)
            send([Answer(request.ticket, _VERDICT, 1, 2) for request in requests])
        time.sleep(0.2)  # the last answers leave
        os._exit(0)
    before_s = _cpu_s()
    send, receive = consumer()
    for ticket in range(0, texts, batch):
        left = min(batch, texts - ticket)
        send([TimedRequest(ticket + number, _TOKENS) for number in range(left)])
        while left:
            left -= len(receive())
    os.waitpid(child, 0)
    return _cpu_s() - before_s


def _cpu_s() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def _awaited(count: int, take: Receive) -> Sequence[Any]:
    select.select([count], [], [])
    return take()


def _pair(join: str, sent: tuple[str, Any], received: tuple[str, Any]) -> tuple[Send, Receive]:
    zmq = importlib.import_module("zmq")
    context = zmq.Context()
    out, into = context.socket(zmq.PUSH), context.socket(zmq.PULL)
    getattr(out, join)(sent[0])
    getattr(into, join)(received[0])

    def packed(message: object) -> bytearray:
        frame = bytearray(sent[1].size)
        sent[1].pack(memoryview(frame), 0, 0, message)
        return frame

    def receive() -> list[Any]:
        return [received[1].unpack(memoryview(frame), 0)[1] for frame in into.recv_multipart()]

    return lambda messages: out.send_multipart([packed(message) for message in messages]), receive


def _struct(define: Callable[..., Any], name: str, fields: dict[str, Any]) -> object:
    """Return the fields as a Struct, objects within as Structs of their own."""
    values = {key: _struct(define, key, value) if isinstance(value, dict) else value for key, value in fields.items()}
    return define(name, [(key, object) for key in fields])(**values)


if __name__ == "__main__":
    main()
