"""Publish files of texts to the raw topics.

Files are JSON lines, CSV, Parquet or XML, also .gz and .zst; - is stdin. A line is a raw item in earlybird's format, a
vendor's record (--preset alpaca), or any JSON that --map converts:

  earlybird feed --preset flat --assume-delay 60 news.jsonl.zst
  earlybird feed --map headline=title --map published_us=ts:ms --map "source='wire'" --assume-delay 2 wire.csv
  vendor-client | earlybird feed --preset finnhub --ingested now -

--map TARGET=EXPRESSION[:FORM] takes a field of the line by a JMESPath expression (`stocks[*].name`, `long || text`,
`'constant'`). FORM of a time: s, ms, us, ns, iso, iso-utc, rfc2822 or a strptime pattern; of another field: a table
VALUE=NEW,... A time without a zone, or with an ambiguous one (ET, BST, ...), is refused. --when EXPRESSION skips the
lines for which it is false; --each EXPRESSION gives the items of a line, in which `line()` is the whole line.

Records are sent in the order in which the texts became available (ingested_us), over all files. Lines that cannot be
published are reported on stderr, and the exit status is 1. After an interruption (Ctrl-C, SIGTERM) or a failure the
command reports how much the broker has acknowledged, and the line at which to go on in each unfinished file. A second
signal ends it at once.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from earlybird.stream.commands.arguments import positive_float, positive_int, seconds, speed
from earlybird.stream.config import settings as settings_module
from earlybird.stream.errors import FeedError, StreamError
from earlybird.stream.feeds import registry
from earlybird.stream.observability.escape import escaped
from earlybird.stream.observability.logging import configure_logging
from earlybird.stream.publishing.field_map import FLAT, FieldMap
from earlybird.stream.publishing.files import FeedFile, merged
from earlybird.stream.publishing.interruption import Interruption
from earlybird.stream.publishing.line_format import TOPICS, BadLine, FeedItem, Line, LineFormat, SkippedLine
from earlybird.stream.publishing.publish import BACK_DATED_US, Pace, publish
from earlybird.stream.publishing.queries import Queries, Selection
from earlybird.stream.publishing.tally import Tally

log = structlog.get_logger(__name__)

_MOST_COMPLAINTS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: files, topics, pace, field map."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JSON, .csv, .parquet, .xml, or -")
    settings_module.add_config_option(parser)
    parser.add_argument("--topic", help="one topic for all (default: news.raw and tweets.raw, by item type)")
    parser.add_argument("--limit", type=positive_int, metavar="N", help="stop after N texts")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--speed", type=speed, metavar="X", help="X times as fast as recorded, or max (default)")
    pace.add_argument("--rate", type=positive_float, metavar="N", help="N texts a second, whatever was recorded")
    parser.add_argument(
        "--timestamps", choices=["recorded", "now"], default="recorded",
        help="date Kafka records at ingested_us (default), or at the instant of sending",
    )  # fmt: skip
    parser.add_argument(
        "--preset", choices=["flat", *registry.names()],
        help="flat: lines with kind, text, lang, published_at, symbols, source, id; others: a vendor's records",
    )  # fmt: skip
    parser.add_argument(
        "--map", action="append", default=[], metavar="TARGET=EXPRESSION", help="repeatable; wins over --preset"
    )
    parser.add_argument("--when", metavar="EXPRESSION", help="lines to publish; the others are skipped")
    parser.add_argument("--each", metavar="EXPRESSION", help="items of a line that holds several")
    ingest = parser.add_mutually_exclusive_group()
    ingest.add_argument(
        "--assume-delay", type=seconds, metavar="SECONDS", help="ingest time of lines without one: published + SECONDS"
    )
    ingest.add_argument(
        "--ingested", choices=["now"], help="ingest time of lines without one: when they are read, from stdin or a pipe"
    )


def run(args: argparse.Namespace) -> int:
    """Publish the files and report how far the publishing came, however it ends.

    Exit status 0: every line is published and acknowledged; 1: some lines were bad; 130, 143: SIGINT, SIGTERM.
    """
    from earlybird.stream.adapters.kafka_sink import KafkaSink
    from earlybird.stream.adapters.topics import known_topics

    settings = settings_module.load(args.config)
    configure_logging(settings.log.level, settings.log.format)
    check_formats(settings, args.topic)
    form = line_format(args)
    files = [FeedFile(path) for path in args.files]
    known_topics(settings.kafka.endpoint)  # reads nothing before a broker answers
    check = _Retention(settings) if args.timestamps == "recorded" else None
    sink = KafkaSink(settings.kafka.endpoint)
    tally, progress = Tally(), _Progress(files)

    def on_line(line: Line) -> None:
        if check is not None and isinstance(line, FeedItem):
            check(line)
        progress(line)

    with Interruption() as interruption:
        try:
            with progress:
                publish(
                    interruption.until(merged(files, form)), sink, pace=Pace(args.speed, args.rate),
                    timestamps=args.timestamps, limit=args.limit, on_line=on_line, stop=interruption.came, tally=tally,
                )  # fmt: skip
        except StreamError:
            if tally.texts:
                print(account(tally, files))
            raise
        finally:
            sink.close()
            for file in files:
                file.close()
        print(account(tally, files) if interruption.came() else tally)
    return interruption.status or (1 if tally.bad_lines else 0)


def line_format(args: argparse.Namespace) -> LineFormat:
    """Return the interpretation of lines that the options ask for. Raises FeedError."""
    if args.ingested and any(str(path) != "-" and not path.is_fifo() for path in args.files):
        raise FeedError("--ingested now: only what comes through a pipe (-) arrives now; a file was there before")
    queries = Queries()
    specs = [*(FLAT if args.preset == "flat" else ()), *args.map]
    try:
        parser = None if args.preset in (None, "flat") else registry.feed_parser(args.preset)
    except ValueError as error:  # a house's own that cannot be loaded
        raise FeedError(f"--preset: {error}") from None
    selects = args.when is not None or args.each is not None or (specs and parser is None)
    return LineFormat(
        fields=FieldMap(specs, queries) if specs else None,
        assume_delay_us=None if args.assume_delay is None else round(args.assume_delay * 1e6),
        topic=args.topic,
        ingested_now=args.ingested == "now",
        selection=Selection(queries, args.when, args.each) if selects else None,
        parser=parser,
    )


def check_formats(settings: settings_module.Settings, topic: str | None) -> None:
    """Raise FeedError for a topic that these settings read as a vendor's."""
    named = {TOPICS["news"], TOPICS["tweet"]} if topic is None else {topic}
    for raw in settings.topics.raw:
        if raw.name in named and raw.format not in registry.OURS:
            raise FeedError(f"{raw.name}: read in the format {raw.format} (topics.raw); name another one with --topic")


