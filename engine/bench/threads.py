"""Gain of further engine threads: the same texts over shared weights, wall clock."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from earlybird.engine.bench.measure import RunLength, torch_threads
from earlybird.engine.bench.ours import PackedRow
from earlybird.engine.bench.row import Setting
from earlybird.engine.bench.workload import BLOCK, BenchText
from earlybird.engine.runtime import interpreter_tuned


@dataclass(frozen=True, slots=True)
class Threads:
    """Throughput of several threads, and `ratio` to one thread.

    `ratio`: the median over rounds in which both ran one after the other. `cpu_ms`: CPU time per text of all threads;
    if it equals that of one thread and the ratio is low, the cores were not free.
    """

    threads: int
    texts_per_s: float
    ratio: float
    cpu_ms: float


def scaling(setting: Setting, texts: Sequence[BenchText], most: int, run_length: RunLength) -> list[Threads]:
    """Measure one engine thread, two, and so on up to `most`, doubling each time.

    Packed slots in float32, deterministic, as shipped.
    """
    counts = sorted({min(2**power, most) for power in range(most.bit_length() + 1)})
    rows = {count: PackedRow(replace(setting, threads=count), "float32", True) for count in counts}

    def seconds(count: int, some: Sequence[BenchText]) -> tuple[float, float]:
        start, cpu = time.perf_counter(), time.process_time()
        rows[count].run(some)
        return time.perf_counter() - start, time.process_time() - cpu

    with torch_threads(1), interpreter_tuned():
        block_s, _ = seconds(1, texts[:BLOCK])
        # Every thread fills and empties its slots once; with few texts mostly that would be measured.
        blocks = max(round(run_length.seconds / block_s), -(-8 * most * setting.slots // BLOCK))
        own_texts = texts[: BLOCK * min(blocks, len(texts) // BLOCK, max(1, int(2 * run_length.longest_s / block_s)))]
        found = [{count: seconds(count, own_texts) for count in counts} for _ in range(min(2, run_length.rounds))]
    return [
        Threads(
            count,
            len(own_texts) / statistics.median(each[count][0] for each in found),
            statistics.median(each[1][0] / each[count][0] for each in found),
            1e3 * statistics.median(each[count][1] for each in found) / len(own_texts),
        )
        for count in counts
    ]
