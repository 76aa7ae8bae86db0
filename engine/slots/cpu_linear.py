"""Linear maps for CPUs: fast ones, and deterministic ones.

A GEMM picks its inner kernels by the number of rows, so a text's last bits change with the other texts in the batch. In
the deterministic variant a row's bits depend on that row alone: it cuts the rows into tiles of listed heights (the rest
is padded with zeros) and verifies, once per shape and process, that on this CPU a row comes out equal in every tile
height, at any place and beside any rows.

Private torch operators are called in this file and in int8.py only.

Letters: T rows, I inputs, O outputs.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Literal, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from earlybird.engine.errors import ConfigError

Kernel = Literal["plain", "prepacked"]
Linear = Callable[[Tensor], Tensor]
"""A linear map (T, I) -> (T, O), activation included. T may be 0. The caller owns the result and may change it."""


class LinearFactory(Protocol):
    """Factory of linear maps."""

    def __call__(self, weight: Tensor, bias: Tensor | None, activation: str | None) -> Linear:
        """Prepare a map from weight (O, I), bias (O,) or None, and an activation.

        `activation`: None, "gelu" (erf) or "gelu_new" (tanh).
        """

    def filled(self, n_rows: int) -> int:
        """Return the least number of rows, from `n_rows` up, that needs no padding.

        The maps pad other numbers in each call, so code that sends the same rows through several maps pads them once.
        """


_Into = Callable[[Tensor, Tensor], Tensor]  # rows (height, I), out (height, O) -> out, written to

_APPROXIMATION = {"gelu": "none", "gelu_new": "tanh"}

# gelu_new(x) = x sigmoid(x (_LINE + _CUBE x^2)), from 1 + tanh(y) = 2 sigmoid(2 y)
_LINE = 2.0 * math.sqrt(2.0 / math.pi)
_CUBE = 0.044715 * _LINE

# A tile's height is the number of rows, rounded up to a height of this list. So most steps take one call (each call
# lays out the weights anew) and little padding. Every height is a multiple of 8, so that no kernel processes a scalar
# rest. Where the tallest give other bits, 256 rows are the limit: every row count that 512 takes without padding, 256
# does too.
_FINE, _COARSE, _SHORT, _TALLEST = 8, 16, 128, (512, 256)
_HEIGHTS = (*range(_FINE, _SHORT, _FINE), *range(_SHORT, _TALLEST[0] + 1, _COARSE))
_WIDTHS = 16  # inputs and outputs are padded to a multiple of this


@dataclass(frozen=True, slots=True)
class Linears:
    """A LinearFactory that exposes its choice of kernel."""

    deterministic: bool
    kernel: Kernel  # plain is used for weights that the prepacked operator cannot take (float64)

    def __call__(self, weight: Tensor, bias: Tensor | None, activation: str | None) -> Linear:
        """See LinearFactory.

        Raises ConfigError for an unknown activation, and where determinism was requested and does not hold on this
        machine.
        """
        if activation is not None and activation not in _APPROXIMATION:
            raise ConfigError(f"activation: None, gelu or gelu_new required, was {activation!r}")
        kernel = self.kernel if weight.dtype in (torch.float32, torch.bfloat16) else "plain"
        if weight.dtype == torch.bfloat16 and not _prepacked_works(torch.bfloat16):
            kernel = "plain"
        if not self.deterministic:
            return _whole(weight, bias, activation, kernel)
        tallest = _prove(weight.shape[1], weight.shape[0], weight.dtype, activation, kernel)
        return _tiled(weight, bias, activation, kernel, tallest)

    def filled(self, n_rows: int) -> int:
        return _filled(n_rows, _TALLEST[0]) if self.deterministic else n_rows


def linears(deterministic: bool, kernel: Kernel | None = None) -> Linears:
    """Return the factory for a CPU model; `kernel` None: `best_kernel`."""
    return Linears(deterministic, kernel or best_kernel())


@cache
def best_kernel() -> Kernel:
    """Choose the fastest kernel for this kind of CPU, after a self-test.

    Nothing is timed, because bits may not change from start to start.

    oneDNN's prepacked weights gave 1.13 to 1.55 times MKL's speed with AVX-512 (Zen 4), and 0.8 to 0.9 times with
    AVX2 (Zen 3), except under 24 rows.
    """
    wide = "AVX512" in torch.backends.cpu.get_cpu_capability()
    return "prepacked" if wide and _prepacked_works(torch.float32) else "plain"


@cache
def _prepacked_works(dtype: torch.dtype) -> bool:
    """Return whether the private operators exist, take this dtype and match the public one.

    For bfloat16 the answer is no on a CPU without bfloat16 units.
    """
    weight, rows, bias = noise(48, 32, dtype), noise(40, 32, dtype), noise(1, 48, dtype)[0]
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    try:
        return all(
            torch.allclose(
                _whole(weight, bias, activation, "prepacked")(rows),
                _whole(weight, bias, activation, "plain")(rows),
                atol=tolerance,
            )
            for activation in (None, "gelu", "gelu_new")
        )
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False


def _whole(weight: Tensor, bias: Tensor | None, activation: str | None, kernel: Kernel) -> Linear:
    """Prepare a map that takes all rows in one call."""
    if kernel == "prepacked":
        return _prepacked(weight, bias, activation)
    weight = weight.contiguous()
    if activation is None:
        return lambda rows: F.linear(rows, weight, bias)
    return lambda rows: activate(F.linear(rows, weight, bias), activation)


def _prepacked(weight: Tensor, bias: Tensor | None, activation: str | None) -> Linear:
    operators = torch.ops.mkldnn
    packed = operators._reorder_linear_weight(weight.contiguous(), None)
    post = "none" if activation is None else "gelu"
    approximate = _APPROXIMATION[activation] if activation else ""
    return lambda rows: operators._linear_pointwise(rows.contiguous(), packed, bias, post, [], approximate)


def _tiled(weight: Tensor, bias: Tensor | None, activation: str | None, kernel: Kernel, tallest: int) -> Linear:
    """Prepare a map that works in tiles of the listed heights only.

    Inputs and outputs are padded too: a narrow map, such as a classifier, is otherwise not bit-stable in float64.
    """
    outputs, inputs = weight.shape
    more_inputs, more_outputs = -inputs % _WIDTHS, -outputs % _WIDTHS
    weight = F.pad(weight, (0, more_inputs, 0, more_outputs))
    bias = None if bias is None else F.pad(bias, (0, more_outputs))
    into = _into(weight, bias, activation, kernel)
    left = activation if kernel == "plain" else None

    def run(rows: Tensor) -> Tensor:
        rows = F.pad(rows, (0, more_inputs)) if more_inputs else rows.contiguous()
        out = _in_tiles(into, rows, outputs + more_outputs, left, tallest)
        return out[:, :outputs] if more_outputs else out

    return run


def _into(weight: Tensor, bias: Tensor | None, activation: str | None, kernel: Kernel) -> _Into:
    """Prepare the map of one tile.

    The plain kernel leaves the activation to the caller, which applies it to all tiles at once.
    """
    if kernel == "prepacked":
        linear = _prepacked(weight, bias, activation)
        return lambda rows, out: out.copy_(linear(rows))
    across = weight.t().contiguous()  # (I, O)
    if bias is None:
        return lambda rows, out: torch.mm(rows, across, out=out)
    return lambda rows, out: torch.addmm(bias, rows, across, out=out)


def _in_tiles(into: _Into, rows: Tensor, outputs: int, activation: str | None, tallest: int) -> Tensor:
    """Apply a map in tiles of `tallest` rows: (T, I) -> (T, outputs).

    Zeros pad the last tile to its height.
    """
    n_rows = rows.shape[0]
    filled = _filled(n_rows, tallest)
    if filled > n_rows:
        rows = F.pad(rows, (0, 0, 0, filled - n_rows))
    out = rows.new_empty(filled, outputs)
    for start in range(0, filled, tallest):
        into(rows[start : start + tallest], out[start : start + tallest])
    return activate(out, activation)[:n_rows]


def activate(rows: Tensor, activation: str | None) -> Tensor:
    """Apply an activation to each entry, possibly in place.

    torch's tanh form takes twice the time of this one in AVX2, for the same function to the last places. In reduced
    precision torch's own form is kept, since it widens internally.
    """
    if activation is None:
        return rows
    if activation == "gelu" or rows.dtype not in (torch.float32, torch.float64):
        return F.gelu(rows, approximate=_APPROXIMATION[activation])
    slope = torch.addcmul(rows.new_full((), _LINE), rows, rows, value=_CUBE)
    return slope.mul_(rows).sigmoid_().mul_(rows)


def _filled(n_rows: int, tallest: int) -> int:
    """Return the number of rows after padding the last tile.

    The last tile takes the lowest listed height that holds it.
    """
    rest = n_rows % tallest
    return n_rows + -rest % (_FINE if rest <= _SHORT else _COARSE)


@cache
def _prove(inputs: int, outputs: int, dtype: torch.dtype, activation: str | None, kernel: Kernel) -> int:
    """Return the tallest tile up to which rows of this shape have stable bits.

    Up to it a row's bits are the same in a tile of every height, at other places in it and beside other rows. Tested on
    one thread, as engines run; about 0.5 s for all maps of a 3.6 M model. Raises ConfigError if there is none.
    """
    inputs, outputs = inputs + -inputs % _WIDTHS, outputs + -outputs % _WIDTHS
    into = _into(noise(outputs, inputs, dtype), noise(1, outputs, dtype)[0], activation, kernel)
    left = activation if kernel == "plain" else None
    with one_thread(), torch.inference_mode():
        for tallest in _TALLEST:
            if _proven(into, noise(tallest, inputs, dtype), outputs, left):
                return tallest
    raise ConfigError(
        f"deterministic: not possible on this machine; a {dtype} map of {inputs} to {outputs} gives other bits "
        f"in other company ({kernel} kernel). Switch deterministic off: results then hold to a tolerance"
    )


def _proven(into: _Into, rows: Tensor, outputs: int, activation: str | None) -> bool:
    """Return whether each row has equal bits in all tiles of up to that height.

    The height is the number of rows.
    """
    tallest = len(rows)
    expected = _in_tiles(into, rows, outputs, activation, _FINE)

    def holds(first: int, last: int) -> bool:
        found = _in_tiles(into, rows[first:last], outputs, activation, tallest)
        return torch.equal(found, expected[first:last])

    by_height = all(holds(0, height) for height in _HEIGHTS if height <= tallest)
    return by_height and all(holds(first, tallest) for first in (1, tallest - 71, tallest - 13, tallest - 1))


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread, as in an engine's thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def noise(n_rows: int, width: int, dtype: torch.dtype) -> Tensor:
    """Return fixed pseudo-random rows (n_rows, width) in -1 to 1.

    torch's own random state is not changed.
    """
    rng = torch.Generator().manual_seed(n_rows * 65_537 + width)
    return torch.rand(n_rows, width, generator=rng, dtype=dtype) * 2 - 1
