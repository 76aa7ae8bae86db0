"""Publish JSONL files (.gz, .zst, or - for stdin) to the raw topics.

A line is a raw item of ours, or anything that --map or --preset can turn into one:

  earlybird feed --preset flat --assume-delay 60 news.jsonl.zst
  earlybird feed --map headline=title --map published_us=ts:ms --map "source='wire'" --assume-delay 2 wire.jsonl

TARGET=PATH[:TIME] takes a field of the line, dotted (`entities.cashtags.*.tag`); TIME is s, ms, us, ns, iso, iso-utc,
rfc2822 or a strptime pattern. TARGET='text' is a constant. The order is that in which texts became available
(ingested_us), over all files. Lines that cannot be published are named on stderr; then the exit status is 1. What was
interrupted (Ctrl-C) or failed says how much the broker has acknowledged, and at which line to go on.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from stream import settings as settings_module
from stream.errors import FeedError, StreamError
from stream.feed import BACK_DATED_US, BadLine, FeedFile, FeedItem, LineFormat, Pace, Tally, merged, publish
from stream.field_map import FLAT, FieldMap
from stream.logs import configure_logging

log = structlog.get_logger(__name__)

Line = FeedItem | BadLine
_MOST_COMPLAINTS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to publish, where to, how fast, and how to read foreign lines."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JSONL, .jsonl.gz, .jsonl.zst, or -")
    settings_module.add_config_option(parser)
    parser.add_argument("--topic", help="one topic for all (default: news.raw and tweets.raw, by item type)")
    parser.add_argument("--limit", type=_positive_int, metavar="N", help="stop after N texts")
    speed = parser.add_mutually_exclusive_group()
    speed.add_argument("--speed", type=_speed, metavar="X", help="X times as fast as recorded, or max (default)")
    speed.add_argument("--rate", type=_positive_float, metavar="N", help="N texts a second, whatever was recorded")
    parser.add_argument(
        "--timestamps", choices=["recorded", "now"], default="recorded",
        help="date Kafka records at ingested_us (default), or at the instant of sending",
    )  # fmt: skip
    parser.add_argument("--preset", choices=["flat"], help="lines with kind, text, published_at, symbols, source, id")
    parser.add_argument(
        "--map", action="append", default=[], metavar="TARGET=PATH", help="repeatable; wins over --preset"
    )
    parser.add_argument(
        "--assume-delay", type=float, metavar="SECONDS", help="ingest time of lines without one: published + SECONDS"
    )


def run(args: argparse.Namespace) -> int:
    """0: every line is published and acknowledged; 1: some lines were bad. However it ends, it says how far it came."""
    from stream.adapters.kafka_sink import KafkaSink

    settings = settings_module.load(args.config)
    configure_logging(settings.log.level, settings.log.format)
    specs = [*(FLAT if args.preset else ()), *args.map]
    delay_us = None if args.assume_delay is None else round(args.assume_delay * 1e6)
    form = LineFormat(FieldMap(specs) if specs else None, delay_us, args.topic)
    files = [FeedFile(path) for path in args.files]
    check = _Retention(settings) if args.timestamps == "recorded" else None
    sink = KafkaSink(settings.kafka.bootstrap_servers, options=settings.kafka.options)
    tally, progress = Tally(), _Progress(files)

    def on_line(line: Line) -> None:
        if check is not None and isinstance(line, FeedItem):
            check(line)
        progress(line)

    try:
        with progress:
            publish(
                merged(files, form), sink, pace=Pace(args.speed, args.rate), timestamps=args.timestamps,
                limit=args.limit, on_line=on_line, tally=tally,
            )  # fmt: skip
    except (KeyboardInterrupt, StreamError):
        if tally.texts:
            print(f"{summary(tally)}; {tally.acknowledged:,} acknowledged, go on at {', '.join(tally.resume())}")
        raise
    finally:
        sink.close()
        for file in files:
            file.close()
    print(summary(tally))
    return 1 if tally.bad_lines else 0


def summary(tally: Tally) -> str:
    """What was published, in one line."""
    per_topic = ", ".join(f"{topic} {count:,}" for topic, count in sorted(tally.topics.items())) or "nothing"
    rate = tally.texts / tally.seconds if tally.seconds > 0 else 0.0
    bad = f"; {tally.bad_lines:,} bad lines left out" if tally.bad_lines else ""
    return f"published {tally.texts:,} texts ({per_topic}) in {tally.seconds:.1f} s, {rate:,.0f} texts/s{bad}"


class _Retention:
    """Refuses to send back-dated records to a topic that would delete them for their age."""

    def __init__(self, settings: settings_module.Settings, now_us: Callable[[], int] | None = None) -> None:
        self._kafka = settings.kafka
        self._oldest_us = (now_us or (lambda: time.time_ns() // 1000))() - BACK_DATED_US
        self._checked: set[str] = set()

    def __call__(self, item: FeedItem) -> None:
        if item.at_us >= self._oldest_us or item.topic in self._checked:
            return
        from stream.adapters.retention import deletes_by_record_time

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
    """A bar over the files' bytes while stderr is a terminal, and complaints about bad lines in any case."""

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
                self._console.print(f"{line.place}: {line.why}", markup=False, soft_wrap=True)
            return
        self._texts += 1
        if not self._bar.disable and self._texts % 64 == 1:
            clock = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(line.at_us / 1e6))
            self._bar.update(
                self._task, completed=sum(file.position for file in self._files), texts=self._texts, clock=clock
            )


def _positive_int(text: str) -> int:
    with suppress(ValueError):
        if (number := int(text)) > 0:
            return number
    raise argparse.ArgumentTypeError(f"a whole number above 0 expected, was {text!r}")


def _positive_float(text: str, also: str = "") -> float:
    with suppress(ValueError):
        if 0 < (number := float(text)) < float("inf"):
            return number
    raise argparse.ArgumentTypeError(f"a number above 0{also} expected, was {text!r}")


def _speed(text: str) -> float | None:
    return None if text == "max" else _positive_float(text, " or max")
