"""Measure the cost of the Kafka side in texts per second of CPU time.

It is measured step by step and whole. The bench also runs a Faust agent and a transformers pipeline in a consumer loop
for comparison, shows how far the stage keeps a faster device fed, and measures the latency at a steady rate.

`--engine null:RATE` puts a simulated device of RATE texts per second behind the stage, with one process and with two.
With `--consumer-processes 1,2` only this is measured: that many consumer processes around one device
(`engine.consumer_processes`), and the gain of each further one.
"""

import argparse
import contextlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec

from earlybird.stream.adapters.embedded import CLIENT_OPTIONS, EmbeddedBroker, EmbeddedRedis
from earlybird.stream.adapters.topics import Topic, admin_client, create_topics
from earlybird.stream.bench.consumer_processes import conclusion, measure, table
from earlybird.stream.bench.latency import latency
from earlybird.stream.bench.load import fill
from earlybird.stream.bench.null import rate_of
from earlybird.stream.bench.report import Report, Whole, bench_console
from earlybird.stream.bench.steps import steps
from earlybird.stream.bench.workers import Child, Place, Workers
from earlybird.stream.config.settings import child_environment
from earlybird.stream.extras import install_hint
from earlybird.stream.observability.logging import configure_logging

PARTITIONS = 8
# The embedded broker keeps 5 MiB per partition: 8 partitions hold this many records of 450 bytes.
TEXTS, QUICK_TEXTS = 60_000, 10_000
PEER_PATIENCE_S = 180.0
PEERS = {
    "faust": ("Faust agent, no model", "views", 10),
    "pipeline": ("transformers pipeline loop, ALBERT", "engine", 50),
}
"""Peer -> display name, extra to install, and how many times fewer texts it gets than the stage."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: which broker, how long, which simulated device."""
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="a real broker (default: the embedded one)")
    parser.add_argument(
        "--engine", default="null", metavar="null[:RATE]", help="texts a second of the simulated device"
    )
    parser.add_argument(
        "--consumer-processes", metavar="1,2,...", type=_counts, help="how many share one device, one run each"
    )
    parser.add_argument("--texts", type=int, help=f"how many (default {TEXTS}, with --quick {QUICK_TEXTS})")
    parser.add_argument("--quick", action="store_true", help="a minute or so: fewer texts, shorter latency run")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout; the tables go to stderr")


def run(args: argparse.Namespace) -> int:
    """Measure and report; the exit status is 0."""
    configure_logging("error", "console")
    rate = rate_of(args.engine)
    count = args.texts or (QUICK_TEXTS if args.quick else TEXTS)
    console = bench_console(stderr=args.json)
    with open_place(args.bootstrap) as place:
        report = Report(args.bootstrap or "embedded")
        with console.status("filling the raw topic"):
            fill(place.bootstrap_servers, place.raw, count)
        if args.consumer_processes:
            with console.status("measuring"):
                runs = [measure(place, args.engine, count) for count in args.consumer_processes]
            console.print(table(runs), conclusion(runs, rate), sep="\n")
            if args.json:
                print(json.dumps({"machine": report.machine, "consumer_processes": [asdict(run) for run in runs]}))
            return 0
        with console.status("measuring"):
            report.steps += steps(place, min(count, QUICK_TEXTS))
            report.wholes += _stages(place, args.engine, rate)
            report.wholes += _peers(place, count, report.missing)
            paced = Place(place.bootstrap_servers, place.options, f"{place.raw}-paced", PARTITIONS, f"{place.raw}-told")
            report.latency = latency(paced, 200, 5 if args.quick else 30)
    report.show(console)
    if args.json:
        print(json.dumps(report.as_json()))
    return 0


def _counts(given: str) -> list[int]:
    """Parse `1,2,3`, each at most the number of partitions of the raw topic."""
    counts = [int(one) for one in given.split(",")]
    if not all(1 <= one <= PARTITIONS for one in counts):
        raise argparse.ArgumentTypeError(f"1 to {PARTITIONS} consumer processes required, was {given}")
    return counts


@contextlib.contextmanager
def open_place(bootstrap: str | None) -> Iterator[Place]:
    """Create topics for this run only, on a given or an embedded broker."""
    raw = f"earlybird-bench-{uuid.uuid4().hex[:8]}"
    topics = dict.fromkeys((raw, f"{raw}-paced", f"{raw}-signals", f"{raw}-told", f"{raw}-peer"), PARTITIONS)
    topics |= dict.fromkeys(
        (f"{topic}{end}" for topic in (f"{raw}-signals", f"{raw}-told") for end in (".control", ".dlq")), 1
    )
    if bootstrap is None:
        with EmbeddedBroker(topics) as broker:
            yield Place(broker.bootstrap_servers, CLIENT_OPTIONS, raw, PARTITIONS, f"{raw}-signals")
        return
    create_topics(bootstrap, [Topic(name, partitions) for name, partitions in topics.items()])
    try:
        yield Place(bootstrap, {}, raw, PARTITIONS, f"{raw}-signals")
    finally:
        admin = admin_client(bootstrap)  # the client must outlive its futures
        for deletion in admin.delete_topics(list(topics)).values():
            deletion.result()


def _stages(place: Place, engine: str, rate: float | None) -> Iterator[Whole]:
    """Measure the stage in its variants.

    The run with two processes shows the gain of one more group member.
    """
    yield _stage(place, engine, rate, 1)
    yield _stage(place, engine, rate, 2)
    yield _stage(place, engine, rate, 1, tokenise=True)
    with EmbeddedRedis() as redis:
        cached = Place(place.bootstrap_servers, place.options, place.raw, place.partitions, place.signals, redis.url)
        yield _stage(cached, engine, rate, 1)


def _stage(place: Place, engine: str, rate: float | None, processes: int, *, tokenise: bool = False) -> Whole:
    with Workers(place, engine, processes, tokenise=tokenise) as workers:
        workers.go()
        each = workers.measured()
    extras = [", tokenising"] * tokenise + [", Redis"] * (place.redis_url is not None)
    return Whole(
        f"earlybird, {engine} engine{''.join(extras)}",
        processes,
        sum(one["texts"] for one in each),
        max(one["wall_s"] for one in each),
        sum(one["cpu_s"] for one in each),
        None if rate is None else rate * processes,
    )


def _peers(place: Place, count: int, missing: list[str]) -> Iterator[Whole]:
    """Measure each peer in its own process; a missing one is reported."""
    for peer, (name, extra, fewer) in PEERS.items():
        module = "faust" if peer == "faust" else "transformers"
        if find_spec(module) is None:
            missing.append(f"{name}: not installed; {install_hint(extra)}")
            continue
        command = ["earlybird.stream.bench.peers", peer, "--bootstrap", place.bootstrap_servers, "--raw", place.raw]
        command += ["--signals", f"{place.raw}-peer", "--count", str(count // fewer)]
        child = Child([*command, "--options", json.dumps(dict(place.options))], child_environment(()))
        try:
            found = child.hear(PEER_PATIENCE_S)
        finally:
            child.close()
        yield Whole(name, 1, found["texts"], found["wall_s"], found["cpu_s"])
