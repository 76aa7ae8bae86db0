"""Accuracy and cost of policies over stored outputs.

Letters: n texts, C classes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from earlybird.engine.errors import ConfigError
from earlybird.engine.evaluation.outputs import Outputs
from earlybird.engine.exits.ladder import rungs_of
from earlybird.engine.exits.policy import REASONS, ExitPolicy
from earlybird.engine.exits.spec import parse
from earlybird.engine.exits.walk import Walk, walk
from earlybird.engine.training.metrics import calibration_error, macro_f1


@dataclass(frozen=True, slots=True)
class Point:
    """Accuracy and cost of one policy on one set of texts."""

    policy: str
    family: str  # cwb, entropy, ...; fixed; full
    accuracy: float
    macro_f1: float
    calibration_error: float
    mean_depth: float
    gflops: float  # mean per text
    saved: float  # share of the full depth's operations
    lost: int  # texts that full depth gets right and this policy wrong
    won: int  # the reverse
    exits: tuple[int, ...]  # texts by exit depth
    reasons: dict[str, int]


def evaluate(policy: ExitPolicy, outputs: Outputs) -> Point:
    """Compute one policy's point."""
    found = walk(policy, outputs.by_depth())
    full = outputs.logits[:, -1].argmax(dim=-1) == outputs.label
    return _point(policy, outputs, found, full)


def sweep(outputs: Outputs, specs: Iterable[str] | None = None) -> list[Point]:
    """Compute the points of the named policies, or of every family's grid.

    The grid covers the families that the model allows, and fixed depths. A policy that follows the load gives a point
    per rung: there is no queue here.
    """
    learned = outputs.certainty is not None
    names = grid(outputs.config.layers, learned) if specs is None else specs
    by_depth = outputs.by_depth()
    full = outputs.logits[:, -1].argmax(dim=-1) == outputs.label
    points = {}
    for name in names:
        for policy in rungs_of(parse(name, outputs.config.layers, learned_exits=learned)):
            points[policy.spec] = _point(policy, outputs, walk(policy, by_depth), full)
    return list(points.values())


def grid(layers: int, learned: bool) -> list[str]:
    """Return specs of every family over its usual range.

    Specs that could never act in that many layers are left out.
    """
    tenths = [round(0.05 * step, 2) for step in range(1, 20)]
    specs = [f"fixed:{layer}" for layer in range(1, layers)] + ["full"]
    specs += [f"entropy:threshold={t}" for t in tenths]
    specs += [f"maxprob:threshold={t}" for t in (*tenths[7:], 0.97, 0.99)]
    specs += [f"patience:count={count}" for count in range(1, layers - 1)]
    specs += [f"cwb:delta={delta},window={window}" for window in range(2, layers) for delta in (0, *tenths[1::2])]
    specs += [f"cwb:delta=0,window={window},criterion=label" for window in range(2, layers)]
    specs += [
        f"cwb:delta=0,window={window},criterion=range,spread={spread}"
        for window in range(2, layers)
        for spread in (0.02, 0.05, 0.1, 0.2)
    ]
    if learned:
        specs += [f"learned:threshold={t}" for t in (*tenths[9:], 0.97, 0.99)]
    thresholds: dict[str, tuple[float, ...]] = {"ce": (0.1, 0.2, 0.4, 0.7, 1.0), "reversed": (0.1, 0.2, 0.4, 0.7, 1.0)}
    thresholds |= {"symmetric": (0.2, 0.4, 0.8, 1.4, 2.0), "kl": (0.001, 0.01, 0.05, 0.2)}
    shapes = [(1, count, 1) for count in (1, 2, 3)] + [(2, 1, 2), (2, 2, 2), (3, 1, 2), (3, 2, 3)]
    specs += [
        f"similarity:version={version},threshold={t},count={count},previous={previous},score={score}"
        for score, values in thresholds.items()
        for version, count, previous in shapes
        for t in values
    ]
    return [spec for spec in specs if _can_act(spec, layers, learned)]


@dataclass(frozen=True, slots=True)
class Matched:
    """The best point of a family at a cost, or the cheapest at an accuracy."""

    family: str
    target: float  # share of operations saved, or accuracy lost
    point: Point | None  # None: the family has none


def at_cost(points: Sequence[Point], saved: float) -> list[Matched]:
    """Return each family's most accurate point that saves at least this share.

    Ties go to the cheaper point.
    """
    return _best(points, saved, lambda p: p.saved >= saved - 1e-9, lambda p: (p.accuracy, p.saved))


def at_accuracy(points: Sequence[Point], lost: float) -> list[Matched]:
    """Return each family's cheapest point at most `lost` accuracy below full depth."""
    (full,) = [point for point in points if point.family == "full"]
    return _best(points, lost, lambda p: p.accuracy >= full.accuracy - lost - 1e-9, lambda p: (p.saved, p.accuracy))


def frontier(points: Sequence[Point]) -> list[Point]:
    """Return the points that no cheaper point matches in accuracy, cheapest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda each: (each.gflops, -each.accuracy)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return best


def _best(
    points: Sequence[Point],
    target: float,
    allowed: Callable[[Point], bool],
    key: Callable[[Point], tuple[float, float]],
) -> list[Matched]:
    families = dict.fromkeys(point.family for point in points if point.family != "full")
    found = []
    for family in families:
        mine = [point for point in points if point.family == family and allowed(point)]
        found.append(Matched(family, target, max(mine, key=key) if mine else None))
    return found


def _point(policy: ExitPolicy, outputs: Outputs, found: Walk, full_right: Tensor) -> Point:
    right = found.label == outputs.label
    cost = outputs.costs.gather(1, found.depth[:, None] - 1).mean()
    whole = outputs.costs[:, -1].mean()
    reasons = torch.bincount(found.reason, minlength=len(REASONS)).tolist()
    return Point(
        policy=policy.spec,
        family=policy.spec.partition(":")[0],
        accuracy=float(right.double().mean()),
        macro_f1=macro_f1(found.label, outputs.label, outputs.config.n_labels),
        calibration_error=calibration_error(outputs.reported(policy.spec, found), outputs.label),
        mean_depth=float(found.depth.double().mean()),
        gflops=float(cost) / 1e9,
        saved=float(1 - cost / whole),
        lost=int((full_right & ~right).sum()),
        won=int((~full_right & right).sum()),
        exits=tuple(torch.bincount(found.depth, minlength=outputs.config.layers + 1)[1:].tolist()),
        reasons={reason.value: count for reason, count in zip(REASONS, reasons, strict=True) if count},
    )


def _can_act(spec: str, layers: int, learned: bool) -> bool:
    try:
        policy = parse(spec, layers, learned_exits=learned)
    except ConfigError:
        return False
    return spec == "full" or (policy.earliest is not None and policy.earliest < layers)
