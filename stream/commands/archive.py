"""Archive the raw topics, the signals and the dead letters as Parquet files.

  earlybird archive /data/earlybird
  earlybird archive /data/earlybird --once
  earlybird archive /data/earlybird --compact

One file covers one hour. Each record is archived exactly once, also over restarts: the command joins no group and
commits nothing, since the names of the files hold the next offsets. `earlybird replay --archive` and strategies read
the folder without Kafka; so do polars, DuckDB and pandas (TOPIC/date=YYYY-MM-DD/*.parquet).
"""

import argparse
import signal
import threading
from pathlib import Path

from earlybird.stream.commands.arguments import seconds
from earlybird.stream.config import settings as settings_module
from earlybird.stream.extras import version
from earlybird.stream.observability.logging import configure_logging
from earlybird.stream.observability.quantity import quantity


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: folder, duration, compaction."""
    settings_module.add_config_option(parser)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the archive; is made where it is not there")
    parser.add_argument(
        "--topic", action="append", metavar="NAME", help="archive this topic; repeatable (default: all but control)"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--once", action="store_true", help="up to the topics' present end, instead of until SIGTERM")
    how.add_argument("--compact", action="store_true", help="only merge small files; no Kafka")
    parser.add_argument(
        "--flush", type=seconds, default=300.0, metavar="SECONDS", help="longest time until a record is in a file (300)"
    )


def run(args: argparse.Namespace) -> int:
    """Archive; the exit status is 0 when all that was read is in files."""
    from earlybird.stream.archive.writer import Archiver, archive_all, archive_on, starts

    settings = settings_module.load(args.config)
    configure_logging(settings.log.level, settings.log.format)
    topics = args.topic or [
        *(topic.name for topic in settings.topics.raw),
        settings.topics.signals,
        settings.topics.dlq,
    ]
    if args.compact:
        with Archiver(args.folder, [settings.topics.signals], version()) as archiver:
            print(f"{archiver.compact()} files merged into others")
        return 0
    from earlybird.stream.adapters.topic_ids import ids_of
    from earlybird.stream.adapters.topic_range import TopicHistory, TopicReader
    from earlybird.stream.timeline.merge import Window

    endpoint, window = settings.kafka.endpoint, Window()
    ids = ids_of(endpoint, topics)
    with Archiver(args.folder, [settings.topics.signals], version(), topic_ids=ids) as archiver:
        history = TopicHistory(endpoint)
        spans = starts(archiver.next_offsets(), history.spans(topics, window))
        if args.once:
            archive_all(archiver, history.read(spans, window))
        else:
            stop = threading.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stop.set())
            reader = TopicReader(endpoint, {p: span.start for p, span in spans.items()}, stop.is_set)
            try:
                archive_on(archiver, reader, args.flush, stop.is_set)
            finally:
                reader.close()
        print(f"{quantity(archiver.archived, 'record')} archived in {args.folder}")
    return 0
