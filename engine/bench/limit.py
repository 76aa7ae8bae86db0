"""Peak rate of the machine: the fastest matrix product per dtype, at the model's sizes.

It is measured in the same run as the rows.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F  # noqa: N812

from earlybird.engine.bench.clock import spent
from earlybird.engine.bench.row import CPU
from earlybird.engine.config import Dtype, ModelConfig
from earlybird.engine.slots.cpu_linear import linears, noise
from earlybird.engine.slots.int8 import product, weight_range

ROWS = {"cpu": 512, "cuda": 8192}  # tokens: enough for a GEMM's full speed
SQUARE = 8192  # size of the product that a card's rate is quoted for


def peaks(config: ModelConfig, dtypes: Iterable[Dtype], device: torch.device = CPU) -> dict[str, float]:
    """Measure the best kernel's G operations per second for each dtype.

    It runs the layer's maps, each the median of its tries; on a card a large square product is among them. A CPU uses
    as many threads as torch has.
    """
    with torch.inference_mode():
        return {
            dtype: max(_rate(*shape, dtype, device) for shape in _shapes(config, device))
            for dtype in sorted(set(dtypes))
        }


def _shapes(config: ModelConfig, device: torch.device) -> list[tuple[int, int, int]]:
    """Return the products' rows, inputs and outputs."""
    hidden, wide, rows = config.hidden_size, config.ffn_size, ROWS[device.type]
    layer = [(rows, hidden, 3 * hidden), (rows, hidden, wide), (rows, wide, hidden)]
    return [*layer, (SQUARE, SQUARE, SQUARE)] if device.type == "cuda" else layer


def _rate(rows: int, inputs: int, outputs: int, dtype: Dtype, device: torch.device) -> float:
    kernels = _kernels(rows, inputs, outputs, dtype, device)
    return max(2e-9 * rows * inputs * outputs / spent(call, tries=3, device=device) for call in kernels)


def _kernels(
    rows: int, inputs: int, outputs: int, dtype: Dtype, device: torch.device
) -> Iterator[Callable[[], object]]:
    if dtype == "int8":
        weight = torch.ones(outputs, inputs, dtype=torch.int8) * weight_range()
        multiply, quantized = product(weight, torch.ones(outputs)), torch.ones(rows, inputs, dtype=torch.uint8)
        yield lambda: multiply(quantized)
        return
    kind: torch.dtype = getattr(torch, dtype)
    states, weight = noise(rows, inputs, kind).to(device), noise(outputs, inputs, kind).to(device)
    bias, across = noise(1, outputs, kind)[0].to(device), weight.t().contiguous()
    yield lambda: F.linear(states, weight, bias)
    yield lambda: torch.addmm(bias, states, across)
    if device.type == "cpu":
        best = linears(deterministic=False)(weight, bias, None)
        yield lambda: best(states)
