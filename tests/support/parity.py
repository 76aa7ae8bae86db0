"""Exit policies of every family, and the comparison of a runner's verdicts with those of texts computed alone."""

from collections.abc import Mapping, Sequence

import pytest

from earlybird.engine.slots.reference import Trace
from earlybird.engine.types import Verdict
from earlybird.schemas.signal import ExitReason

POLICIES = (
    *("cwb:delta=0.4,window=3", "cwb:delta=0.45,window=0", "cwb:delta=0,window=2", "fixed:3", "full"),
    "entropy:threshold=0.5",
    "maxprob:threshold=0.7",
    "patience:count=2",
    "cwb:delta=0.1,window=3,criterion=range,spread=0.2",
    "similarity:version=2,threshold=1.0,count=1,previous=2",
    "similarity:version=3,threshold=0.1,count=2,previous=3,score=kl",
    "patience:count=3|entropy:threshold=0.3",
    "load:idle=(cwb:delta=0.3,window=3),busy=(entropy:threshold=0.5),at=4",
)


def outcome(verdict: Verdict) -> tuple[int, int, ExitReason]:
    return verdict.label, verdict.exit_layer, verdict.exit_reason


def assert_same(
    said: Sequence[Verdict], expected: Mapping[int, Trace], margin: float, tolerance: float, near: float
) -> None:
    """Every ticket once, with the label, layer, reason and figures of `expected`.

    A text within `margin` of another outcome may have that one; more than the share `near` of such texts fails.
    """
    assert sorted(verdict.ticket for verdict in said) == sorted(expected)
    close = 0
    for verdict in said:
        alone = expected[verdict.ticket]
        if alone.margin < margin:
            close += 1
            continue
        assert outcome(verdict) == outcome(alone.verdict), f"ticket {verdict.ticket}, margin {alone.margin}"
        assert verdict.logits == pytest.approx(alone.verdict.logits, abs=tolerance)
        assert verdict.probs == pytest.approx(alone.verdict.probs, abs=tolerance)
        assert verdict.puzzlement == pytest.approx(alone.verdict.puzzlement, abs=tolerance * 10)
    assert close <= len(said) * near, "too many near a threshold: this test says nothing"
