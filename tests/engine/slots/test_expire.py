"""Texts that may go no deeper: one meaning for every runner, and the answer is the one that depth gives."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from earlybird.engine.device.loop import Resident
from earlybird.engine.device.step import Tier
from earlybird.engine.device.streams import Immediate
from earlybird.engine.exits.spec import parse
from earlybird.engine.slots.packed import Packed
from earlybird.engine.slots.reference import Reference, trace
from earlybird.engine.slots.runner import Runner
from earlybird.engine.types import Request, Verdict
from earlybird.schemas.signal import ExitReason
from parity import outcome

LAYERS = 6


def runner_of(kind: str, models: Any, spec: str, slots: int) -> Runner:
    policy = parse(spec, LAYERS)
    if kind == "reference":
        return Reference(models.oracle, policy)
    if kind == "packed":
        return Packed(models.oracle, policy, slots, 90)
    return Resident(models.static, policy, (Tier(slots, 90),), Immediate(), entries=slots + 2, ahead=1)


def disturbed(runner: Runner, requests: Sequence[Request], rng: random.Random) -> tuple[list[Verdict], list[Request]]:
    """Everything said, and the requests with the limits that they should have had: `expire` comes at random, counted
    against the passes that each text has made by then. A text with a slot must leave in the step after it."""
    waiting, limits = list(requests), {request.ticket: request.depth_limit for request in requests}
    passes = dict.fromkeys(limits, 0)
    submitted, said = list[int](), list[Verdict]()
    while waiting or runner.waiting or runner.active:
        few = rng.randrange(4)
        runner.submit(waiting[:few])
        submitted += [request.ticket for request in waiting[:few]]
        del waiting[:few]
        flying = [ticket for ticket in submitted if ticket not in {verdict.ticket for verdict in said}]
        late = rng.sample(flying, rng.randrange(len(flying) + 1)) if rng.random() < 0.3 else []
        runner.expire([*late, -1])
        for ticket in late:
            limits[ticket] = min(passes[ticket] + 1, limits[ticket] or LAYERS)
        due = {ticket for ticket in flying if passes[ticket] and passes[ticket] + 1 >= (limits[ticket] or LAYERS)}
        out = runner.step()
        assert due <= {verdict.ticket for verdict in out}
        for ticket in submitted[: len(submitted) - runner.waiting]:
            passes[ticket] += 1
        said += out
    return said, [replace(request, depth_limit=limits[request.ticket]) for request in requests]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["reference", "packed", "resident"]),
    spec=st.sampled_from(["cwb:delta=0.4,window=3", "fixed:3", "full"]),
    slots=st.integers(1, 6),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=20),
    limited=st.booleans(),
    seed=st.integers(0, 1 << 32),
)
def test_every_runner_says_what_the_oracle_says_at_that_depth(
    pair: Callable[..., Any], kind: str, spec: str, slots: int, lengths: list[int], limited: bool, seed: int
) -> None:
    """float64, so every label, layer and reason: of requests with limits of their own and of ones that expire while
    they wait or in their slot. No text is said twice, and none loses its neighbour's limit or gets it."""
    models, rng = pair("late-norm"), random.Random(seed)
    requests = [
        Request(ticket, tuple(rng.choices(range(97), k=length)), rng.choice([None, 1, 3, 9]) if limited else None)
        for ticket, length in enumerate(lengths)
    ]
    said, as_limited = disturbed(runner_of(kind, models, spec, slots), requests, rng)
    policy = parse(spec, LAYERS)
    assert len(said) == len(requests)
    assert {verdict.ticket: outcome(verdict) for verdict in said} == {
        each.ticket: outcome(trace(models.oracle, policy, each).verdict) for each in as_limited
    }


@pytest.mark.parametrize("kind", ["reference", "packed", "resident"])
def test_an_expired_text_leaves_after_one_layer_and_its_ticket_starts_anew(
    kind: str, pair: Callable[..., Any], drain: Callable[..., Any]
) -> None:
    """Nothing of a limit stays behind for a later request of the same number, in the same slot or seat."""
    models = pair("albert")
    runner = runner_of(kind, models, "full", 1)
    again = [Request(ticket, (1, 2, 3)) for ticket in (1, 2, 3, 4, 7)]  # more than there are seats
    runner.submit(again[-1:])
    runner.expire([7])
    assert [outcome(verdict)[1:] for verdict in drain(runner, [])] == [(1, ExitReason.DEADLINE)]
    assert {outcome(verdict)[1:] for verdict in drain(runner, again)} == {(LAYERS, ExitReason.LAST_LAYER)}


@pytest.mark.parametrize(
    ("spec", "limit", "left"),
    [
        ("fixed:2", 2, (2, ExitReason.FIXED)),
        ("full", LAYERS, (LAYERS, ExitReason.LAST_LAYER)),
        ("full", LAYERS - 1, (LAYERS - 1, ExitReason.DEADLINE)),
    ],
)
def test_a_text_that_would_have_left_anyway_keeps_its_reason(
    pair: Callable[..., Any], spec: str, limit: int, left: tuple[int, ExitReason]
) -> None:
    """A deadline says that an answer was cut short; one that was not says so, and may be kept."""
    request = Request(0, (5, 6, 7), depth_limit=limit)
    assert outcome(trace(pair("albert").oracle, parse(spec, LAYERS), request).verdict)[1:] == left


def test_a_limit_gives_the_bits_of_the_same_depth(
    tiny: Callable[..., Any], hostile: Callable[..., Any], drain: Callable[..., Any]
) -> None:
    """Deterministic mode: an answer cut short in company is bit for bit the one that a replay cuts at that depth."""
    model, policy = tiny(torch.float32, deterministic=True), parse("cwb:delta=0.2,window=4", 8)
    runner, requests = Packed(model, policy, 5, 120), hostile("mixed", 30)
    runner.submit(requests)
    said: list[Verdict] = []
    for number in range(200):
        if number % 3 == 0:
            runner.expire([number, number + 1, number + 2])
        said += runner.step()
    cut = [verdict for verdict in said if verdict.exit_reason is ExitReason.DEADLINE]
    assert len(said) == 30 and len(cut) > 5
    for verdict in cut:
        request = replace(requests[verdict.ticket], depth_limit=verdict.exit_layer)
        assert trace(model, policy, request).verdict == verdict
