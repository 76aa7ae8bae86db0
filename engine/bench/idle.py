"""Latency of one text on an idle engine, against a batch-1 early exit.

Both use the same kernels.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from earlybird.engine.bench import ours, ours_resident
from earlybird.engine.bench.clock import stopwatch
from earlybird.engine.bench.measure import torch_threads
from earlybird.engine.bench.row import BenchRow, Build, Setting
from earlybird.engine.bench.workload import BenchText
from earlybird.engine.config import Dtype

RUNS = 4  # per text and row
PAIRS: dict[str, dict[str, tuple[Build, Build]]] = {"cpu": ours.IDLE, "cuda": ours_resident.IDLE}
"""By device type: each engine when it is idle, with the row that it is compared to."""


@dataclass(frozen=True, slots=True)
class IdleLatency:
    """Milliseconds per text of both rows, and their ratio.

    Each is the median over texts, with the best run of each text; the rows alternate.
    """

    name: str
    dtype: Dtype
    idle_ms: float
    alone_ms: float
    ratio: float


def idle(
    pairs: Mapping[str, tuple[Build, Build]],
    setting: Setting,
    texts: Sequence[BenchText],
    progress: Callable[[str], None],
) -> list[IdleLatency]:
    """Measure each pair; raises ConfigError for one that this machine cannot run."""
    wall, found = setting.device.type == "cuda", list[IdleLatency]()

    def took(row: BenchRow, text: BenchText) -> float:
        elapsed = stopwatch(wall=wall)
        row.run([text])
        return 1e3 * elapsed()

    with torch_threads(1):
        for name, builds in pairs.items():
            progress(f"idle: {name}")
            both = [build(setting) for build in builds]
            for row in both:
                row.run(texts if wall else texts[:2])  # warm-up: a device captures one graph per length
            times = [_best(both, text, took) for text in texts]
            idle_ms, alone_ms = (statistics.median(each) for each in zip(*times, strict=True))
            found.append(IdleLatency(name, both[0].dtype, idle_ms, alone_ms, idle_ms / alone_ms))
    return found


def _best(both: Sequence[BenchRow], text: BenchText, took: Callable[[BenchRow, BenchText], float]) -> list[float]:
    """Return each row's fastest run, since other load on the machine only adds time.

    The rows alternate, because the second of two finds warm caches.
    """
    runs = [{row: took(row, text) for row in (both if number % 2 else both[::-1])} for number in range(RUNS)]
    return [min(run[row] for run in runs) for row in both]
