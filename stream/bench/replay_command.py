"""Measure how fast history is recomputed, beside the live stage and a plain pipeline.

The same items go through a recomputation from files, through the live stage from Kafka to Kafka (with a Redis of its
own), and through a transformers pipeline in a consumer loop.

The rows take turns, round after round, each in a process of its own that loads its model beforehand and may use every
core. A recomputation is timed from the first record read to the manifest written. The others are timed from the first
completed items to the last; their start and the items completed until then are left out. `--archive` takes the raw
items of an archive in order of availability, restricted to those that a plain loop can read (one item per record).
Without it the items are invented.
"""

import argparse
import json
import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from earlybird.stream.adapters.embedded import EmbeddedRedis
from earlybird.stream.archive.reader import read_raw
from earlybird.stream.archive.writer import Archiver
from earlybird.stream.bench.load import publish, records
from earlybird.stream.bench.report import Whole
from earlybird.stream.bench.stage_command import open_target
from earlybird.stream.bench.tables import bench_console, figures, machine
from earlybird.stream.bench.workers import BenchTarget, Child, Workers
from earlybird.stream.config import settings as settings_module
from earlybird.stream.config.settings import child_environment
from earlybird.stream.errors import SourceError
from earlybird.stream.extras import install_hint
from earlybird.stream.observability.logging import configure_logging
from earlybird.stream.ports import Record
from earlybird.stream.timeline.availability import StampedRecord

TOPIC = "bench"
TEXTS, PEER_TEXTS = 5_000, 320
PATIENCE_S = 1_800.0
BATCHES = (1, 32)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: which items, which broker, how many rounds."""
    settings_module.add_config_option(parser)
    parser.add_argument("--archive", type=Path, metavar="FOLDER", help="raw items of `earlybird archive`")
    parser.add_argument("--topic", action="append", metavar="NAME", help="with --archive: of these raw topics only")
    parser.add_argument("--texts", type=int, default=TEXTS, help=f"how many items at most (default {TEXTS})")
    parser.add_argument(
        "--peer-texts", type=int, default=PEER_TEXTS, help=f"of these, how many for the pipeline ({PEER_TEXTS})"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each row is run (default 3)")
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="a real broker (default: the embedded one)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout; the table goes to stderr")


def run(args: argparse.Namespace) -> int:
    """Measure all rows; the exit status is 0."""
    configure_logging("error", "console")
    console = bench_console(stderr=args.json)
    if args.archive is None:
        items = invented_items(args.texts)
    else:
        topics = args.topic or [topic.name for topic in settings_module.load(args.config).topics.raw]
        items = list(islice(archived_items(args.archive, topics), args.texts))
    if not items:
        raise SourceError("no item that every row can read")
    runs: list[Whole] = []
    with TemporaryDirectory() as folder, open_target(args.bootstrap) as target:
        _archived(Path(folder), items)
        publish(target.endpoint, target.raw, ((item.record.key, item.record.value) for item in items))
        rows = _rows(Path(folder), target, min(args.peer_texts, len(items)), console)
        for number in range(args.rounds):
            for name, row in rows.items():
                with console.status(f"round {number + 1} of {args.rounds}: {name}"):
                    found = row()
                runs.append(Whole(name, 1, found["texts"], found["wall_s"], found["cpu_s"]))
    about = machine() | {
        "items": len(items),
        "from": str(args.archive or "invented"),
        "broker": args.bootstrap or "embedded",
    }
    console.print("  ".join(f"{name}: {value}" for name, value in about.items()))
    console.print(rates(runs))
    if args.json:
        print(json.dumps({"machine": about, "runs": [asdict(run) | {"per_s": run.per_s} for run in runs]}))
    return 0


def invented_items(count: int) -> list[StampedRecord]:
    """Return `count` invented items, every text different."""
    return [StampedRecord(record, True) for record in records(TOPIC, count)]


def archived_items(archive: Path, topics: Iterable[str]) -> Iterator[StampedRecord]:
    """Yield the raw records that every row can read, in order of availability.

    They form one partition, so that all rows see the same order. Raises SourceError.
    """
    plain = (known for known in read_raw(archive, topics) if _plain(known[0]))
    for offset, (record, at_us) in enumerate(plain):
        yield StampedRecord(replace(record, topic=TOPIC, partition=0, offset=offset, timestamp_us=at_us), True)


def _plain(record: Record) -> bool:
    try:
        item = json.loads(record.value or b"")
    except ValueError:
        return False
    return isinstance(item, dict) and "item_key" in item and bool(item.get("headline") or item.get("text"))


def _archived(folder: Path, items: Iterable[StampedRecord]) -> None:
    with Archiver(folder, []) as archiver:
        for stamped in items:
            archiver.add(stamped)


def _rows(
    archive: Path, target: BenchTarget, peer_count: int, console: Console
) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return the rows by name; a peer that is missing is reported and left out."""

    def recompute() -> dict[str, Any]:
        settings = child_environment(("engine", "model", "policy"), topics__raw=json.dumps([{"name": TOPIC}]))
        return _heard(["earlybird.stream.bench.recompute", str(archive)], settings)

    def live() -> dict[str, Any]:
        with (
            EmbeddedRedis() as redis,
            Workers(replace(target, redis_url=redis.url), "bundled", tokenise=True) as workers,
        ):
            workers.go()
            (found,) = workers.measured(PATIENCE_S)
        return found

    def pipeline(batch: int) -> dict[str, Any]:
        command = ["earlybird.stream.bench.peers", "pipeline", "--bootstrap", target.endpoint.bootstrap_servers]
        command += ["--raw", target.raw, "--signals", f"{target.raw}-peer", "--count", str(peer_count)]
        command += ["--batch", str(batch), "--threads", str(os.cpu_count())]
        return _heard([*command, "--options", json.dumps(dict(target.endpoint.options))], child_environment(()))

    rows = {"recompute": recompute, "live stage": live}
    if find_spec("transformers") is None:
        console.print(f"transformers pipeline: not installed; {install_hint('engine')}")
        return rows
    peers = {f"pipeline, batch {size}": (lambda size=size: pipeline(size)) for size in BATCHES}
    return rows | peers


def _heard(command: Sequence[str], environment: dict[str, str]) -> dict[str, Any]:
    child = Child(command, environment)
    try:
        return child.next_message(PATIENCE_S)
    finally:
        child.close()


def rates(runs: Sequence[Whole]) -> Table:
    """Return a table with one line per row.

    It shows the median over the row's rounds and how many times as fast the first row is.
    """
    shown = figures("History computed again", "row", "items", "items/s", "slowest", "fastest", "a CPU-s", "ratio")
    names = list(dict.fromkeys(run.name for run in runs))
    middle = {name: statistics.median(run.per_s for run in runs if run.name == name) for name in names}
    for name in names:
        mine = [run for run in runs if run.name == name]
        per_s = [run.per_s for run in mine]
        shown.add_row(
            name,
            f"{mine[0].texts:,}",
            *(f"{rate:,.0f}" for rate in (middle[name], min(per_s), max(per_s))),
            f"{statistics.median(run.per_cpu_s for run in mine):,.0f}",
            f"{middle[names[0]] / middle[name]:.2f}" if middle[name] else "",
        )
    return shown
