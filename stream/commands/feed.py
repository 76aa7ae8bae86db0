"""Publish JSONL files (.gz, .zst, or - for stdin) to the raw topics.

A line is a raw item in earlybird's format, or any JSON that --map or --preset converts to one:

  earlybird feed --preset flat --assume-delay 60 news.jsonl.zst
  earlybird feed --map headline=title --map published_us=ts:ms --map "source='wire'" --assume-delay 2 wire.jsonl

TARGET=PATH[:TIME] takes a field of the line, by a dotted path (`entities.cashtags.*.tag`); TIME is s, ms, us, ns, iso,
iso-utc, rfc2822 or a strptime pattern. A time without a zone, or with an ambiguous one (ET, BST, ...), is refused.
TARGET='text' is a constant.

Records are sent in the order in which the texts became available (ingested_us), over all files. Lines that cannot be
published are reported on stderr, and the exit status is 1. After an interruption (Ctrl-C, SIGTERM) or a failure the
command reports how much the broker has acknowledged, and the line at which to go on in each unfinished file. A second
signal ends it at once.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import structlog

from earlybird.stream.commands.arguments import positive_float, positive_int, seconds, speed
from earlybird.stream.config import settings as settings_module
from earlybird.stream.errors import FeedError, StreamError
from earlybird.stream.observability.escape import escaped
from earlybird.stream.observability.logging import configure_logging
from earlybird.stream.publishing.field_map import FLAT, FieldMap
from earlybird.stream.publishing.files import (
    BACK_DATED_US,
    BadLine,
    FeedFile,
    FeedItem,
    LineFormat,
    Pace,
    merged,
    publish,
)
from earlybird.stream.publishing.tally import Tally

log = structlog.get_logger(__name__)

Line = FeedItem | BadLine
_MOST_COMPLAINTS = 20
_SHOW_CURSOR = b"\x1b[?25h"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: files, topics, pace, field map."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JSONL, .jsonl.gz, .jsonl.zst, or -")
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
    parser.add_argument("--preset", choices=["flat"], help="lines with kind, text, published_at, symbols, source, id")
    parser.add_argument(
        "--map", action="append", default=[], metavar="TARGET=PATH", help="repeatable; wins over --preset"
    )
    ingest = parser.add_mutually_exclusive_group()
    ingest.add_argument(
        "--assume-delay", type=seconds, metavar="SECONDS", help="ingest time of lines without one: published + SECONDS"
    )
    ingest.add_argument(
        "--arriving", action="store_true", help="from stdin: lines without an ingest time are ingested as they are read"
    )


def run(args: argparse.Namespace) -> int:
    """Publish the files and report how far the publishing came, however it ends.

    Exit status 0: every line is published and acknowledged; 1: some lines were bad; 130, 143: SIGINT, SIGTERM.
    """
    from earlybird.stream.adapters.kafka_sink import KafkaSink
    from earlybird.stream.adapters.topics import known_topics

    settings = settings_module.load(args.config)
    configure_logging(settings.log.level, settings.log.format)
    specs = [*(FLAT if args.preset else ()), *args.map]
    delay_us = None if args.assume_delay is None else round(args.assume_delay * 1e6)
    if args.arriving and any(str(path) != "-" for path in args.files):
        raise FeedError("--arriving: only what comes through stdin (-) arrives now; a file was there before")
    form = LineFormat(FieldMap(specs) if specs else None, delay_us, args.topic, args.arriving)
    files = [FeedFile(path) for path in args.files]
    known_topics(settings.kafka.bootstrap_servers, settings.kafka.options)  # reads nothing before a broker answers
    check = _Retention(settings) if args.timestamps == "recorded" else None
    sink = KafkaSink(settings.kafka.bootstrap_servers, options=settings.kafka.options)
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


def account(tally: Tally, files: Sequence[FeedFile]) -> str:
    """Return the progress in one line, with the lines at which to go on."""
    places = ", ".join(tally.resume(file.name for file in files if not file.finished))
    return f"{tally}" + (f"; go on at {places}" if places else "")


class Interruption:
    """Context in which the first SIGINT or SIGTERM asks for an orderly end.

    The second one ends the process. An exception breaks off only a wait for lines: one that is raised while the client
    reports a delivery is swallowed by its C code.
    """

    def __init__(self) -> None:
        self._number = 0
        self._reading = False

    def __enter__(self) -> "Interruption":
        self._before = {number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def status(self) -> int:
        """Exit status for the received signal; 0 without one."""
        return 128 + self._number if self._number else 0

    def came(self) -> bool:
        """Return whether a signal was received."""
        return self._number != 0

    def until(self, lines: Iterable[Line]) -> Iterator[Line]:
        """Yield lines until a signal is received."""
        source = iter(lines)
        try:
            while True:
                self._reading = True  # set before the check, so that a signal in between raises
                line = None if self._number else next(source, None)
                self._reading = False
                if line is None:
                    return
                yield line
        except KeyboardInterrupt:
            return
        finally:
            self._reading = False

    def _take(self, number: int, _frame: object) -> None:
        if self._number:
            if sys.stderr.isatty():
                os.write(sys.stderr.fileno(), _SHOW_CURSOR)  # the progress bar hides the cursor
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._number = number
        if self._reading:
            raise KeyboardInterrupt


class _Retention:
    """Refusal of back-dated records for topics that would delete them by age."""

    def __init__(self, settings: settings_module.Settings, now_us: Callable[[], int] | None = None) -> None:
        self._kafka = settings.kafka
        self._oldest_us = (now_us or (lambda: time.time_ns() // 1000))() - BACK_DATED_US
        self._checked: set[str] = set()

    def __call__(self, item: FeedItem) -> None:
        if item.at_us >= self._oldest_us or item.topic in self._checked:
            return
        from earlybird.stream.adapters.retention import deletes_by_record_time

        self._checked.add(item.topic)
        deletes = deletes_by_record_time(self._kafka.bootstrap_servers, [item.topic], self._kafka.options)[item.topic]
        if deletes:
            raise FeedError(
                f"{item.place}: back-dated, and {item.topic} deletes records by age: set retention.ms=-1 on the topic, "
                "or use --timestamps now"
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
