"""Memory of an engine, and whether it stays flat.

A separate process holds only the weights and one runner, and is measured after 10, 50 and 100 % of its texts.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from earlybird.engine.bench.measure import torch_threads
from earlybird.engine.bench.ours import elbert
from earlybird.engine.bench.paired_models import PairedModels
from earlybird.engine.bench.row import ForcedDepth, Setting
from earlybird.engine.bench.workload import texts
from earlybird.engine.config import Dtype, ModelConfig
from earlybird.engine.slots.packed import Packed
from earlybird.engine.weights import shapes

SAMPLES_AT = (0.1, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one engine process, in MB of 10^6 bytes."""

    dtype: Dtype
    texts: int
    weights_mb: float  # as read; kernels keep their own copies
    bare_mb: float  # resident memory before the model: Python and torch
    resident_mb: tuple[float, ...]  # after each share of the texts in LOOKS
    peak_mb: float


def memory(
    config: ModelConfig, dtype: Dtype, lengths: Sequence[int], depths: Sequence[int], count: int, setting: Setting
) -> Memory:
    """Measure over `count` texts, at least 10, with packed slots as shipped."""
    job = {"config": asdict(config), "dtype": dtype, "lengths": lengths, "depths": depths, "count": count}
    job |= {"slots": setting.slots, "token_budget": setting.token_budget}
    command = [sys.executable, "-m", "earlybird.engine.bench.memory", json.dumps(job)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[2])
    found = json.loads(done.stdout.splitlines()[-1])
    return Memory(**{**found, "resident_mb": tuple(found["resident_mb"])})


def _measured(job: dict[str, Any]) -> Memory:
    config, count, dtype = ModelConfig(**job["config"]), job["count"], job["dtype"]
    bare = resident_mb()
    rng = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(shape, generator=rng) for name, shape in shapes(config).items()}
    setting = Setting(config, PairedModels(None, tensors), 1, job["slots"], job["token_budget"])
    weights = sum(tensor.nbytes for tensor in setting.tensors(dtype).values()) / 1e6
    with torch_threads(1):
        runner = Packed(elbert(setting, dtype, True), ForcedDepth(), setting.slots, setting.token_budget)
        del tensors, setting
        requests = [text.request for text in texts(config, job["lengths"], job["depths"], 8)]
        exited, samples = 0, list[float]()
        for start in range(0, count, len(requests)):
            some = requests[: count - start]
            runner.submit([replace(request, ticket=start + number) for number, request in enumerate(some)])
            while runner.waiting or (runner.active and start + len(some) == count):
                exited += len(runner.step())
                while len(samples) < len(SAMPLES_AT) and exited >= SAMPLES_AT[len(samples)] * count:
                    samples.append(resident_mb())
    return Memory(dtype, count, weights, bare, tuple(samples), peak_mb())


def resident_mb() -> float:
    """Return this process's resident memory; its peak where Linux does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text("utf-8").split()[1])
    except OSError:
        return peak_mb()
    return pages * resource.getpagesize() / 1e6


def peak_mb() -> float:
    """Return this process's peak resident memory.

    On Linux getrusage's figure is inherited from the parent process.
    """
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    except (OSError, StopIteration):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0) / 1e6


def card_mb(device: torch.device) -> dict[str, float]:
    """Return the peak of the card's memory: in tensors, and reserved from the driver."""
    found = {"tensors": torch.cuda.max_memory_allocated(device), "taken": torch.cuda.max_memory_reserved(device)}
    return {name: count / 1e6 for name, count in found.items()}


if __name__ == "__main__":
    print(json.dumps(asdict(_measured(json.loads(sys.argv[1])))))
