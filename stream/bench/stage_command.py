"""Measure the cost of the Kafka side in texts per second of CPU time.

It is measured step by step and whole. The bench also runs a Faust agent and a transformers pipeline in a consumer loop
for comparison, shows how far the stage keeps a faster device fed, and measures the latency at a steady rate.

`--engine null:RATE` puts a simulated device of RATE texts per second behind the stage, with one process and with two.
With `--consumer-processes 1,2` only this is measured: that many consumer processes around one device
(`engine.consumer_processes`), and the gain of each further one. With `--delivery at_least_once,exactly_once` only the
price of exactly-once is measured, on a real broker.
"""

import argparse
import contextlib
import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from typing import get_args

from earlybird.stream.adapters.embedded import CLIENT_OPTIONS, EmbeddedBroker, EmbeddedRedis
from earlybird.stream.adapters.topics import Topic, admin_client, create_topics
from earlybird.stream.bench import delivery
from earlybird.stream.bench.consumer_processes import conclusion, measure, table
from earlybird.stream.bench.latency import latency
from earlybird.stream.bench.load import fill
from earlybird.stream.bench.null import rate_of
from earlybird.stream.bench.report import Report, Whole
from earlybird.stream.bench.steps import steps
from earlybird.stream.bench.tables import bench_console
from earlybird.stream.bench.workers import BenchTarget, Child, Delivery, Workers
from earlybird.stream.config.client_options import KafkaEndpoint
from earlybird.stream.config.settings import child_environment
from earlybird.stream.errors import SettingsError
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
    parser.add_argument(
        "--delivery", metavar="at_least_once,exactly_once", type=_deliveries, help="compare these, one run each"
    )
    parser.add_argument("--texts", type=int, help=f"how many (default {TEXTS}, with --quick {QUICK_TEXTS})")
    parser.add_argument("--quick", action="store_true", help="a minute or so: fewer texts, shorter latency run")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout; the tables go to stderr")


def run(args: argparse.Namespace) -> int:
    """Measure and report; the exit status is 0."""
    configure_logging("error", "console")
    rate = rate_of(args.engine)
    if "exactly_once" in (args.delivery or ()) and args.bootstrap is None:
        raise SettingsError("--delivery exactly_once: --bootstrap required, the embedded broker has no transactions")
    count = args.texts or (QUICK_TEXTS if args.quick else TEXTS)
    console = bench_console(stderr=args.json)
    with open_target(args.bootstrap, args.delivery or ()) as target:
        report = Report(args.bootstrap or "embedded")
        with console.status("filling the raw topic"):
            fill(target.endpoint, target.raw, count)
        if args.consumer_processes:
            with console.status("measuring"):
                runs = [measure(target, args.engine, count) for count in args.consumer_processes]
            console.print(table(runs), conclusion(runs, rate), sep="\n")
            if args.json:
                print(json.dumps({"machine": report.machine, "consumer_processes": [asdict(run) for run in runs]}))
            return 0
        if args.delivery:
            with console.status("measuring"):
                compared = [delivery.measure(target, each, 5 if args.quick else 30) for each in args.delivery]
            console.print(delivery.table(compared))
            if args.json:
                print(json.dumps({"machine": report.machine, "delivery": [asdict(run) for run in compared]}))
            return 0
        with console.status("measuring"):
            report.steps += steps(target, min(count, QUICK_TEXTS))
            report.wholes += _stages(target, args.engine, rate)
            report.wholes += _peers(target, count, report.missing)
            paced = replace(target, raw=f"{target.raw}-paced", signals=f"{target.raw}-latency")
            report.latency = latency(paced, 200, 5 if args.quick else 30)
    report.show(console)
    if args.json:
        print(json.dumps(report.as_json()))
    return 0


def _deliveries(given: str) -> list[Delivery]:
    """Parse `at_least_once,exactly_once`."""
    known: tuple[Delivery, ...] = get_args(Delivery)
    wanted = given.split(",")
    if set(wanted) - set(known):
        raise argparse.ArgumentTypeError(f"{' or '.join(known)} required, was {given}")
    return [each for each in known if each in wanted]


