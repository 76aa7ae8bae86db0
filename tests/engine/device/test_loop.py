"""The resident loop says what one text at a time says, on the CPU and at once; late lanes are another file's."""

import dataclasses
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from earlybird.engine.config import EngineConfig
from earlybird.engine.device import loop as resident
from earlybird.engine.device.layer import Tiles
from earlybird.engine.device.loop import Resident
from earlybird.engine.device.step import Tier
from earlybird.engine.device.streams import Immediate
from earlybird.engine.engine import Engine
from earlybird.engine.errors import ConfigError, DeviceLost, SequenceTooLong
from earlybird.engine.exits.spec import parse
from earlybird.engine.slots.packed import Packed
from earlybird.engine.slots.reference import trace
from earlybird.engine.types import Request, Verdict
from parity import POLICIES, assert_same, outcome

ALL_POLICIES = (*POLICIES, "fixed:1", "learned:threshold=0.6")
TIERS = (
    (Tier(2, 1),),
    (Tier(3, 10, 2),),
    (Tier(4, 64), Tier(16, 256, 3)),
    (Tier(1, 40), Tier(2, 41, 2), Tier(40, 500, 5)),
)


@pytest.mark.parametrize("geometry", ["albert", "late-norm"])
@pytest.mark.parametrize("how", ["mixed", "extremes", "ones", "longest"])
@pytest.mark.parametrize("spec", ALL_POLICIES)
def test_resident_agrees_with_one_at_a_time_on_hostile_lengths(
    pair: Callable[..., Any], hostile: Callable[..., Any], drain: Callable[..., Any], geometry: str, how: str, spec: str
) -> None:
    """float32 under the margin rule: every policy, budgets that one text breaks, rings that wrap, tiers that change,
    exits all at layer 1 and none before the last."""
    models, requests = pair(geometry, torch.float32), hostile(how, 24)
    policy = parse(spec, models.oracle.config.layers, learned_exits=True)
    expected = {request.ticket: trace(models.oracle, policy, request) for request in requests}
    for number, tiers in enumerate(TIERS):
        runner = Resident(models.static, policy, tiers, Immediate(), entries=(24, 3, 16, 25)[number])
        said = drain(runner, requests, (None, 1, 5, 7)[number])
        assert_same(said, expected, 1e-5, 2e-5, 0.1)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 90), st.integers(1, 4)), min_size=1, max_size=3),
    entries=st.integers(1, 30),
    ahead=st.integers(1, 3),
    chunk=st.one_of(st.none(), st.integers(1, 9)),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    order=st.randoms(use_true_random=False),
)
def test_any_order_tiers_and_rings_give_the_same_verdicts(
    pair: Callable[..., Any],
    drain: Callable[..., Any],
    sizes: list[tuple[int, int, int]],
    entries: int,
    ahead: int,
    chunk: int | None,
    lengths: list[int],
    order: random.Random,
) -> None:
    """float64: label, layer and reason equal without exception."""
    models = pair("late-norm")
    policy = parse("cwb:delta=0.5,window=2", models.oracle.config.layers)
    slots, tokens = sorted(size[0] for size in sizes), sorted({size[1] for size in sizes})
    tiers = [Tier(n, t, size[2]) for n, t, size in zip(slots, tokens, sizes, strict=False)]
    requests = [
        Request(ticket, tuple((ticket * 31 + place * 7) % 97 for place in range(length)))
        for ticket, length in enumerate(lengths)
    ]
    expected = {each.ticket: outcome(trace(models.oracle, policy, each).verdict) for each in requests}
    order.shuffle(requests)
    said = drain(Resident(models.static, policy, tiers, Immediate(), entries, ahead), requests, chunk)
    assert len(said) == len(expected)
    assert {verdict.ticket: outcome(verdict) for verdict in said} == expected


def test_exits_spread_or_these_tests_would_say_nothing(
    pair: Callable[..., Any], hostile: Callable[..., Any], drain: Callable[..., Any]
) -> None:
    """Both geometries let texts out at several depths, for several reasons."""
    for geometry in ("albert", "late-norm"):
        models = pair(geometry)
        runner = Resident(models.static, parse(POLICIES[0], 6), TIERS[2], Immediate())
        said = drain(runner, hostile("mixed", 200))
        assert len(Counter(verdict.exit_layer for verdict in said)) >= 4
        assert len(Counter(verdict.exit_reason for verdict in said)) >= 2


def test_texts_are_admitted_as_packed_slots_admit_them(pair: Callable[..., Any], hostile: Callable[..., Any]) -> None:
    """Step by step: same budget, same slots, same order, so the same texts leave in the same step. With one step a
    batch and one batch under way the resident loop has no lead."""
    models, policy = pair("albert"), parse(POLICIES[0], 6)
    requests = hostile("mixed", 60)
    for slots, budget in ((1, 40), (3, 10), (5, 100)):
        ours = Resident(models.static, policy, (Tier(slots, budget),), Immediate(), entries=60, ahead=1)
        theirs = Packed(models.oracle, policy, slots, budget)
        ours.submit(requests)
        theirs.submit(requests)
        while theirs.waiting or theirs.active:
            assert [each.ticket for each in ours.step()] == [each.ticket for each in theirs.step()]
            assert (ours.waiting, ours.active) == (theirs.waiting, theirs.active)
        assert (ours.waiting, ours.active) == (0, 0)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("geometry", ["albert", "late-norm"])
