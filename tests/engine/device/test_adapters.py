"""The resident loop runs a model with adapters of every depth as packed slots do."""

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch

from earlybird.engine.config import AdapterConfig, AdapterModule, Placement
from earlybird.engine.device.layer import Tiles
from earlybird.engine.device.loop import Resident
from earlybird.engine.device.step import Tier
from earlybird.engine.device.streams import Immediate
from earlybird.engine.exits.spec import parse
from earlybird.engine.slots.packed import Packed
from earlybird.engine.types import Verdict

TIERS = (Tier(4, 64), Tier(16, 256, 3))


def outcomes(said: list[Verdict]) -> dict[int, tuple[int, int, str]]:
    return {each.ticket: (each.label, each.exit_layer, each.exit_reason.value) for each in said}


@pytest.mark.parametrize("geometry", ["albert", "late-norm"])
@pytest.mark.parametrize("placement", get_args(Placement))
@pytest.mark.parametrize("module", get_args(AdapterModule))
def test_every_adapter_says_what_packed_slots_say(
    pair: Callable[..., Any],
    hostile: Callable[..., Any],
    drain: Callable[..., Any],
    geometry: str,
    placement: Placement,
    module: AdapterModule,
) -> None:
    """float64: label, layer and reason without exception. Three texts come per step: all depths at once."""
    models = pair(geometry, adapters=AdapterConfig(8, placement, module))
    requests = hostile("mixed", 30)
    for policy in (parse("full", 6), parse("cwb:delta=0.4,window=3", 6)):
        packed = drain(Packed(models.oracle, policy, 5, 90), requests, 3)
        said = drain(Resident(models.static, policy, TIERS, Immediate(), entries=25), requests, 3)
        assert outcomes(said) == outcomes(packed)
        expected = {verdict.ticket: verdict.logits for verdict in packed}
        for verdict in said:
            assert verdict.logits == pytest.approx(expected[verdict.ticket], abs=1e-9)


def test_each_depth_has_its_own_adapter(
    pair: Callable[..., Any], hostile: Callable[..., Any], drain: Callable[..., Any]
) -> None:
    """Without the fourth depth's adapter, texts change there and not before."""
    models, requests = pair("adapters"), hostile("mixed", 20)
    tensors = dict(models.oracle.tensors)
    for name in [name for name in tensors if name.startswith("adapter.3.up.")]:
        tensors[name] = torch.zeros_like(tensors[name])
    other = type(models.static)(models.static.config, tensors)
    for depth in range(1, 5):
        policy = parse(f"fixed:{depth}", 6)
        ours, theirs = (
            {each.ticket: each.logits for each in drain(Resident(model, policy, TIERS, Immediate()), requests)}
            for model in (models.static, other)
        )
        assert (ours == theirs) == (depth < 4)


@pytest.mark.parametrize("tiles", [Tiles(64, 4), Tiles(64, 4, batched=True)])
def test_bits_depend_on_the_text_alone(
    pair: Callable[..., Any], hostile: Callable[..., Any], drain: Callable[..., Any], tiles: Tiles
) -> None:
    """With tiles, in any order and company."""
    models, requests = pair("adapters", torch.float32, tiles), hostile("mixed", 40)
    policy = parse("cwb:delta=0.4,window=3", 6)
    runs = [
        drain(Resident(models.static, policy, TIERS, Immediate()), texts, chunk)
        for texts, chunk in ((requests, None), (requests[::-1], 3), (requests[:7], 1))
    ]
    first = {each.ticket: each.logits for each in runs[0]}
    assert all(first[each.ticket] == each.logits for run in runs for each in run)
