"""What exactly-once costs: throughput and latency beside at-least-once, on one broker in one run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.table import Table

from earlybird.stream.bench.latency import latency
from earlybird.stream.bench.report import figures
from earlybird.stream.bench.workers import BenchTarget, Delivery, Workers

RATE = 20.0


@dataclass(frozen=True, slots=True)
class DeliveryRun:
    """Throughput and latency at RATE texts per second, without a model.

    Latencies in milliseconds, from raw record to a reader of committed records, and to one of all records.
    """

    delivery: Delivery
    per_s: float
    per_cpu_s: float
    committed_p50: float
    committed_p99: float
    all_p50: float
    all_p99: float


def paced_topic(raw: str, delivery: Delivery, read_committed: bool) -> str:
    """Return the raw topic of one latency run, since a new group reads all."""
    return f"{raw}-paced-{delivery}-{'committed' if read_committed else 'all'}"


def measure(target: BenchTarget, delivery: Delivery, seconds: float) -> DeliveryRun:
    """Measure one delivery: all texts of the raw topic, then a steady rate.

    The latter for `seconds` and for each kind of reader.
    """
    target = replace(target, delivery=delivery)
    with Workers(target, "null") as workers:
        workers.go()
        (run,) = workers.measured()
    committed, everything = (
        latency(
            replace(target, raw=paced_topic(target.raw, delivery, read_committed), signals=f"{target.raw}-latency"),
            RATE,
            seconds,
            "null",
            read_committed=read_committed,
        )
        for read_committed in (True, False)
    )
    return DeliveryRun(
        delivery,
        run["texts"] / run["wall_s"],
        run["texts"] / run["cpu_s"],
        committed.signal_p50,
        committed.signal_p99,
        everything.signal_p50,
        everything.signal_p99,
    )


def table(runs: Sequence[DeliveryRun]) -> Table:
    """Return the deliveries side by side."""
    columns = ("texts/s", "texts/CPU-s", "p50 ms", "p99 ms", "p50 ms, all records", "p99 ms, all records")
    shown = figures(f"Delivery (latency at {RATE:.0f} texts/s)", "delivery", *columns)
    for run in runs:
        latencies = (run.committed_p50, run.committed_p99, run.all_p50, run.all_p99)
        shown.add_row(
            run.delivery, f"{run.per_s:,.0f}", f"{run.per_cpu_s:,.0f}", *(f"{each:.1f}" for each in latencies)
        )
    return shown
