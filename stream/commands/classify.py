"""Classify texts, a file or stdin, without Kafka.

  earlybird classify "Norvex cuts full-year outlook"
  earlybird classify headlines.txt
  tail -f wire.jsonl | earlybird classify

An argument with a space in it is a text; one that exists, or has the form of a file name, is a file. A file and stdin
hold one text per line, or JSON lines with `text`.

On a terminal each text is answered by one readable line: label, confidence, exit layer, text. Into a pipe or a file, or
with --json, the answer is one JSON line with the fields of the input (`text` for a plain line), then label, probs,
score, confidence and exit (layer, reason). Answers are in input order. A line that cannot be classified gives
{"error": ...} in its place, and exit status 1 at the end. Blank lines are skipped and give no output line.

Options that are not given come from the settings (EARLYBIRD_MODEL, ...): model, policy and how the engine runs.
"""

import argparse
import json
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, get_args

from earlybird.engine.config import Dtype, EngineConfig, RunnerName
from earlybird.engine.errors import ConfigError
from earlybird.engine.types import Verdict
from earlybird.stream.commands.text_input import opened
from earlybird.stream.config.settings import add_config_option, load

# Lines read ahead of the oldest unwritten answer: enough to keep the slots full behind a slow text.
WINDOW = 1024
PROGRESS_EVERY = 500
_JSON = ("{", "[", '"')  # first characters of a line that may be JSON


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `earlybird classify`."""
    parser.add_argument(
        "input", nargs="*", metavar="TEXT|FILE", help="texts in quotes, or a file; - is stdin (default)"
    )
    add_config_option(parser)
    parser.add_argument("--model", metavar="FOLDER", help="a model folder (default: as set, else the bundled one)")
    parser.add_argument("--policy", help="when a text exits, e.g. cwb:delta=0.3,window=2, fixed:3, full")
    parser.add_argument("--runner", choices=get_args(RunnerName))
    parser.add_argument("--dtype", choices=get_args(Dtype))
    parser.add_argument("--slots", type=int, help="texts in the model at once")
    parser.add_argument("--json", action="store_true", help="JSON lines, on a terminal too")


def run(args: argparse.Namespace) -> int:
    """Classify all lines.

    Exit status 0: every line was classified, 1: some were not. Raises EngineError when none can be.
    """
    settings = load(args.config)
    configured = {"model": settings.model, "policy": settings.policy} | {
        name: getattr(settings.engine, name) for name in ("runner", "dtype", "slots")
    }
    config = EngineConfig(
        **{name: value if (given := getattr(args, name)) is None else given for name, value in configured.items()}
    )
    with opened(args.input or ["-"]) as lines:
        return Classification(config, lines, readable=sys.stdout.isatty() and not args.json).run()


@dataclass(slots=True)
class Line:
    """One input line in flight: the fields to pass on, and its answer once known."""

    place: int  # line number in the input, from 1
    others: dict[str, Any]
    answer: dict[str, Any] | None = None


class Classification:
    """Loop that admits available lines, steps the engine and writes answers in order.

    It holds at most WINDOW lines, so memory is bounded. Where lines arrive one by one, each is answered at once.
    """

    def __init__(self, config: EngineConfig, lines: BinaryIO, *, readable: bool) -> None:
        import torch  # imported here: `earlybird classify --help` needs no torch

        from earlybird.engine.engine import Engine

        torch.set_num_threads(1)  # as in the stage, for bit-identical results
        self._engine = Engine.load(config)
        self._runner = self._engine.runner()
        self._show = _readable(self._engine.max_layers) if readable else _write_json
        self._counted = sys.stderr.isatty() and not readable  # readable lines show the progress themselves
        self._incoming: queue.Queue[tuple[int, bytes] | OSError | None] = queue.Queue(maxsize=WINDOW)
        threading.Thread(target=_read, args=(lines, self._incoming), daemon=True).start()
        self._open: deque[Line] = deque()  # oldest first
        self._written = 0  # number of the first open line, from 0
        self._failed = 0
        self._ended = False

    def run(self) -> int:
        """Classify all lines and return the exit status."""
        while self._open or not self._ended:
            self._admit()
            for verdict in self._runner.step():
                self._open[verdict.ticket - self._written].answer = _told(verdict, self._engine.labels)
            self._write()
        if self._counted:
            _progress(self._written, end="\n")
        return 1 if self._failed else 0

    def _admit(self) -> None:
        """Turn available lines into requests or errors."""
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
        """Yield available lines; wait for one only when no line is open."""
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
            ready.append({**self._open.popleft().others, **answer})
            self._written += 1
            if self._counted and self._written % PROGRESS_EVERY == 0:
                _progress(self._written)
        if ready:
            self._show(ready)


def _read(lines: BinaryIO, incoming: "queue.Queue[tuple[int, bytes] | OSError | None]") -> None:
    """Read lines into the queue, on a thread of its own.

    A silent pipe must not hold up lines that were read before.
    """
    try:
        for numbered in enumerate(lines, start=1):
            incoming.put(numbered)
    except OSError as error:
        incoming.put(error)
    else:
        incoming.put(None)


def _parsed(place: int, raw: bytes) -> tuple[Line, str | None, str]:
    """Return the line's fields and text, or its fault instead of the text."""
    try:
        plain = raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return Line(place, {}), None, "not UTF-8"
    try:
        value = json.loads(plain, parse_constant=_refuse) if plain[:1] in _JSON else plain
    except (ValueError, RecursionError) as error:
        if plain.startswith("{"):
            return Line(place, {}), None, f"not JSON, {error}"
        value = plain  # a plain text: "Norvex cuts", says ...; [Update] Norvex cuts
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


def _write_json(answers: Sequence[dict[str, Any]]) -> None:
    sys.stdout.write("".join(json.dumps(answer) + "\n" for answer in answers))
    sys.stdout.flush()


def _readable(layers: int) -> Callable[[Sequence[dict[str, Any]]], None]:
    from rich.console import Console

    from earlybird.stream.monitor.answer import answer_line

    console = Console(highlight=False)

    def show(answers: Sequence[dict[str, Any]]) -> None:
        for answer in answers:
            console.print(answer_line(answer, layers, console.width), soft_wrap=True)

    return show


def _progress(count: int, end: str = "") -> None:
    print(f"\r{count:,} texts", end=end, file=sys.stderr, flush=True)
