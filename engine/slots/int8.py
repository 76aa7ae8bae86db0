"""Linear maps in int8, with a scale per input row and a scale per output.

    x = scale * q + low,  w = step * v   ->   x w + bias = scale * step * (q v) + low * sum(w) + bias

with q in 0..255 and v a signed integer. Scales are per row (per token) instead of per batch: otherwise a text's
neighbours would change its answer. q v is summed in integers, so a row's bits do not depend on the number of rows.

Without VNNI a CPU adds pairs of products in 16 bits, which overflow at the weights' full range, so v then has 7 bits. A
probe at start finds this out, not a list of CPUs.

Private torch operators are called in this file and in cpu_linear.py only.

Letters: T rows, I inputs, O outputs.
"""

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from earlybird.engine.errors import ConfigError
from earlybird.engine.slots.cpu_linear import Linear, activate, noise, one_thread

_APPENDED = 8  # bytes that row quantisation appends to each row: its scale and its low, as float32
_HEIGHTS = (1, 3, 8, 24, 64, 200)
_FULL, _HALF = 127, 64  # 2 * 255 * 64 is the largest sum of two products that 16 bits hold


@dataclass(frozen=True, slots=True)
class EightBits:
    """A LinearFactory (engine.slots.cpu_linear) for float32 weights and float32 rows."""

    deterministic: bool

    def __call__(self, weight: Tensor, bias: Tensor | None, activation: str | None) -> Linear:
        """See LinearFactory.

        Raises ConfigError where the operators are missing or wrong, and where determinism was requested and does not
        hold.
        """
        if weight.shape[1] % 4:
            raise ConfigError(f"dtype int8: a multiple of 4 inputs required, was {weight.shape[1]}")
        if self.deterministic:
            _prove(weight.shape[1], weight.shape[0], activation)
        return _linear(weight, bias, activation, weight_range())

    def filled(self, n_rows: int) -> int:
        """Return `n_rows`: no padding is needed."""
        return n_rows


@cache
def weight_range() -> int:
    """Return the largest integer weight that this CPU multiplies without overflow.

    It is 127 or 64. Raises ConfigError.
    """
    for largest in (_FULL, _HALF):
        if _exact(largest):
            return largest
    raise ConfigError("dtype int8: this torch has no exact 8-bit product on this CPU; use float32")


def _exact(largest: int) -> bool:
    inputs, outputs = 256, 32
    rows = torch.full((8, inputs), 255, dtype=torch.uint8)
    weight = torch.full((outputs, inputs), largest, dtype=torch.int8)
    try:
        found = product(weight, torch.ones(outputs))(rows)
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False
    return bool((found == 255 * largest * inputs).all())


def product(weight: Tensor, step: Tensor) -> Linear:
    """Prepare the map rows (T, I) uint8 -> step * (rows @ weight.T).

    weight (O, I) int8, step (O,), result (T, O) float32.
    """
    packed = torch.ops.onednn.qlinear_prepack(weight, None)
    zeros = torch.zeros(len(weight), dtype=torch.int64)
    multiply = torch.ops.onednn.qlinear_pointwise
    return lambda rows: multiply(rows, 1.0, 0, packed, step, zeros, None, 1.0, 0, torch.float32, "none", [], "")


def _linear(weight: Tensor, bias: Tensor | None, activation: str | None, largest: int) -> Linear:
    outputs, inputs = weight.shape
    step = weight.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / largest  # (O,)
    integers = (weight / step[:, None]).round()
    sums = integers.sum(dim=1) * step  # (O,)
    # Each quantised row is followed by its scale; zero weights let the product run over both.
    multiplied = product(F.pad(integers, (0, _APPENDED)).to(torch.int8), step)
    quantize = torch.ops.quantized.embedding_bag_byte_prepack

    def run(rows: Tensor) -> Tensor:
        if not len(rows):
            return rows.new_empty(0, outputs)
        quantized = quantize(rows.contiguous())  # (T, I + 8) uint8
        scale, low = quantized[:, inputs:].view(torch.float32).split(1, dim=1)  # each (T, 1)
        out = multiplied(quantized).mul_(scale).addcmul_(low, sums)
        if bias is not None:
            out.add_(bias)
        return activate(out, activation)

    return run


@cache
def _prove(inputs: int, outputs: int, activation: str | None) -> None:
    """Check that a row's bits do not depend on the other rows or its place.

    Raises ConfigError otherwise.
    """
    rows = noise(max(_HEIGHTS), inputs, torch.float32)
    with one_thread(), torch.inference_mode():
        weight, bias = noise(outputs, inputs, torch.float32), noise(1, outputs, torch.float32)[0]
        linear = _linear(weight, bias, activation, weight_range())
        expected = linear(rows)
        for height in _HEIGHTS:
            for first in {0, (len(rows) - height) // 2, len(rows) - height}:
                if not torch.equal(linear(rows[first : first + height]), expected[first : first + height]):
                    raise ConfigError(
                        f"deterministic: not possible on this machine; an int8 map of {inputs} to {outputs} gives "
                        f"other bits among {height} rows. Switch deterministic off: results then hold to a tolerance"
                    )
