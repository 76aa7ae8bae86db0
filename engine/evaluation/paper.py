"""Shared parts of the two papers' tables for a user's models and texts.

A cell that cannot be computed from what is given is empty, and a note says what would fill it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from earlybird.engine.errors import ConfigError
from earlybird.engine.evaluation.compare import same_texts
from earlybird.engine.evaluation.outputs import Outputs
from earlybird.engine.evaluation.speed import Run
from earlybird.engine.evaluation.sweep import Point, sweep

Measure = Callable[[Outputs, str, int], Run | None]
"""Runs a model on the texts of its outputs with a policy and a number of slots; None where the model is not at hand."""


class Cell(NamedTuple):
    """One cell: its text, and the number behind it."""

    text: str
    value: float | None = None


EMPTY = Cell("-")


@dataclass(frozen=True, slots=True)
class PaperTable:
    """One table in the paper's form."""

    paper: str
    number: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Models:
    """All models with their outputs, by file of texts.

    `choose`: outputs for other texts, on which exit settings are chosen; empty: they are chosen on the texts
    themselves, as the papers do.
    """

    by_texts: Mapping[str, Sequence[Outputs]]
    choose: Mapping[str, Outputs] = field(default_factory=dict)  # by the hash of the weights
    _points: dict[int, list[Point]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for outputs in self.by_texts.values():
            same_texts(outputs)
        if self.choose:
            everything = [each for outputs in self.by_texts.values() for each in outputs]
            missing = dict.fromkeys(each.model for each in everything if each.model_sha256 not in self.choose)
            if missing:
                raise ConfigError(f"choose: outputs of every model required, none were of {', '.join(missing)}")

    @property
    def texts(self) -> list[str]:
        return list(self.by_texts)

    def of(self, texts: str, strategy: str, module: str | None = None) -> list[Outputs]:
        """Return the models of a strategy, one per seed; `module`: with these adapters."""
        found = [each for each in self.by_texts[texts] if each.strategy == strategy]
        return [each for each in found if module is None or module_of(each) == module]

    def first_of(self, texts: str, strategies: Sequence[str]) -> list[Outputs]:
        """Return the first of these strategies' models, else the first model."""
        for strategy in strategies:
            if found := self.of(texts, strategy):
                return self.of(texts, strategy, module_of(found[0]))
        return [self.by_texts[texts][0]]

    def points(self, outputs: Outputs) -> list[Point]:
        """Return the points of every policy for a model's outputs, computed once."""
        if id(outputs) not in self._points:
            self._points[id(outputs)] = sweep(outputs)
        return self._points[id(outputs)]

    def best(
        self, outputs: Outputs, allowed: Callable[[Point], bool], key: Callable[[Point], tuple[float, float]]
    ) -> Point | None:
        """Return the judged point of the policy that `key` chooses among the allowed ones."""
        found = [point for point in self.points(self.where(outputs)) if allowed(point)]
        if not found:
            return None
        return self.named(outputs, max(found, key=key).policy)

    def named(self, outputs: Outputs, policy: str) -> Point:
        """Return the point of one policy."""
        return next(point for point in self.points(outputs) if point.policy == policy)

    def where(self, outputs: Outputs) -> Outputs:
        """Return the model's outputs on which settings are chosen."""
        return self.choose.get(outputs.model_sha256, outputs)


def module_of(outputs: Outputs) -> str | None:
    """Return the module of a model's adapters."""
    return None if outputs.config.adapters is None else outputs.config.adapters.module


def cross_layer(outputs: Outputs) -> float:
    """Compute the mean accuracy of all exits."""
    right = outputs.logits.argmax(dim=-1) == outputs.label[:, None]
    return float(right.double().mean())


def scores(values: Sequence[float]) -> Cell:
    """Format the median over seeds, in per cent as the papers print it."""
    return Cell(f"{100 * median(values):.2f}", median(values)) if values else EMPTY


def share(values: Sequence[float]) -> Cell:
    """Format the median over seeds of a share saved."""
    return Cell(f"{median(values):.0%}", median(values)) if values else EMPTY


def lacking(strategies: Sequence[str]) -> tuple[str, ...]:
    """Return the note on rows that no given model fills."""
    names = ", ".join(dict.fromkeys(strategies))
    return (f"Empty rows need models of the strategies {names}: earlybird train --strategy ...",) if names else ()
