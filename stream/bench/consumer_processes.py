"""Throughput by number of consumer processes around one simulated device (`engine.consumer_processes`)."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.table import Table

from earlybird.stream.bench.tables import figures
from earlybird.stream.bench.workers import BenchTarget, Child, Workers
from earlybird.stream.config.settings import child_environment
from earlybird.stream.consumer_processes.channel import Channel

PLACES, LONGEST = 1_024, 512


@dataclass(frozen=True, slots=True)
class ConsumerRun:
    """One run with `processes` consumer processes, all of them tokenising.

    CPU times are those of whole processes.
    """

    processes: int
    texts: int
    wall_s: float
    consumers_cpu_s: float
    engine_us: float  # CPU time per text of the engine's process; the simulated device costs none

    @property
    def per_s(self) -> float:
        """Texts per second of all consumer processes together."""
        return self.texts / self.wall_s

    @property
    def consumer_us(self) -> float:
        """CPU time of the consumer processes per text, in microseconds."""
        return 1e6 * self.consumers_cpu_s / self.texts


def measure(target: BenchTarget, engine: str, processes: int) -> ConsumerRun:
    """Consume the whole raw topic with `processes` consumer processes and measure it.

    Raises StreamError when a process fails.
    """
    channels = [Channel.create(PLACES, LONGEST) for _ in range(processes)]
    command = ["earlybird.stream.bench.device", "--engine", engine, *(channel.argument() for channel in channels)]
    device = Child(command, child_environment(()), [fd for channel in channels for fd in channel.descriptors])
    try:
        device.next_message()
        with Workers(target, "null", processes, tokenise=True, channels=channels) as workers:
            workers.go()
            results = workers.measured()
        device.go()
        served = device.next_message()
    finally:
        device.close()
        for channel in channels:
            channel.close()
    texts, cpu_s = sum(result["texts"] for result in results), sum(result["cpu_s"] for result in results)
    wall_s = max(result["wall_s"] for result in results)
    return ConsumerRun(processes, texts, wall_s, cpu_s, 1e6 * served["cpu_s"] / max(1, served["texts"]))


def table(runs: Sequence[ConsumerRun]) -> Table:
    """Return a table with one row per run."""
    shown = figures(
        "Consumer processes", "processes", "texts/s", "us of a consumer", "us of the engine's process", "cores"
    )
    for run in runs:
        cores = (run.consumers_cpu_s + run.engine_us * run.texts / 1e6) / run.wall_s
        shown.add_row(
            str(run.processes), f"{run.per_s:,.0f}", f"{run.consumer_us:.1f}", f"{run.engine_us:.1f}", f"{cores:.2f}"
        )
    return shown


def conclusion(runs: Sequence[ConsumerRun], rate: float | None) -> str:
    """Summarise the runs in sentences."""
    first, last = runs[0], runs[-1]
    consumer_s, engine_s = 1e6 / first.consumer_us, 1e6 / last.engine_us
    added = [
        f"{run.processes} consumer processes: {run.per_s - before.per_s:+,.0f} texts/s on {before.processes}"
        for before, run in pairwise(runs)
    ]
    sentences = [
        f"A core consumes {consumer_s:,.0f} texts/s; that of the engine's process passes {engine_s:,.0f} on.",
        *([f"Measured: {first.per_s:,.0f} texts/s with {first.processes}; {'; '.join(added)}."] if added else []),
    ]
    if rate is not None:
        wanted = math.ceil(rate / consumer_s)
        sentences.append(f"A device of {rate:,.0f} texts/s wants {wanted} consumer processes with a core each.")
        if rate > engine_s:
            sentences.append(f"It would still wait for its own process: beyond {engine_s:,.0f} texts/s take two.")
    cores = os.cpu_count() or 1
    if cores < last.processes + 2:
        sentences.append(
            f"{cores} cores for consumer processes, engine and broker are too few: trust the CPU time, not the rates."
        )
    return "\n".join(sentences)
