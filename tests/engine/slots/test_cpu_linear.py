"""Linear maps: right, and in deterministic mode equal to the last bit in any company."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from earlybird.engine.errors import ConfigError
from earlybird.engine.slots import cpu_linear as kernels
from earlybird.engine.slots.cpu_linear import best_kernel, linears

SHAPES = [(384, 1152), (384, 1536), (1536, 384), (128, 384), (768, 3), (33, 65), (1, 1)]
COUNTS = (0, 1, 7, 8, 63, 65, 128, 129, 255, 256, 257, 300, 511, 512, 513)
MOST = max(COUNTS)


def noise(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture(autouse=True)
def fresh_proofs() -> Iterator[None]:
    """Proofs are remembered for the process; one that a test spoils must not be."""
    yield
    kernels._prove.cache_clear()


@pytest.mark.parametrize("activation", [None, "gelu", "gelu_new"])
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("kernel", ["plain", "prepacked"])
def test_linears_compute_what_torch_computes(
    kernel: kernels.Kernel, deterministic: bool, activation: str | None
) -> None:
    """Any number of rows, with and without bias."""
    weight, rows = noise(1, 48, 33) * 0.2, noise(2, MOST, 33)
    for bias in (None, noise(3, 48)):
        linear = linears(deterministic, kernel)(weight, bias, activation)
        expected = F.linear(rows, weight, bias)
        if activation:
            expected = F.gelu(expected, approximate="none" if activation == "gelu" else "tanh")
        for count in COUNTS:
            torch.testing.assert_close(linear(rows[:count]), expected[:count], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
def test_a_rows_bits_depend_on_that_row_alone(inputs: int, outputs: int, dtype: torch.dtype) -> None:
    """Among any number of others, at any place, in a view that starts anywhere."""
    linear = linears(True)(noise(1, outputs, inputs, dtype=dtype), noise(2, outputs, dtype=dtype), "gelu")
    rows = noise(3, MOST, inputs, dtype=dtype)
    alone = torch.cat([linear(rows[place : place + 1]) for place in range(MOST)])
    for count in COUNTS:
        for first in (0, 1, MOST - count):
            few = rows[first : first + count]
            assert torch.equal(linear(few), alone[first : first + count])
    shuffled = torch.randperm(MOST, generator=torch.Generator().manual_seed(4))
    assert torch.equal(linear(rows[shuffled]), alone[shuffled])


def test_determinism_that_does_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim that the machine cannot keep is found at start: here a GEMM whose bits move with the number of rows."""
    honest = kernels._into

    def moody(*arguments: Any) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        into = honest(*arguments)
        return lambda rows, out: into(rows, out).mul_(1.0 + (len(rows) == 208) * 1e-6)

    monkeypatch.setattr(kernels, "_into", moody)
    kernels._prove.cache_clear()
    with pytest.raises(ConfigError, match="deterministic: not possible on this machine"):
        linears(True)(noise(1, 32, 32), None, None)


def test_where_only_the_tallest_tiles_differ_lower_ones_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GEMM that goes another way from 400 rows up costs speed and not determinism."""
    honest = kernels._into

    def moody(*arguments: Any) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        into = honest(*arguments)
        return lambda rows, out: into(rows, out).mul_(1.0 + (len(rows) >= 400) * 1e-6)

    monkeypatch.setattr(kernels, "_into", moody)
    kernels._prove.cache_clear()
    linear, rows = linears(True)(noise(1, 32, 32), None, None), noise(2, MOST, 32)
    whole = linear(rows)
    assert torch.equal(whole[: MOST - 100], linear(rows[: MOST - 100]))
    assert torch.equal(whole[200:208], linear(rows[200:208]))


@pytest.mark.parametrize("count", COUNTS)
def test_filled_rows_are_taken_as_they_are(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever fills up to `filled` saves every map from doing it again, at little waste, whichever tile is tallest."""
    maker = linears(True)
    filled = maker.filled(count)
    assert count <= filled < count + 16
    assert linears(False).filled(count) == count
    monkeypatch.setattr(F, "pad", None)  # would be called to fill up
    for tallest in (256, 512):
        into = kernels._into(noise(1, 16, 16), None, None, "plain")
        assert len(kernels._in_tiles(into, noise(2, filled, 16), 16, None, tallest)) == filled


def test_the_choice_has_a_name_and_never_changes() -> None:
    """For the log, and so that a restart gives the same bits."""
    assert linears(True).kernel == best_kernel()
    assert best_kernel() in ("plain", "prepacked")


def test_unknown_activations_are_refused() -> None:
    """With the value."""
    with pytest.raises(ConfigError, match="was 'relu'"):
        linears(False)(noise(1, 4, 4), None, "relu")


def test_proving_leaves_torchs_threads_and_random_state_alone() -> None:
    """No side effects on whoever loads a model."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    linears(True)(noise(1, 80, 48), None, "gelu")
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
