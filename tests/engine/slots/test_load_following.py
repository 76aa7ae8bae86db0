"""The queue chooses a text's policy once, when it enters its slot; nothing else changes its verdict."""

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
from earlybird.engine.exits.ladder import Ladder
from earlybird.engine.exits.spec import parse
from earlybird.engine.slots.packed import Packed
from earlybird.engine.slots.reference import Reference, trace
from earlybird.engine.slots.runner import Runner
from earlybird.engine.temperatures import reported
from earlybird.engine.types import Request, Verdict

LAYERS = 6
SPEC = "load:idle=(cwb:delta=0.15,window=4),busy=(patience:count=1),at=3,busy=(entropy:threshold=0.6),at=9"
BY_HAND = "load:idle=(fixed:3),busy=(fixed:1),at=2"
RUNNERS = ("reference", "packed", "resident")


def runner_of(name: str, pair: Any, spec: str, slots: int, temperatures: torch.Tensor | None = None) -> Runner:
    policy = parse(spec, LAYERS)
    if name == "reference":
        return Reference(pair.oracle, policy, temperatures)
    if name == "packed":
        return Packed(pair.oracle, policy, slots, 40 * slots, temperatures)
    return Resident(pair.static, policy, [Tier(slots, 40 * slots)], Immediate(), temperatures=temperatures)


def drained(runner: Runner, requests: Sequence[Request], chunk: int, behind: Sequence[int | None]) -> list[Verdict]:
    """Submit `chunk` before every step, under a course of the queue behind them."""
    said: list[Verdict] = []
    waiting, step = list(requests), 0
    while waiting or runner.waiting or runner.active:
        runner.submit(waiting[:chunk])
        waiting, runner.behind = waiting[chunk:], behind[step % len(behind)]
        said += runner.step()
        step += 1
    return said


@pytest.mark.parametrize("name", RUNNERS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    slots=st.integers(1, 7),
    chunk=st.integers(1, 12),
    behind=st.lists(st.one_of(st.none(), st.integers(0, 30)), min_size=1, max_size=9),
    recorded=st.lists(st.sampled_from([None, None, 0, 1, 2]), min_size=1, max_size=7),
)
def test_given_its_rung_a_verdict_depends_on_the_text_alone(
    pair: Callable[..., Any],
    hostile: Callable[..., Any],
    name: str,
    slots: int,
    chunk: int,
    behind: list[int | None],
    recorded: list[int | None],
) -> None:
    """Any slots, arrival and course of the queue, rungs side by side: label, layer and reason of the rung's policy
    alone; a recorded rung is taken; and the run repeated with what it recorded says the same."""
    models = pair("albert")
    requests = [
        replace(request, rung=recorded[request.ticket % len(recorded)]) for request in hostile("mixed", 15, seed=slots)
    ]
    ladder = parse(SPEC, LAYERS)
    assert isinstance(ladder, Ladder)
    runner = runner_of(name, models, SPEC, slots)
    said = {verdict.ticket: verdict for verdict in drained(runner, requests, chunk, behind)}
    assert sorted(said) == [request.ticket for request in requests]
    for request in requests:
        verdict = said[request.ticket]
        assert verdict.rung is not None and request.rung in (None, verdict.rung)
        alone = trace(models.oracle, ladder.rungs[verdict.rung], replace(request, rung=None)).verdict
        assert (verdict.label, verdict.exit_layer, verdict.exit_reason) == (
            alone.label,
            alone.exit_layer,
            alone.exit_reason,
        )
        assert verdict.logits == pytest.approx(alone.logits, abs=1e-9)
    again = [replace(request, rung=said[request.ticket].rung) for request in requests[::-1]]
    for verdict in drained(runner_of(name, models, SPEC, 3), again, 5, [None]):
        first = said[verdict.ticket]
        assert (verdict.rung, verdict.label, verdict.exit_layer) == (first.rung, first.label, first.exit_layer)


@pytest.mark.parametrize(
    ("name", "rungs"),
    [("reference", [1, 1, 1, 1, 1, 0]), ("packed", [1, 1, 1, 1, 0, 0]), ("resident", [1, 1, 1, 1, 0, 0])],
)
def test_the_rung_is_that_of_the_queue_a_text_leaves_behind(
    pair: Callable[..., Any], hostile: Callable[..., Any], name: str, rungs: list[int]
) -> None:
    """Six texts for two slots (one in the reference), busy from two waiting on, until fewer than one waits."""
    runner = runner_of(name, pair("albert"), BY_HAND, 2)
    said = drained(runner, hostile("mixed", 6), 6, [0])
    assert [verdict.rung for verdict in sorted(said, key=lambda verdict: verdict.ticket)] == rungs
    assert all(verdict.exit_layer == (3, 1)[verdict.rung or 0] for verdict in said)


@pytest.mark.parametrize("name", RUNNERS)
def test_texts_that_wait_elsewhere_count_and_no_queue_is_idle(
    pair: Callable[..., Any], hostile: Callable[..., Any], name: str
) -> None:
    """One text at a time with ever more behind it; the number that leads up is the policy's."""
    runner = runner_of(name, pair("albert"), BY_HAND, 2)
    seen = []
    for request, behind in zip(hostile("mixed", 6), (None, 1, 2, 1, 0, None), strict=True):
        seen += [verdict.rung for verdict in drained(runner, [request], 1, [behind])]
    assert seen == [0, 0, 1, 1, 0, 0]


@pytest.mark.parametrize("name", ["packed", "resident"])
def test_a_text_in_its_slot_keeps_its_rung(pair: Callable[..., Any], hostile: Callable[..., Any], name: str) -> None:
    """The queue grows after one text was admitted, and shrinks after another was."""
    runner = runner_of(name, pair("albert"), BY_HAND, 2)
    first, second = hostile("mixed", 2)
    runner.submit([first])
    runner.behind = 0
    said = runner.step()
    runner.submit([second])
    runner.behind = 50
    while len(said) < 2:
        said += runner.step()
        runner.behind = 0
    assert {verdict.ticket: (verdict.rung, verdict.exit_layer) for verdict in said} == {0: (0, 3), 1: (1, 1)}


@pytest.mark.parametrize("name", RUNNERS)
def test_temperatures_are_those_of_the_rung(pair: Callable[..., Any], hostile: Callable[..., Any], name: str) -> None:
    """One row per rung; depths as ever."""
    table = torch.arange(1, 2 * LAYERS + 1, dtype=torch.float64).view(2, LAYERS) / 3
    runner = runner_of(name, pair("albert"), BY_HAND, 2, table)
    for verdict in drained(runner, hostile("mixed", 12), 12, [0]):
        assert verdict.rung is not None
        row = table[verdict.rung][None]
        logits = torch.tensor([verdict.logits], dtype=torch.float64)
        expected = reported(logits, row, torch.tensor([verdict.exit_layer]))
        assert verdict.probs == pytest.approx(expected[0].tolist(), abs=1e-9)