def _counts(given: str) -> list[int]:
    """Parse `1,2,3`, each at most the number of partitions of the raw topic."""
    counts = [int(count) for count in given.split(",")]
    if not all(1 <= count <= PARTITIONS for count in counts):
        raise argparse.ArgumentTypeError(f"1 to {PARTITIONS} consumer processes required, was {given}")
    return counts


@contextlib.contextmanager
def open_target(bootstrap: str | None, deliveries: Sequence[Delivery] = ()) -> Iterator[BenchTarget]:
    """Create topics for this run only, on a given or an embedded broker."""
    raw = f"earlybird-bench-{uuid.uuid4().hex[:8]}"
    topics = dict.fromkeys((raw, f"{raw}-paced", f"{raw}-signals", f"{raw}-latency", f"{raw}-peer"), PARTITIONS)
    topics |= {delivery.paced_topic(raw, each, kind): PARTITIONS for each in deliveries for kind in (True, False)}
    topics |= dict.fromkeys(
        (f"{topic}{end}" for topic in (f"{raw}-signals", f"{raw}-latency") for end in (".control", ".dlq")), 1
    )
    if bootstrap is None:
        with EmbeddedBroker(topics) as broker:
            endpoint = KafkaEndpoint(broker.bootstrap_servers, CLIENT_OPTIONS)
            yield BenchTarget(endpoint, raw, PARTITIONS, f"{raw}-signals")
        return
    create_topics(bootstrap, [Topic(name, partitions) for name, partitions in topics.items()])
    try:
        yield BenchTarget(KafkaEndpoint(bootstrap), raw, PARTITIONS, f"{raw}-signals")
    finally:
        admin = admin_client(bootstrap)  # the client must outlive its futures
        for deletion in admin.delete_topics(list(topics)).values():
            deletion.result()


def _stages(target: BenchTarget, engine: str, rate: float | None) -> Iterator[Whole]:
    """Measure the stage in its variants.

    The run with two processes shows the gain of one more group member.
    """
    yield _stage(target, engine, rate, 1)
    yield _stage(target, engine, rate, 2)
    yield _stage(target, engine, rate, 1, tokenise=True)
    with EmbeddedRedis() as redis:
        cached = replace(target, redis_url=redis.url)
        yield _stage(cached, engine, rate, 1)


def _stage(target: BenchTarget, engine: str, rate: float | None, processes: int, *, tokenise: bool = False) -> Whole:
    with Workers(target, engine, processes, tokenise=tokenise) as workers:
        workers.go()
        measured = workers.measured()
    extras = [", tokenising"] * tokenise + [", Redis"] * (target.redis_url is not None)
    return Whole(
        f"earlybird, {engine} engine{''.join(extras)}",
        processes,
        sum(run["texts"] for run in measured),
        max(run["wall_s"] for run in measured),
        sum(run["cpu_s"] for run in measured),
        None if rate is None else rate * processes,
    )


def _peers(target: BenchTarget, count: int, missing: list[str]) -> Iterator[Whole]:
    """Measure each peer in its own process; a missing one is reported."""
    for peer, (name, extra, fewer) in PEERS.items():
        module = "faust" if peer == "faust" else "transformers"
        if find_spec(module) is None:
            missing.append(f"{name}: not installed; {install_hint(extra)}")
            continue
        command = ["earlybird.stream.bench.peers", peer, "--bootstrap", target.endpoint.bootstrap_servers]
        command += ["--raw", target.raw, "--signals", f"{target.raw}-peer", "--count", str(count // fewer)]
        child = Child([*command, "--options", json.dumps(dict(target.endpoint.options))], child_environment(()))
        try:
            found = child.next_message(PEER_PATIENCE_S)
        finally:
            child.close()
        yield Whole(name, 1, found["texts"], found["wall_s"], found["cpu_s"])
