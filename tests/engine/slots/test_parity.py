"""Slots change when a text is answered, never what is said of it."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from earlybird.engine.exits.policy import ExitPolicy
from earlybird.engine.exits.spec import parse
from earlybird.engine.slots.layered import LayeredModel
from earlybird.engine.slots.packed import Packed
from earlybird.engine.slots.reference import Reference, Trace, trace
from earlybird.engine.types import Request
from parity import POLICIES, assert_same

MARGIN = 1e-5  # of probability or puzzlement: a float32 text nearer than this to a threshold may fall either way


def oracle(model: LayeredModel, policy: ExitPolicy, requests: Sequence[Request]) -> dict[int, Trace]:
    return {request.ticket: trace(model, policy, request) for request in requests}


@pytest.mark.parametrize("spec", POLICIES)
@pytest.mark.parametrize("how", ["mixed", "extremes", "equal", "ones", "longest"])
def test_packed_agrees_with_one_at_a_time_on_hostile_lengths(
    tiny: Callable[..., Any], hostile: Callable[..., Any], drain: Callable[..., Any], how: str, spec: str
) -> None:
    """float32: under the margin rule, over budgets that a single text breaks and slot counts from 1 up."""
    model, requests = tiny(), hostile(how, 60)
    policy = parse(spec, model.config.layers)
    expected = oracle(model, policy, requests)
    for slots, budget, chunk in ((1, 40, None), (3, 10, 1), (16, 200, None), (64, 10_000, 7)):
        said = drain(Packed(model, policy, slots, budget), requests, chunk)
        assert_same(said, expected, MARGIN, 2e-5, 0.02)


def test_packed_agrees_exactly_in_float64(
    tiny: Callable[..., Any], hostile: Callable[..., Any], drain: Callable[..., Any]
) -> None:
    """float64 leaves no text near a threshold: label and layer equal, without exception."""
    model, requests = tiny(torch.float64), hostile("mixed", 300, seed=3)
    for spec in POLICIES[:3]:
        policy = parse(spec, model.config.layers)
        expected = oracle(model, policy, requests)
        depths = Counter(alone.verdict.exit_layer for alone in expected.values())
        assert len(depths) >= 4, f"exits must spread for this test to mean something, was {depths}"
        assert_same(drain(Packed(model, policy, 8, 128), requests), expected, 0.0, 1e-12, 0.02)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    slots=st.integers(1, 20),
    budget=st.integers(1, 300),
    chunk=st.one_of(st.none(), st.integers(1, 9)),
    order=st.randoms(use_true_random=False),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=30),
)
def test_any_order_of_arrival_gives_the_same_verdicts(
    tiny: Callable[..., Any],
    drain: Callable[..., Any],
    slots: int,
    budget: int,
    chunk: int | None,
    order: random.Random,
    lengths: list[int],
) -> None:
    """Any slot count, token budget, order and chunking of submissions."""
    model = tiny(torch.float64)
    policy = parse("cwb:delta=0.3,window=2", model.config.layers)
    requests = [
        Request(ticket, tuple((ticket * 31 + place * 7) % 97 for place in range(length)))
        for ticket, length in enumerate(lengths)
    ]
    expected = oracle(model, policy, requests)
    order.shuffle(requests)
    said = drain(Packed(model, policy, slots, budget), requests, chunk)
    assert sorted(verdict.ticket for verdict in said) == sorted(expected)
    for verdict in said:
        alone = expected[verdict.ticket].verdict
        assert (verdict.label, verdict.exit_layer) == (alone.label, alone.exit_layer)


def test_reference_runner_says_what_trace_says(
    tiny: Callable[..., Any], hostile: Callable[..., Any], drain: Callable[..., Any]
) -> None:
    """The oracle behind the runner interface, in order of arrival."""
    model, requests = tiny(), hostile("mixed", 20)
    policy = parse("cwb:delta=0.3,window=3", model.config.layers)
    said = drain(Reference(model, policy), requests)
    assert said == [trace(model, policy, request).verdict for request in requests]