def account(tally: Tally, files: Sequence[FeedFile]) -> str:
    """Return the progress in one line, with the lines at which to go on."""
    places = ", ".join(tally.resume(file.name for file in files if not file.finished))
    return f"{tally}" + (f"; go on at {places}" if places else "")


class _Retention:
    """Refusal of back-dated records for topics that would delete them by age."""

    def __init__(self, settings: settings_module.Settings, now_us: Callable[[], int] | None = None) -> None:
        self._endpoint = settings.kafka.endpoint
        self._raw = {topic.name for topic in settings.topics.raw}
        self._oldest_us = (now_us or (lambda: time.time_ns() // 1000))() - BACK_DATED_US
        self._checked: set[str] = set()

    def __call__(self, item: FeedItem) -> None:
        if item.at_us >= self._oldest_us or item.topic in self._checked:
            return
        from earlybird.stream.adapters.retention import deletes_by_record_time

        self._checked.add(item.topic)
        deletes = deletes_by_record_time(self._endpoint, [item.topic])[item.topic]
        if deletes:
            cure = (
                "earlybird topics create --keep-raw" if item.topic in self._raw else "set retention.ms=-1 on the topic"
            )
            raise FeedError(
                f"{item.place}: back-dated, and {item.topic} deletes records by age: {cure}, or use --timestamps now"
            )
        if deletes is None:
            log.info("retention.unknown", topic=item.topic, hint="the broker does not describe its topics")


class _Progress:
    """Progress bar over the files' bytes on a terminal, and reports of bad lines."""

    def __init__(self, files: Sequence[FeedFile]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True, highlight=False)
        self._files, self._console, self._texts, self._complaints = files, console, 0, 0
        self._bar = Progress(
            TextColumn("[bold]{task.fields[clock]}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[texts]:,} texts"), TimeRemainingColumn(),
            console=console, transient=True, disable=not sys.stderr.isatty(),
        )  # fmt: skip
        self._task = self._bar.add_task("feed", total=sum(file.size for file in files) or None, texts=0, clock="")

    def __enter__(self) -> "_Progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._complaints > _MOST_COMPLAINTS:
            self._console.print(f"... and {self._complaints - _MOST_COMPLAINTS:,} more bad lines", markup=False)

    def __call__(self, line: Line) -> None:
        if isinstance(line, SkippedLine):
            return
        if isinstance(line, BadLine):
            self._complaints += 1
            if self._complaints <= _MOST_COMPLAINTS:
                self._console.print(escaped(f"{line.place}: {line.why}"), markup=False, soft_wrap=True)
            return
        self._texts += 1
        if not self._bar.disable and self._texts % 64 == 1:
            clock = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(line.at_us / 1e6))
            self._bar.update(
                self._task, completed=sum(file.position for file in self._files), texts=self._texts, clock=clock
            )
