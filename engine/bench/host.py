"""Host cost of a resident loop: rings, launches and verdicts around simulated steps.

No card is needed, and none is in the figure: its launches, copies and waits add to it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from earlybird.engine.bench.clock import stopwatch
from earlybird.engine.bench.measure import torch_threads
from earlybird.engine.bench.ours import drained
from earlybird.engine.bench.row import ForcedDepth
from earlybird.engine.bench.workload import BenchText
from earlybird.engine.config import CUDA_TIERS, ModelConfig
from earlybird.engine.device.layer import StaticElbert
from earlybird.engine.device.loop import Resident
from earlybird.engine.device.step import Table, Tier
from earlybird.engine.device.streams import Immediate, Work
from earlybird.engine.weights import shapes

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Host:
    """Host throughput of one thread; texts have no depth limits, as in the stage."""

    texts_per_s: float
    us_per_text: float


class SimulatedDevice:
    """A simulated device that completes requests at the mean exit rate.

    Texts exit in order, with a fixed number per step.
    """

    where = torch.device("cpu")

    def __init__(self, leaving: int) -> None:
        self.compute = self.uploads = self.downloads = Immediate().compute
        self.table: Table | None = None
        self.seconds = 0.0  # spent on the simulation
        self._leaving = leaving

    def pinned(self, like: Tensor) -> Tensor:
        return torch.zeros(like.shape, dtype=like.dtype)

    def graph(self, step: Callable[[], None]) -> Work:  # noqa: ARG002
        """See Device.graph; the step is replaced by the simulation."""
        return self._simulate

    def _simulate(self) -> None:
        assert self.table is not None
        elapsed, table = stopwatch(), self.table
        admitted = int(table.tail)
        finished = int(table.counts[1])
        leaving = min(self._leaving, admitted - finished)
        rows = torch.arange(finished, finished + leaving) % len(table.queue)
        facts = torch.tensor([0, 1, 1, 0]).repeat(leaving, 1)  # seat, depth, reason, rung
        facts[:, 0] = table.queue[rows, 2]
        table.result_facts[rows] = facts
        table.counts.copy_(torch.tensor([admitted, finished + leaving]))
        self.seconds += elapsed()


def host(config: ModelConfig, texts: Sequence[BenchText]) -> Host:
    """Measure the host over `texts` with the shipped tiers: the best of several rounds."""
    mean_depth = sum(text.depth for text in texts) / len(texts)
    small = replace(config, vocab_size=8, embedding_size=8, hidden_size=8, heads=1, ffn_size=8)
    model = StaticElbert(small, {name: torch.zeros(shape) for name, shape in shapes(small).items()})
    mean_tokens = sum(len(text.ids) for text in texts) / len(texts)
    slots, tokens, _ = CUDA_TIERS[-1]
    device = SimulatedDevice(round(min(slots, tokens / mean_tokens) / mean_depth))
    runner = Resident(model, ForcedDepth(), [Tier(*tier) for tier in CUDA_TIERS], device)
    device.table = runner.table
    requests = [replace(text.request, depth_limit=None) for text in texts]

    def seconds() -> float:
        device.seconds, elapsed = 0.0, stopwatch()
        drained(runner, requests)
        return elapsed() - device.seconds

    with torch_threads(1):
        best = min(seconds() for _ in range(ROUNDS))
    return Host(len(requests) / best, 1e6 * best / len(requests))
