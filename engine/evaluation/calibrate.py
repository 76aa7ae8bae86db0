"""Certificates that bound the texts lost to early exits, by fixed-sequence testing.

A text is lost when full depth gets it right and the early exit wrong. A certificate bounds the share of lost texts at a
confidence. The thresholds of one family are tested from the safest down, each by an exact binomial test of "the rate of
lost texts is over the bound"; the first that cannot be rejected ends the sequence, so no correction for multiple tests
is needed. The guarantee holds for texts like those of the calibration set, which training, choice and temperature must
not have used.

Source: fixed-sequence testing as in Learn then Test (arXiv 2110.01052, section 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from earlybird.engine.errors import ConfigError
from earlybird.engine.evaluation.binomial import tail, texts_needed
from earlybird.engine.evaluation.outputs import Outputs
from earlybird.engine.evaluation.sweep import Point, sweep
from earlybird.engine.exits.spec import LOAD, parse

FREE = "*"
"""Placeholder of the threshold to be chosen: `cwb:delta=*,window=2`."""

_STEPS = tuple(round(0.02 * step, 2) for step in range(1, 50))
SAFEST_FIRST: dict[tuple[str, str], tuple[float, ...]] = {
    ("cwb", "delta"): _STEPS,
    ("entropy", "threshold"): _STEPS,
    ("maxprob", "threshold"): tuple(round(1 - step / 2, 3) for step in _STEPS),
    ("learned", "threshold"): tuple(round(1 - step, 2) for step in _STEPS),
    ("similarity", "threshold"): (0.001, 0.002, 0.005, 0.01, 0.02, *(round(0.05 * step, 2) for step in range(1, 41))),
    ("patience", "count"): tuple(range(30, 0, -1)),
}
"""Values of each family's free parameter, from hardly ever exiting early to nearly always."""


@dataclass(frozen=True, slots=True)
class Tested:
    """Test result of one threshold."""

    point: Point
    p_value: float  # of the hypothesis "more than the bound is lost"
    certified: bool


@dataclass(frozen=True, slots=True)
class Certificate:
    """Guarantee for one model under one policy, kept in the manifest."""

    policy: str
    max_lost: float  # bound on the share of lost texts
    confidence: float
    texts: int
    lost: int
    won: int  # texts that the early exit gets right and full depth wrong, to derive the net change
    p_value: float
    mean_depth: float
    texts_sha256: str
    model_sha256: str


def candidates(spec: str, layers: int, learned: bool) -> list[str]:
    """Return the specs of a spec with one free parameter, safest first.

    Raises ConfigError.
    """
    if spec.startswith(LOAD):
        raise ConfigError(f"policy: certify each policy of a load-following one by itself, was {spec!r}")
    if spec.count(FREE) == 0:
        return [parse(spec, layers, learned_exits=learned).spec]
    family, _, rest = spec.partition(":")
    free = [part.partition("=")[0] for part in rest.split(",") if part.endswith(f"={FREE}")]
    if len(free) != 1 or (family, free[0]) not in SAFEST_FIRST or "|" in spec:
        known = ", ".join(f"{name}:{key}={FREE}" for name, key in SAFEST_FIRST)
        raise ConfigError(f"policy: one free parameter of {known} required, was {spec!r}")
    values = SAFEST_FIRST[family, free[0]]
    if family == "patience":
        values = tuple(value for value in values if value < layers - 1)
    named = (spec.replace(FREE, repr(value)) for value in values)
    return list(dict.fromkeys(parse(name, layers, learned_exits=learned).spec for name in named))


def fixed_sequence(outputs: Outputs, specs: Sequence[str], max_lost: float, confidence: float) -> list[Tested]:
    """Test specs in order until one fails; the failed one is the last result.

    Raises ConfigError where there are too few texts for any certificate, with the number needed.
    """
    if not (0 < max_lost < 1 and 0 < confidence < 1):
        raise ConfigError(f"max-lost and confidence: between 0 and 1 required, was {max_lost} and {confidence}")
    needed = texts_needed(0, max_lost, confidence)
    if len(outputs) < needed:
        more = ", ".join(str(texts_needed(losses, max_lost, confidence)) for losses in (1, 2))
        raise ConfigError(
            f"calibration: at least {needed} texts required to certify {max_lost:.1%} at {confidence:.0%} "
            f"(once one or two are lost: {more}), was {len(outputs)}"
        )
    tested: list[Tested] = []
    for spec in specs:
        (point,) = sweep(outputs, [spec])
        p_value = tail(point.lost, len(outputs), max_lost)
        tested.append(Tested(point, p_value, p_value <= 1.0 - confidence))
        if not tested[-1].certified:
            break
    return tested


def certificate(outputs: Outputs, tested: Sequence[Tested], max_lost: float, confidence: float) -> Certificate | None:
    """Return the certificate of the cheapest threshold that passed; None if none did."""
    passed = [each for each in tested if each.certified]
    if not passed:
        return None
    best = max(passed, key=lambda each: each.point.saved)
    point = best.point
    return Certificate(
        policy=point.policy,
        max_lost=max_lost,
        confidence=confidence,
        texts=len(outputs),
        lost=point.lost,
        won=point.won,
        p_value=best.p_value,
        mean_depth=point.mean_depth,
        texts_sha256=outputs.texts_sha256,
        model_sha256=outputs.model_sha256,
    )
