"""Eight bits: near the float answer, and the same whoever else is there."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from earlybird.engine.config import ModelConfig
from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.spec import parse
from earlybird.engine.model import Elbert
from earlybird.engine.slots.cpu_linear import linears
from earlybird.engine.slots.int8 import EightBits, weight_range
from earlybird.engine.slots.packed import Packed
from earlybird.engine.slots.reference import trace
from earlybird.engine.weights import shapes

SMALL = ModelConfig(97, 24, 48, 4, 96, 6, 40, "project_then_norm", "mean", "gelu", 1e-12)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("activation", [None, "gelu", "gelu_new"])
@pytest.mark.parametrize(("inputs", "outputs"), [(384, 1152), (1536, 384), (48, 144), (4, 3)])
def test_eight_bits_compute_nearly_what_floats_compute(inputs: int, outputs: int, activation: str | None) -> None:
    """Within 1 % of the outputs' spread on average, also for rows far from zero and for rows of equal entries."""
    weight, bias = noise(1, outputs, inputs) / inputs**0.5, noise(2, outputs)
    rows = torch.cat([noise(3, 70, inputs), noise(4, 10, inputs) + 5.0, torch.full((1, inputs), 0.25)])
    expected = F.linear(rows, weight, bias)
    if activation:
        expected = F.gelu(expected, approximate="none" if activation == "gelu" else "tanh")
    said = EightBits(False)(weight, bias, activation)(rows)
    assert (said - expected).abs().mean() < 0.01 * expected.std().clamp_min(1.0)
    assert EightBits(False)(weight, None, None)(rows[:0]).shape == (0, outputs)


def test_the_largest_weights_and_inputs_do_not_overflow() -> None:
    """Sixteen-bit sums of two products would saturate at full range on a CPU without VNNI: half of the answer."""
    weight, rows = torch.ones(16, 256), torch.ones(8, 256)
    rows[:, 0] = 0.0  # so that the quantised row spans 0 to 255
    said = EightBits(False)(weight, None, None)(rows)
    torch.testing.assert_close(said, torch.full((8, 16), 255.0), rtol=1e-3, atol=0)
    assert weight_range() in (64, 127)


def test_a_rows_answer_does_not_depend_on_its_neighbours() -> None:
    """Scales are per row: a neighbour a thousand times as large changes no bit."""
    linear = EightBits(True)(noise(1, 96, 48), noise(2, 96), "gelu")
    rows = noise(3, 40, 48)
    alone = torch.cat([linear(row[None]) for row in rows])
    assert torch.equal(linear(rows), alone)
    assert torch.equal(linear(torch.cat([rows * 1000.0, rows]))[40:], alone)


def test_verdicts_in_eight_bits_are_equal_to_the_last_bit_in_any_company(
    hostile: Callable[..., Any], drain: Callable[..., Any]
) -> None:
    """Deterministic mode holds for int8 as it does for float32."""
    rng = torch.Generator().manual_seed(1)
    tensors = {
        name: (1.0 if name.endswith("norm.weight") else 0.0) + torch.randn(shape, generator=rng) / shape[-1] ** 0.5
        for name, shape in shapes(SMALL).items()
    }
    model = Elbert(SMALL, tensors, factory=linears(True), layer_factory=EightBits(True))
    policy, requests = parse("cwb:delta=0.4,window=3", SMALL.layers), hostile("mixed", 40)
    alone = {request.ticket: trace(model, policy, request).verdict for request in requests}
    for slots, budget, chunk in ((1, 40, 1), (5, 90, 3), (16, 512, None)):
        said = drain(Packed(model, policy, slots, budget), requests, chunk)
        assert {verdict.ticket: verdict for verdict in said} == alone


def test_odd_widths_are_refused() -> None:
    """With the value."""
    with pytest.raises(ConfigError, match="multiple of 4 inputs required, was 33"):
        EightBits(False)(noise(1, 8, 33), None, None)
