"""Texts in, sentiment out, without Kafka: a text a line, or JSON lines with `text`, from a file or stdin; one JSON line
each to stdout.

Output: the fields of the input line (text, for a plain one), then label, probs, score, confidence and exit (layer,
reason), in input order. A line that cannot be answered gives {"error": ...} in its place, and exit status 1 at the end.
Blank lines are skipped: nothing stands in their place. Where no option names them, the model, the policy and how it
runs are those of the settings (EARLYBIRD_MODEL, ...).
"""

import argparse
import json
import queue
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, get_args

from earlybird.engine.config import Dtype, EngineConfig, RunnerName
from earlybird.engine.errors import ConfigError
from earlybird.engine.types import Verdict
from earlybird.stream.config.settings import add_config_option, load

# Lines read ahead of the oldest answer that is not yet written: enough to keep the slots full past a slow text.
WINDOW = 1024
PROGRESS_EVERY = 500
_JSON = ("{", "[", '"')  # how a line begins that may be JSON


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `earlybird classify`."""
    parser.add_argument(
        "file", nargs="?", default="-", metavar="FILE", help="a text a line, or JSON; - is stdin (default)"
    )
    add_config_option(parser)
    parser.add_argument("--model", metavar="FOLDER", help="a model folder (default: as set, else the bundled one)")
    parser.add_argument("--policy", help="when a text exits, e.g. cwb:delta=0.3,window=2, fixed:3, full")
    parser.add_argument("--runner", choices=get_args(RunnerName))
    parser.add_argument("--dtype", choices=get_args(Dtype))
    parser.add_argument("--slots", type=int, help="texts in the model at once")


def run(args: argparse.Namespace) -> int:
    """0: every line answered, 1: some were not. Raises EngineError when nothing can be."""
    settings = load(args.config)
    configured = {"model": settings.model, "policy": settings.policy} | {
        name: getattr(settings.engine, name) for name in ("runner", "dtype", "slots")
    }
    config = EngineConfig(
        **{name: value if (given := getattr(args, name)) is None else given for name, value in configured.items()}
    )
    try:
        source = _stdin() if args.file == "-" else Path(args.file).open("rb")  # noqa: SIM115
    except OSError as error:
        raise ConfigError(f"{args.file}: cannot be read, {error.strerror}") from None
    with source as lines:
        return Classification(config, lines).run()


@dataclass(slots=True)
class Line:
    """One input line on its way: what is passed on, and its answer once it is there."""

    place: int  # in the input, counted from 1
    others: dict[str, Any]
    answer: dict[str, Any] | None = None


class Classification:
    """The loop: take the lines that are there, step, write what is next in order. Holds at most WINDOW lines, so memory
    is bounded, and answers a line at once where lines come one by one."""

    def __init__(self, config: EngineConfig, lines: BinaryIO) -> None:
        import torch  # not above: `earlybird classify --help` needs no torch

        from earlybird.engine.engine import Engine

        torch.set_num_threads(1)  # as in the stage: the same bits
        self._engine = Engine.load(config)
        self._runner = self._engine.runner()
        self._incoming: queue.Queue[tuple[int, bytes] | OSError | None] = queue.Queue(maxsize=WINDOW)
        threading.Thread(target=_read, args=(lines, self._incoming), daemon=True).start()
        self._open: deque[Line] = deque()  # oldest first
        self._written = 0  # number of the first open line, counted from 0
        self._failed = 0
        self._ended = False

    def run(self) -> int:
        """The exit status."""
        while self._open or not self._ended:
            self._admit()
            for verdict in self._runner.step():
                self._open[verdict.ticket - self._written].answer = _told(verdict, self._engine.labels)
            self._write()
        _progress(self._written, last=True)
        return 1 if self._failed else 0

    def _admit(self) -> None:
        """Lines that are there become requests or errors."""
        from earlybird.engine.text.assembly import Text
        from earlybird.engine.types import Request

        tickets, texts = [], []
        for place, raw in self._arrived():
            number = self._written + len(self._open)
            line, text, fault = _parsed(place, raw)
            self._open.append(line)
            if text is None:
                self._fail(number, fault)
            else:
                tickets.append(number)
                texts.append(Text((text,)))
        requests = []
        for ticket, encoded in zip(tickets, self._engine.encoder.encode(texts), strict=True):
            if encoded is None:
                self._fail(ticket, "text: nothing in it to read")
            else:
                requests.append(Request(ticket, encoded.token_ids))
        self._runner.submit(requests)

    def _arrived(self) -> Iterator[tuple[int, bytes]]:
        """Lines that are there already; waits for one only when there is nothing else to do."""
        while not self._ended and len(self._open) < WINDOW:
            try:
                arrival = self._incoming.get(block=not self._open)
            except queue.Empty:
                return
            if isinstance(arrival, OSError):
                raise ConfigError(f"input: cannot be read, {arrival.strerror}")
            if arrival is None:
                self._ended = True
            elif arrival[1].strip():
                yield arrival

    def _fail(self, number: int, fault: str) -> None:
        line = self._open[number - self._written]
        line.answer = {"error": f"line {line.place}: {fault}"}
        self._failed += 1

    def _write(self) -> None:
        ready = []
        while self._open and (answer := self._open[0].answer) is not None:
            ready.append(json.dumps({**self._open.popleft().others, **answer}) + "\n")
            self._written += 1
            _progress(self._written)
        if ready:
            sys.stdout.write("".join(ready))
            sys.stdout.flush()


def _stdin() -> AbstractContextManager[BinaryIO]:
    """A reader of our own, never closed: at exit the interpreter would wait for, or die of, the lock that a thread
    blocked in sys.stdin holds."""
    return nullcontext(open(sys.stdin.fileno(), "rb", closefd=False))


def _read(lines: BinaryIO, incoming: "queue.Queue[tuple[int, bytes] | OSError | None]") -> None:
    """On its own thread: a pipe that is silent must not hold up what was read before."""
    try:
        for numbered in enumerate(lines, start=1):
            incoming.put(numbered)
    except OSError as error:
        incoming.put(error)
    else:
        incoming.put(None)


def _parsed(place: int, raw: bytes) -> tuple[Line, str | None, str]:
    """One line: what is passed on, the text, or instead of it the fault."""
    try:
        plain = raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return Line(place, {}), None, "not UTF-8"
    try:
        value = json.loads(plain, parse_constant=_refuse) if plain[:1] in _JSON else plain
    except (ValueError, RecursionError) as error:
        if plain.startswith("{"):
            return Line(place, {}), None, f"not JSON, {error}"
        value = plain  # "Norvex cuts", says ...; [Update] Norvex cuts
    if isinstance(value, str):
        return Line(place, {"text": value}), value, ""
    if not isinstance(value, dict):
        return Line(place, {}), None, f"a JSON object required, was {type(value).__name__}"
    text = value.get("text")
    if not isinstance(text, str):
        return Line(place, value), None, f"text: a string required, was {type(text).__name__}"
    return Line(place, value), text, ""


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _told(verdict: Verdict, labels: tuple[str, ...]) -> dict[str, Any]:
    probs = dict(zip(labels, verdict.probs, strict=True))
    return {
        "label": labels[verdict.label],
        "probs": {label: round(prob, 6) for label, prob in probs.items()},
        "score": round(probs["positive"] - probs["negative"], 6),
        "confidence": round(verdict.probs[verdict.label], 6),
        "exit": {"layer": verdict.exit_layer, "reason": str(verdict.exit_reason)},
    }


def _progress(count: int, *, last: bool = False) -> None:
    if sys.stderr.isatty() and (last or count % PROGRESS_EVERY == 0):
        print(f"\r{count:,} texts", end="\n" if last else "", file=sys.stderr, flush=True)
