"""Admission and release: who gets a slot when, and that nothing of a released text stays in it."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from earlybird.engine.errors import ConfigError, SequenceTooLong
from earlybird.engine.exits.cwb import ConfidenceWindow
from earlybird.engine.exits.policy import Heads
from earlybird.engine.exits.spec import parse
from earlybird.engine.slots.packed import Packed
from earlybird.engine.slots.reference import Reference
from earlybird.engine.types import Request
from earlybird.schemas.signal import ExitReason


class Scripted:
    """A model whose answers are spelled out: a text's first token names its script, one logit pair a pass."""

    class Sizes:
        vocab_size, layers, max_positions, n_labels = 10, 4, 8, 2

    def __init__(self, scripts: Sequence[Sequence[float]]) -> None:
        self.config, self.dtype = self.Sizes(), torch.float32
        self._scripts = torch.tensor(scripts)

    def embed(self, token_ids: Tensor, lengths: Sequence[int]) -> Tensor:
        return token_ids.float()[:, None]

    def advance(self, hidden: Tensor, lengths: Sequence[int], depths: Sequence[int]) -> Tensor:
        assert list(depths) == sorted(depths, reverse=True), "the texts of one depth are one block of rows"
        return hidden

    def classify(self, hidden: Tensor, lengths: Sequence[int], depths: Sequence[int]) -> Heads:
        first = [int(text[0]) for text in torch.split(hidden, list(lengths))]
        favour = torch.stack([self._scripts[name, depth - 1] for name, depth in zip(first, depths, strict=True)])
        return Heads(torch.stack([favour, torch.zeros_like(favour)], dim=1))


def test_a_window_never_crosses_two_texts_in_one_slot(drain: Callable[..., Any]) -> None:
    """The first text leaves on a rising window; the one that follows it into the slot rises from where the first
    stopped. With the first one's memory it would leave after one pass, on a window of two different texts."""
    model = Scripted([[0.1, 0.2, 0.3, 0.4], [0.5, 0.3, 0.2, 0.1]])
    first, second = Request(1, (0,)), Request(2, (1,))
    runner = Packed(model, ConfidenceWindow(0.0, 3), slots=1, token_budget=8)
    said = {verdict.ticket: (verdict.exit_layer, verdict.exit_reason) for verdict in drain(runner, [first, second])}
    assert said == {1: (3, ExitReason.WINDOW), 2: (4, ExitReason.LAST_LAYER)}


def test_memories_follow_their_texts_when_a_neighbour_leaves(drain: Callable[..., Any]) -> None:
    """Three texts leave at different depths; closing the ranks must not hand one's window to another."""
    model = Scripted([[0.4, 0.3, 0.2, 0.1], [9.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]])
    requests = [Request(name, (name,) * (name + 1)) for name in range(4)]
    said = drain(Packed(model, ConfidenceWindow(0.1, 3), slots=3, token_budget=100), requests)
    assert [(verdict.ticket, verdict.exit_layer) for verdict in said] == [(1, 1), (2, 3), (0, 4), (3, 3)]


def test_slots_and_token_budget_bound_what_is_admitted() -> None:
    """First in, first out: the head waits for room and nobody overtakes it."""
    runner = Packed(Scripted([[0.0] * 4]), parse("full", 4), slots=3, token_budget=8)
    runner.submit([Request(ticket, (0,) * length) for ticket, length in enumerate([3, 4, 2, 1, 1])])
    assert (runner.waiting, runner.active) == (5, 0)
    assert runner.step() == []
    assert (runner.waiting, runner.active) == (3, 2), "2 tokens do not fit, and 1 token may not overtake them"
    runner.step()
    runner.step()
    assert [verdict.ticket for verdict in runner.step()] == [0, 1]
    runner.step()
    assert (runner.waiting, runner.active) == (0, 3)


def test_a_text_longer_than_the_budget_runs_alone(drain: Callable[..., Any]) -> None:
    """Otherwise it would wait for ever."""
    runner = Packed(Scripted([[0.0] * 4]), parse("fixed:1", 4), slots=3, token_budget=2)
    runner.submit([Request(0, (0,)), Request(1, (0,) * 8), Request(2, (0,))])
    assert [[verdict.ticket for verdict in runner.step()] for _ in range(4)] == [[0], [1], [2], []]


@pytest.mark.parametrize("kind", ["packed", "reference"])
def test_a_text_of_no_or_too_many_tokens_is_refused_with_all_its_company(kind: str) -> None:
    """All or nothing: the caller knows what is under way."""
    model, policy = Scripted([[0.0] * 4]), parse("full", 4)
    runner = Packed(model, policy, 2, 100) if kind == "packed" else Reference(model, policy)
    for tokens in ((), (0,) * 9):
        with pytest.raises(SequenceTooLong, match=f"request 7: 1 to 8 tokens allowed, was {len(tokens)}"):
            runner.submit([Request(1, (0,)), Request(7, tokens)])
    assert runner.waiting == 0
    assert runner.step() == []


def test_an_idle_runner_says_nothing_and_starts_again(
    tiny: Callable[..., Any], hostile: Callable[..., Any], drain: Callable[..., Any]
) -> None:
    """An empty table is a state like any other."""
    model = tiny()
    runner = Packed(model, parse("cwb:delta=0.3,window=3", 8), 4, 64)
    requests = hostile("mixed", 12)
    once, nothing, again = drain(runner, requests), runner.step(), drain(runner, requests)
    assert nothing == []
    assert once == again


@pytest.mark.parametrize(("slots", "budget"), [(0, 10), (1, 0), (-3, 10)])
def test_impossible_sizes_are_refused(slots: int, budget: int) -> None:
    """At start."""
    with pytest.raises(ConfigError, match="at least 1"):
        Packed(Scripted([[0.0] * 4]), parse("full", 4), slots, budget)
