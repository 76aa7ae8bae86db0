"""Throughput by number of consumer processes around one simulated device (`engine.consumer_processes`)."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.table import Table

from earlybird.stream.bench.report import figures
from earlybird.stream.bench.workers import Child, Place, Workers
from earlybird.stream.config.settings import child_environment
from earlybird.stream.consumer_processes.channel import Line

PLACES, LONGEST = 1_024, 512


@dataclass(frozen=True, slots=True)
class Fed:
    """One run with `feeders` consumer processes, all of them tokenising.

    CPU times are those of whole processes.
    """

    feeders: int
    texts: int
    wall_s: float
    feeders_cpu_s: float
    engine_us: float  # CPU time per text of the engine's process; the simulated device costs none

    @property
    def per_s(self) -> float:
        """Texts per second of all consumer processes together."""
        return self.texts / self.wall_s

    @property
    def feeder_us(self) -> float:
        """CPU time of the consumer processes per text, in microseconds."""
        return 1e6 * self.feeders_cpu_s / self.texts


def feed(place: Place, engine: str, feeders: int) -> Fed:
    """Consume the whole raw topic with `feeders` consumer processes and measure it.

    Raises StreamError when a process fails.
    """
    lines = [Line.create(PLACES, LONGEST) for _ in range(feeders)]
    command = ["earlybird.stream.bench.device", "--engine", engine, *(line.spelt() for line in lines)]
    device = Child(command, child_environment(()), [fd for line in lines for fd in line.descriptors])
    try:
        device.hear()
        with Workers(place, "null", feeders, tokenise=True, lines=lines) as workers:
            workers.go()
            each = workers.measured()
        device.go()
        served = device.hear()
    finally:
        device.close()
        for line in lines:
            line.close()
    texts, cpu_s = sum(one["texts"] for one in each), sum(one["cpu_s"] for one in each)
    wall_s = max(one["wall_s"] for one in each)
    return Fed(feeders, texts, wall_s, cpu_s, 1e6 * served["cpu_s"] / max(1, served["texts"]))


def table(runs: Sequence[Fed]) -> Table:
    """Return a table with one row per run."""
    shown = figures("Feeders", "feeders", "texts/s", "us of a feeder", "us of the engine's process", "cores")
    for run in runs:
        cores = (run.feeders_cpu_s + run.engine_us * run.texts / 1e6) / run.wall_s
        shown.add_row(
            str(run.feeders), f"{run.per_s:,.0f}", f"{run.feeder_us:.1f}", f"{run.engine_us:.1f}", f"{cores:.2f}"
        )
    return shown


def conclusion(runs: Sequence[Fed], rate: float | None) -> str:
    """Summarise the runs in sentences."""
    first, last = runs[0], runs[-1]
    feeder_s, engine_s = 1e6 / first.feeder_us, 1e6 / last.engine_us
    added = [
        f"{run.feeders} feeders: {run.per_s - before.per_s:+,.0f} texts/s on {before.feeders}"
        for before, run in pairwise(runs)
    ]
    said = [
        f"A core feeds {feeder_s:,.0f} texts/s; that of the engine's process passes {engine_s:,.0f} on.",
        *([f"Measured: {first.per_s:,.0f} texts/s with {first.feeders}; {'; '.join(added)}."] if added else []),
    ]
    if rate is not None:
        wanted = math.ceil(rate / feeder_s)
        said.append(f"A device of {rate:,.0f} texts/s wants {wanted} feeders with a core each.")
        if rate > engine_s:
            said.append(f"It would still wait for its own process: beyond {engine_s:,.0f} texts/s take two.")
    cores = os.cpu_count() or 1
    if cores < last.feeders + 2:
        said.append(f"{cores} cores for feeders, engine and broker are too few: trust the CPU time, not the rates.")
    return "\n".join(said)
