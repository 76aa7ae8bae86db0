"""Deterministic mode: a text's verdict, to the last bit, in any company."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from earlybird.engine.config import ModelConfig
from earlybird.engine.exits.spec import parse
from earlybird.engine.model import Elbert
from earlybird.engine.slots.cpu_linear import linears
from earlybird.engine.slots.packed import Packed
from earlybird.engine.slots.reference import trace
from earlybird.engine.types import Request, Verdict
from earlybird.engine.weights import shapes

ALBERT = ModelConfig(97, 16, 32, 2, 64, 6, 40, "norm_then_project", "first", "gelu_new", 1e-12)
LATE_NORM = ModelConfig(97, 24, 48, 4, 96, 6, 40, "project_then_norm", "mean", "gelu", 1e-12, 3, "per_layer")
GROUPS = replace(LATE_NORM, groups=4)
AS_BUNDLED = ModelConfig(97, 128, 384, 12, 1536, 4, 40, "project_then_norm", "mean", "gelu", 1e-12)

STREAMS = [(1, 40, 1), (2, 10, None), (4, 100, 3), (16, 512, None), (16, 512, 5), (64, 5000, None)]


def elbert(config: ModelConfig, dtype: torch.dtype, deterministic: bool) -> Elbert:
    """Random weights, wide enough for answers that differ."""
    rng = torch.Generator().manual_seed(1)
    tensors = {}
    for name, shape in shapes(config).items():
        middle = 1.0 if name.endswith("norm.weight") else 0.0
        spread = 1.0 if name == "embedding.words" else 1.2 / shape[-1] ** 0.5
        tensors[name] = (middle + spread * torch.randn(shape, generator=rng, dtype=torch.float64)).to(dtype)
    return Elbert(config, tensors, factory=linears(deterministic))


def in_every_stream(
    model: Elbert, requests: Sequence[Request], drain: Callable[..., list[Verdict]]
) -> list[Mapping[int, Verdict]]:
    """Verdicts by ticket: slot counts, budgets and chunks of STREAMS, each in another order of arrival."""
    policy = parse("cwb:delta=0.4,window=3", model.config.layers)
    streams = list[Mapping[int, Verdict]]()
    for number, (slots, budget, chunk) in enumerate(STREAMS):
        order = list(requests)
        random.Random(number).shuffle(order)
        said = drain(Packed(model, policy, slots, budget), order, chunk)
        assert sorted(verdict.ticket for verdict in said) == sorted(request.ticket for request in requests)
        streams.append({verdict.ticket: verdict for verdict in said})
    return streams


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("config", [ALBERT, LATE_NORM, GROUPS], ids=["albert", "late-norm", "groups"])
def test_verdicts_are_equal_to_the_last_bit_in_any_company(
    config: ModelConfig, dtype: torch.dtype, hostile: Callable[..., Any], drain: Callable[..., Any]
) -> None:
    """Any order, slot count, neighbours; and as the text alone."""
    model = elbert(config, dtype, deterministic=True)
    requests = hostile("mixed", 60) + [
        Request(1000 + request.ticket, request.token_ids) for request in hostile("extremes", 20, seed=1)
    ]
    policy = parse("cwb:delta=0.4,window=3", config.layers)
    alone = {request.ticket: trace(model, policy, request).verdict for request in requests}
    assert len({verdict.exit_layer for verdict in alone.values()}) >= 3, "exits must spread"
    for said in in_every_stream(model, requests, drain):
        assert said == alone


@pytest.mark.parametrize("config", [ALBERT, LATE_NORM, GROUPS], ids=["albert", "late-norm", "groups"])
def test_rows_of_filling_touch_no_text(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows are added behind the texts, the texts' states are the same to the last bit."""
    model, lengths = elbert(config, torch.float32, deterministic=True), [3, 40, 1, 17]
    hidden = model.embed(torch.arange(sum(lengths)), lengths)
    expected = model.advance(hidden, lengths, [1] * len(lengths))
    assert expected.shape == hidden.shape
    for more in (3, 64, 512):
        monkeypatch.setattr(model, "_filled", lambda n_rows, more=more: n_rows + more)
        assert torch.equal(model.advance(hidden, lengths, [1] * len(lengths)), expected)


def test_the_bundled_models_shapes_are_deterministic_too(
    hostile: Callable[..., Any], drain: Callable[..., Any]
) -> None:
    """384 wide, 1536 between: other kernels than a tiny model's."""
    model = elbert(AS_BUNDLED, torch.float32, deterministic=True)
    first, *others = in_every_stream(model, hostile("mixed", 24), drain)
    assert all(said == first for said in others)


def test_fast_mode_agrees_within_its_tolerance(hostile: Callable[..., Any], drain: Callable[..., Any]) -> None:
    """The same model without determinism: layers and labels by the margin rule, logits within 2e-5."""
    policy = parse("cwb:delta=0.4,window=3", ALBERT.layers)
    model = elbert(ALBERT, torch.float32, deterministic=False)
    alone = {request.ticket: trace(model, policy, request) for request in hostile("mixed", 200)}
    for verdict in drain(Packed(model, policy, 16, 512), hostile("mixed", 200)):
        expected = alone[verdict.ticket]
        if expected.margin > 1e-5:
            assert (verdict.label, verdict.exit_layer) == (expected.verdict.label, expected.verdict.exit_layer)
            assert verdict.logits == pytest.approx(expected.verdict.logits, abs=2e-5)
