"""Comparison of several models on one file of texts: accuracy at equal cost.

Early exits stand beside fixed depths and models trained at a smaller depth. The models of one training run, one per
seed, form one row: the median counts.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from earlybird.engine.errors import ConfigError
from earlybird.engine.evaluation.outputs import Outputs
from earlybird.engine.evaluation.sweep import Point, frontier, sweep

TOLERANCE = 0.01
"""Part of the savings that may be missing: at half of its depth a model saves a little less than half, since words are
looked up and projected at any depth."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Result of one row at one cost, over the seeds."""

    accuracy: float  # median
    spread: float  # largest minus smallest accuracy
    macro_f1: float  # median
    saved: float  # median, share of the reference's operations
    gflops: float  # median, mean per text
    policies: tuple[str, ...]  # one per seed, or the models for a row of several models

    @classmethod
    def of(cls, points: Sequence[Point]) -> "Cell":
        """Summarise one point per seed."""
        accuracies = [point.accuracy for point in points]
        return cls(
            median(accuracies),
            max(accuracies) - min(accuracies),
            median(point.macro_f1 for point in points),
            median(point.saved for point in points),
            median(point.gflops for point in points),
            tuple(point.policy for point in points),
        )


@dataclass(frozen=True, slots=True)
class Row:
    """Results of one training run's models."""

    name: str
    seeds: int
    full: Cell
    exits: Mapping[float, Cell | None]  # by target: the best early exit that saves this share
    fixed: Mapping[float, Cell | None]  # by target: the best fixed depth that does
    curve: tuple[Point, ...]  # first seed: the exit settings that no cheaper one matches, and full depth
    depths: tuple[Point, ...]  # first seed: every fixed depth


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rows for one file of texts."""

    texts: str
    count: int
    chosen_elsewhere: bool  # settings were chosen on other texts than these
    reference: str  # model whose full depth is the whole cost
    rows: tuple[Row, ...]
    baselines: tuple[tuple[str, Cell], ...]  # models at their own full depth
    trained: Mapping[float, Cell | None]  # by target: the best baseline that saves this share
    families: Mapping[
        str, Mapping[float, Cell | None]
    ]  # the best setting of each family, over all models that have one


def run_name(outputs: Outputs) -> str:
    """Return the name of a model's training run: its id without the seed."""
    return re.sub(r"-seed-\d+$", "", outputs.model) or outputs.model_sha256[:12]


def by_run(models: Iterable[Outputs]) -> dict[str, list[Outputs]]:
    """Group models by training run, in the order given."""
    found: dict[str, list[Outputs]] = {}
    for outputs in models:
        found.setdefault(run_name(outputs), []).append(outputs)
    return found


def compare(
    models: Sequence[Outputs],
    baselines: Sequence[Outputs],
    choose: Sequence[Outputs],
    targets: Sequence[float],
) -> Comparison:
    """Compare models over one file of texts.

    `choose`: outputs of the models for other texts, on which the exit settings are chosen; none: they are chosen on
    the texts themselves. Raises ConfigError where outputs belong to different texts.
    """
    same_texts([*models, *baselines])
    first = models[0]
    reference = max(models, key=lambda each: (each.config.layers, each.config.adapters is None))
    whole = float(reference.costs[:, -1].mean())
    elsewhere = {outputs.model_sha256: outputs for outputs in choose}
    if choose:
        same_texts(choose)
        for outputs in models:
            if outputs.model_sha256 not in elsewhere:
                raise ConfigError(f"choose: outputs of {outputs.model or outputs.model_sha256} required, was none")
    rows, pairs = [], list[tuple[list[Point], list[Point]]]()
    for name, seeds in by_run(models).items():
        judged = [_rebased(sweep(outputs), whole) for outputs in seeds]
        chosen = [_elsewhere(outputs, elsewhere, reference) for outputs in seeds] if choose else judged
        rows.append(_row(name, judged, chosen, targets))
        pairs += zip(judged, chosen, strict=True)
    return Comparison(
        first.texts,
        len(first),
        bool(choose),
        run_name(reference),
        tuple(rows),
        tuple((name, Cell.of(_full(seeds, whole))) for name, seeds in by_run(baselines).items()),
        _trained(baselines, whole, targets),
        {family: {target: _of_family(family, pairs, target) for target in targets} for family in _families(pairs)},
    )


