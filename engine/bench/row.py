"""A row of the bench: one way of running the same texts through the same weights."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from engine.bench.twin import Twin
from engine.bench.workload import Text
from engine.config import Dtype, ModelConfig
from engine.exits.cwb import ConfidenceWindow
from engine.exits.policy import State, answer, at_last_layer


@dataclass(frozen=True, slots=True)
class Said:
    """What a row said of a text."""

    ticket: int
    depth: int
    logits: tuple[float, ...]


class Row(Protocol):
    """Runs texts, each until its depth or, without early exits, to the last layer. Built outside the timing."""

    dtype: Dtype  # of its matrix products: names the limit that it is held to
    peer: bool  # somebody else's engine or schedule
    slots: int  # texts under way at once
    refilled: bool  # one by one as they fall free

    def run(self, texts: Sequence[Text]) -> list[Said]:
        """One for each text, in any order."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What all rows of a run share."""

    config: ModelConfig
    twin: Twin
    threads: int
    slots: int
    token_budget: int


Build = Callable[[Setting], Row]
"""Raises ModuleNotFoundError where a package is missing, ConfigError where the machine cannot run the row."""


class Exits:
    """The exit test of every row with early exits: computed for real after each pass, and then overruled by the
    text's own depth, so that all rows do the same work."""

    policy = ConfidenceWindow(delta=0.1, window=4)

    def __init__(self, layers: int) -> None:
        self._layers = layers

    def fresh(self, count: int) -> State:
        """The state of `count` new texts."""
        return self.policy.fresh(count, torch.empty(0))

    def test(
        self, texts: Sequence[Text], logits: Tensor, depths: Sequence[int], state: State
    ) -> tuple[list[bool], State]:
        """Who leaves, and the state of all (S, ...). logits (S, C) float32."""
        passes = torch.tensor(depths)
        decision = at_last_layer(self.policy.decide(answer(logits), passes, state), passes, self._layers)
        decision.leaving.tolist()
        return [depth >= text.depth for text, depth in zip(texts, depths, strict=True)], decision.state


def said(texts: Sequence[Text], depths: Sequence[int], logits: Tensor) -> list[Said]:
    """Rows of logits (S, C) as answers."""
    rows = logits.tolist()
    return [Said(text.ticket, depth, tuple(row)) for text, depth, row in zip(texts, depths, rows, strict=True)]


def batches(texts: Sequence[Text], size: int) -> Iterator[Sequence[Text]]:
    """In order, the last one maybe smaller."""
    for start in range(0, len(texts), size):
        yield texts[start : start + size]
