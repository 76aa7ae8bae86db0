"""Show signals and dead letters as they appear, one line each.

  earlybird signals
  earlybird signals --raw --symbol NRVX
  earlybird signals --from -1h --limit 10

--from is `beginning`, `end`, or a bound as in `earlybird replay`: an instant by the broker's time, or offsets. The
command joins no group and commits nothing. Older outcomes come partition by partition, not by time. Signals hold no
headline unless the stage's setting `headlines` is on: --raw also reads the raw topics and joins each text to its signal
(add --from beginning for texts that are already there).
"""

import argparse
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Literal

from rich.console import Console

from earlybird.schemas.codec import DecodeError, decode
from earlybird.schemas.framing import unframed
from earlybird.schemas.rejection import Rejection
from earlybird.schemas.signal import Signal
from earlybird.stream.adapters.framed_values import framed_topics
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.commands.arguments import add_from, seconds, symbol
from earlybird.stream.config.client_options import KafkaOptions
from earlybird.stream.config.settings import Settings, add_config_option, load
from earlybird.stream.feeds.reader import Reader
from earlybird.stream.feeds.registry import topic_parsers
from earlybird.stream.monitor.tape import Row, heading, headline, line
from earlybird.stream.observability.escape import escaped, json_line, plain
from earlybird.stream.observability.logging import configure_logging
from earlybird.stream.parsing.records import Element, Limits, Readable, Refusal, Skip, text_of
from earlybird.stream.ports import Position, Record
from earlybird.stream.timeline.merge import Window, parse_window

_HEADLINES_KEPT = 100_000
_JOIN_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: what to show, from where, in which form."""
    add_config_option(parser)
    add_from(parser, "beginning, end (default), -1h, 2024-05-01T13:00Z, offset=N or TOPIC/PARTITION=N")
    parser.add_argument("--raw", action="store_true", help="read the raw topics too, for the headlines")
    parser.add_argument("--json", action="store_true", help="print the records' values as they are, one a line")
    about = "only signals about SYM, in any spelling; repeatable"
    parser.add_argument("--symbol", action="append", type=symbol, metavar="SYM", help=about)
    parser.add_argument("--limit", type=int, metavar="N", help="stop after N lines")
    parser.add_argument("--idle", type=seconds, metavar="SECONDS", help="stop when nothing came for so long")


def run(args: argparse.Namespace) -> int:
    """Show until --limit, --idle or Ctrl-C; the exit status is 0."""
    settings = load(args.config)
    configure_logging("warning", settings.log.format)
    names = [settings.topics.signals, settings.topics.dlq]
    raw = [topic.name for topic in settings.topics.raw] if args.raw else []
    kafka = settings.kafka
    tail = Tail(kafka.endpoint, [*names, *raw], start=_start(args.start))
    console = Console(highlight=False)
    width = console.width if console.is_terminal else 200
    if console.is_terminal and not args.json:
        console.print(heading(width))
    try:
        for value, row in _shown(tail, settings, args):
            if args.json:
                sys.stdout.write(json_line(unframed(value).decode("utf-8", "replace")) + "\n")
                sys.stdout.flush()
            else:
                console.print(line(row, width), soft_wrap=True)
    finally:
        tail.close()
    return 0


def _start(bounds: list[str]) -> Literal["beginning", "end"] | Window:
    """Return where to begin. Raises SettingsError, InvalidTime."""
    match bounds:
        case [] | ["end"]:
            return "end"
        case ["beginning"]:
            return "beginning"
    return parse_window(bounds, (), time.time_ns() // 1000)


def _shown(tail: Tail, settings: Settings, args: argparse.Namespace) -> Iterator[tuple[bytes, Row]]:
    """Yield rows with the bytes of their outcomes, until a limit is reached."""
    formats = {topic.name: topic.format for topic in settings.topics.raw}
    joined = _Join(formats, settings.topics.dlq, settings.kafka.options, wait=args.raw)
    shown, heard_s = 0, time.monotonic()
    while args.idle is None or time.monotonic() - heard_s < args.idle:
        records = tail.poll(200)
        heard_s = time.monotonic() if records else heard_s
        for value, outcome, title in joined.take(records, time.monotonic()):
            if args.symbol and not _about(outcome, args.symbol):
                continue
            yield value, _row(outcome, title)
            shown += 1
            if shown == args.limit:
                return


class _Join:
    """Join of outcomes with the headlines of their raw records.

    Topics are read side by side, so an outcome may arrive before its record: with `wait` it is held back for a moment.
    """

    def __init__(self, formats: Mapping[str, str], dlq: str, options: KafkaOptions, *, wait: bool) -> None:
        self._formats, self._dlq = formats, dlq
        framed, frames = framed_topics(formats, options, patient=True)
        self._read = Reader(Limits(languages=()), topic_parsers(formats), framed=framed, frames=frames)
        self._patience_s = _JOIN_S if wait else 0.0
        self._known: OrderedDict[Position, str] = OrderedDict()
        self._held: list[tuple[float, bytes, Signal | Rejection]] = []  # (arrival time, bytes, outcome)

    def take(self, records: list[Record], now_s: float) -> Iterator[tuple[bytes, Signal | Rejection, str]]:
        """Yield the outcomes that can be shown now, in order of arrival."""
        for record in records:
            if record.topic in self._formats:
                self._known.update(_titles(self._read(record), record))
            elif record.value is not None and (outcome := _outcome(record, self._dlq)) is not None:
                self._held.append((now_s, record.value, outcome))
        while len(self._known) > _HEADLINES_KEPT:
            self._known.popitem(last=False)
        held, self._held = self._held, []
        for came_s, value, outcome in held:
            position = Position(outcome.raw.topic, outcome.raw.partition, outcome.raw.offset, outcome.raw.index)
            if position in self._known or now_s - came_s >= self._patience_s:
                yield value, outcome, self._known.get(position, "")
            else:
                self._held.append((came_s, value, outcome))


def _titles(elements: list[Element | Skip], record: Record) -> Iterator[tuple[Position, str]]:
    """Yield the title of each element, at its position."""
    for element in elements:
        if isinstance(element, Readable):
            yield element.position, plain(next(filter(None, text_of(element.item).parts), ""))
        elif isinstance(element, Refusal):
            yield element.position, headline(element.part or record.value)


def _outcome(record: Record, dlq: str) -> Signal | Rejection | None:
    try:
        value = record.value or b""
        return decode(Rejection, value) if record.topic == dlq else decode(Signal, value)
    except DecodeError as error:
        print(escaped(f"{record.topic}/{record.partition}@{record.offset}: {error}"), file=sys.stderr)
        return None


def _about(outcome: Signal | Rejection, symbols: list[str]) -> bool:
    return isinstance(outcome, Signal) and any(named.symbol in symbols for named in outcome.symbols)


def _row(outcome: Signal | Rejection, headline: str) -> Row:
    if isinstance(outcome, Rejection):
        return Row.of_rejection(outcome, at_us=outcome.rejected_us, age_us=0, headline=headline or outcome.detail)
    times = outcome.ts
    return Row.of_signal(
        outcome,
        at_us=times.emitted_us,
        age_us=max(0, times.emitted_us - times.ingested_us),
        headline=headline or outcome.headline or outcome.item_key,
    )