def trained_point(baseline: Outputs, model: Outputs) -> Point:
    """Compute a baseline's full depth as a point beside another model's, of family `trained`."""
    same_texts([model, baseline])
    (point,) = _full([baseline], float(model.costs[:, -1].mean()))
    theirs = model.logits[:, -1].argmax(dim=-1) == model.label
    ours = baseline.logits[:, -1].argmax(dim=-1) == baseline.label
    lost, won = int((theirs & ~ours).sum()), int((~theirs & ours).sum())
    return replace(point, policy=baseline.model or baseline.model_sha256[:12], family="trained", lost=lost, won=won)


def same_texts(models: Sequence[Outputs]) -> None:
    """Check that outputs belong to the same texts; raises ConfigError."""
    if len({(outputs.texts_sha256, len(outputs)) for outputs in models}) > 1:
        names = ", ".join(f"{outputs.model} on {outputs.texts or outputs.texts_sha256[:12]}" for outputs in models)
        raise ConfigError(f"models: outputs for the same texts required, was {names}")


def best(points: Sequence[Point], saved: float, allowed: Callable[[Point], bool]) -> Point | None:
    """Return the most accurate allowed point that saves at least this share, within TOLERANCE."""
    found = [point for point in points if allowed(point) and point.saved >= saved - TOLERANCE]
    return max(found, key=lambda point: (point.accuracy, point.saved)) if found else None


def _row(
    name: str, judged: Sequence[Sequence[Point]], chosen: Sequence[Sequence[Point]], targets: Sequence[float]
) -> Row:
    specs = {point.policy for point in frontier([p for p in chosen[0] if p.family != "fixed"])}
    depths = tuple(point for point in judged[0] if point.family in ("fixed", "full"))
    return Row(
        name,
        len(judged),
        Cell.of([_named(points, "full") for points in judged]),
        {target: _cell(judged, chosen, target, lambda p: p.family not in ("fixed", "full")) for target in targets},
        {target: _cell(judged, chosen, target, lambda p: p.family == "fixed") for target in targets},
        tuple(sorted((p for p in judged[0] if p.policy in specs), key=lambda p: p.gflops)),
        tuple(sorted(depths, key=lambda p: p.gflops)),
    )


def _cell(
    judged: Sequence[Sequence[Point]],
    chosen: Sequence[Sequence[Point]],
    target: float,
    allowed: Callable[[Point], bool],
) -> Cell | None:
    """Choose each seed's best setting and judge it; None where a seed has none."""
    found = [best(points, target, allowed) for points in chosen]
    if any(point is None for point in found):
        return None
    return Cell.of([_named(points, point.policy) for points, point in zip(judged, found, strict=True) if point])


def _families(pairs: Sequence[tuple[Sequence[Point], Sequence[Point]]]) -> list[str]:
    families = dict.fromkeys(point.family for judged, _ in pairs for point in judged)
    return [family for family in families if family != "full"]


def _of_family(family: str, pairs: Sequence[tuple[Sequence[Point], Sequence[Point]]], target: float) -> Cell | None:
    """Choose and judge each model's best setting of a family; None: no model has one."""
    found = [(judged, best(chosen, target, lambda p: p.family == family)) for judged, chosen in pairs]
    points = [_named(judged, point.policy) for judged, point in found if point]
    return Cell.of(points) if points else None


def _named(points: Sequence[Point], policy: str) -> Point:
    (found,) = [point for point in points if point.policy == policy]
    return found


def _elsewhere(outputs: Outputs, elsewhere: Mapping[str, Outputs], reference: Outputs) -> list[Point]:
    """Compute a model's points on the texts for choosing, at the same reference."""
    whole = float(elsewhere[reference.model_sha256].costs[:, -1].mean())
    return _rebased(sweep(elsewhere[outputs.model_sha256]), whole)


def _rebased(points: Sequence[Point], whole: float) -> list[Point]:
    """Count savings from another model's full cost."""
    return [replace(point, saved=1 - point.gflops * 1e9 / whole) for point in points]


def _full(seeds: Sequence[Outputs], whole: float) -> list[Point]:
    return [point for outputs in seeds for point in _rebased(sweep(outputs, ["full"]), whole)]


def _trained(baselines: Sequence[Outputs], whole: float, targets: Sequence[float]) -> dict[float, Cell | None]:
    found: dict[float, Cell | None] = {}
    cells = [(name, Cell.of(_full(seeds, whole))) for name, seeds in by_run(baselines).items()]
    for target in targets:
        allowed = [(name, cell) for name, cell in cells if cell.saved >= target - TOLERANCE]
        name, cell = max(allowed, key=lambda each: each[1].accuracy, default=("", None))
        found[target] = None if cell is None else replace(cell, policies=(name,))
    return found
