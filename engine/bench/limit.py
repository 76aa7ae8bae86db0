"""What the machine can do: the fastest matrix product per dtype, at the sizes of the model, in the same run."""

from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F  # noqa: N812

from engine.bench.clock import spent
from engine.config import Dtype, ModelConfig
from engine.slots.int8 import product, weight_range
from engine.slots.kernels import linears, noise

ROWS = 512  # tokens: enough for a GEMM's full speed


def peak(config: ModelConfig, dtype: Dtype) -> float:
    """G operations a second of the best kernel over the layer's maps, each the median of its tries. On as many
    threads as torch has."""
    hidden, wide = config.hidden_size, config.ffn_size
    return max(
        2e-9 * ROWS * inputs * outputs / spent(call, tries=3)
        for inputs, outputs in ((hidden, 3 * hidden), (hidden, wide), (wide, hidden))
        for call in _kernels(ROWS, inputs, outputs, dtype)
    )


def peaks(config: ModelConfig, dtypes: Iterable[Dtype]) -> dict[str, float]:
    """By dtype; see `peak`."""
    with torch.inference_mode():
        return {dtype: peak(config, dtype) for dtype in sorted(set(dtypes))}


def _kernels(rows: int, inputs: int, outputs: int, dtype: Dtype) -> Iterator[Callable[[], object]]:
    if dtype == "int8":
        weight = torch.ones(outputs, inputs, dtype=torch.int8) * weight_range()
        multiply, quantized = product(weight, torch.ones(outputs)), torch.ones(rows, inputs, dtype=torch.uint8)
        yield lambda: multiply(quantized)
        return
    kind: torch.dtype = getattr(torch, dtype)
    states, weight = noise(rows, inputs, kind), noise(outputs, inputs, kind)
    bias, across = noise(1, outputs, kind)[0], weight.t().contiguous()
    yield lambda: F.linear(states, weight, bias)
    yield lambda: torch.addmm(bias, states, across)
    best = linears(deterministic=False)(weight, bias, None)
    yield lambda: best(states)