def test_tiles_make_a_texts_bits_its_own(
    pair: Callable[..., Any], hostile: Callable[..., Any], drain: Callable[..., Any], geometry: str, batched: bool
) -> None:
    """float32 with tiles: any company, order and tier, to the last bit. (On the CPU; what a card's kernels do is for
    the fingerprint at start to find out.)"""
    models, policy = pair(geometry, torch.float32, Tiles(64, 4, batched)), parse("cwb:delta=0.4,window=3", 6)
    requests = hostile("mixed", 60)
    seen = []
    for number, tiers in enumerate(((Tier(4, 64),), (Tier(16, 256),), (Tier(4, 64), Tier(8, 128, 2), Tier(20, 512)))):
        random.Random(number).shuffle(requests)
        said = drain(Resident(models.static, policy, tiers, Immediate()), requests, (None, 3, 9)[number])
        seen.append({verdict.ticket: verdict for verdict in said})
    assert seen[0] == seen[1] == seen[2]


def test_an_idle_runner_launches_nothing_and_starts_again(
    pair: Callable[..., Any], hostile: Callable[..., Any], drain: Callable[..., Any]
) -> None:
    """An empty queue costs no step; what comes later is said as before."""
    models, requests = pair("albert"), hostile("mixed", 12)
    runner = Resident(models.static, parse(POLICIES[0], 6), TIERS[2], Immediate(), entries=5)
    assert runner.step() == []
    once = drain(runner, requests)
    counts = runner.table.counts.clone()
    assert runner.step() == runner.step() == []
    assert torch.equal(runner.table.counts, counts)
    again = drain(runner, requests)
    assert {verdict.ticket: outcome(verdict) for verdict in once} == {each.ticket: outcome(each) for each in again}


def test_a_text_of_no_or_too_many_tokens_is_refused_with_all_its_company(pair: Callable[..., Any]) -> None:
    """All or nothing, as by every runner."""
    runner = Resident(pair("albert").static, parse("full", 6), TIERS[0], Immediate())
    for tokens in ((), (0,) * 41):
        with pytest.raises(SequenceTooLong, match=f"request 7: 1 to 40 tokens allowed, was {len(tokens)}"):
            runner.submit([Request(1, (0,)), Request(7, tokens)])
    assert (runner.waiting, runner.active, runner.step()) == (0, 0, [])


@pytest.mark.parametrize(
    "tiers", [(), (Tier(0, 10),), (Tier(4, 0),), (Tier(4, 10, 0),), (Tier(4, 64), Tier(2, 128)), (Tier(4, 64),) * 2]
)
def test_impossible_tiers_are_refused(pair: Callable[..., Any], tiers: tuple[Tier, ...]) -> None:
    """At start."""
    with pytest.raises(ConfigError, match="tiers"):
        Resident(pair("albert").static, parse("full", 6), tiers, Immediate())


def test_a_failing_device_is_told_apart_from_a_failing_text(
    pair: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DeviceLost: no text is at fault, and no retry in this process helps."""

    class Failing(Immediate):
        def graph(self, step: Callable[[], None]) -> Callable[[], None]:
            return fail

    def fail() -> None:
        raise resident.DeviceError("an illegal memory access was encountered")

    runner = Resident(pair("albert").static, parse("full", 6), TIERS[0], Failing())
    runner.submit([Request(1, (5,))])
    with pytest.raises(DeviceLost, match="cpu: an illegal memory access"):
        runner.step()


def test_the_bundled_model_runs_resident_and_says_what_packed_slots_say() -> None:
    """Through Engine, deterministic, two tiers: same outcomes; a fingerprint of its own path; nothing left `auto`."""
    texts = [tuple((ticket * 131 + place * 17) % 900 + 5 for place in range(ticket % 30 + 2)) for ticket in range(24)]
    said = {}
    for name in ("packed", "resident"):
        tiers = ((4, 128, 1), (16, 512, 2)) if name == "resident" else None
        engine = Engine.load(EngineConfig(runner=name, device="cpu", tiers=tiers))
        assert (engine.config.runner, engine.device) == (name, "cpu")
        runner = engine.runner()
        runner.submit([Request(ticket, ids) for ticket, ids in enumerate(texts)])
        found: list[Verdict] = []
        while runner.waiting or runner.active:
            found += runner.step()
        said[name] = {verdict.ticket: outcome(verdict) for verdict in found}
        assert len(engine.numerics) == 16
    assert said["packed"] == said["resident"]


def test_what_a_card_is_asked_for_stays_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing touches the card before a runner is asked for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    config = Engine.load(EngineConfig(tiers=((4, 128, 1),), compile=True)).config
    assert (config.runner, config.device, config.tiers, config.compile) == ("resident", "cuda", ((4, 128, 1),), True)


def test_auto_is_resolved_by_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CUDA: packed slots on the CPU, and cuda is refused by name."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    engine = Engine.load(EngineConfig())
    assert (engine.config.runner, engine.device, engine.slots, engine.in_flight) == ("packed", "cpu", 16, 16)
    card = EngineConfig(tiers=((4, 128, 1),), compile=True)
    packed, resident = (Engine.load(dataclasses.replace(card, runner=name)).config for name in ("auto", "resident"))
    assert (packed.runner, packed.tiers, packed.compile) == ("packed", None, False), "one configuration for both hosts"
    assert (resident.device, resident.tiers, resident.compile) == ("cpu", card.tiers, False)
    with pytest.raises(ConfigError, match="device: no CUDA device is usable here"):
        Engine.load(EngineConfig(device="cuda"))
    with pytest.raises(ConfigError, match="cuda needs the resident runner, was packed"):
        EngineConfig(device="cuda", runner="packed")
    with pytest.raises(ConfigError, match="int8"):
        EngineConfig(dtype="int8", runner="resident")
