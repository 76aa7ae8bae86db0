"""A recomputed run against the record, by raw position and digest. Pure."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from schemas.signal import ExitReason, Label, Model, Signal, SignalAction

TOLERANCE = 1e-4
"""Largest difference of a probability that other arithmetic explains."""

_Key = tuple[str, int, int, int]


class Said(NamedTuple):
    """What counts of a signal."""

    digest: str
    retraction: bool
    label: Label | None
    layer: int | None
    reason: ExitReason | None
    probs: tuple[float, float, float] | None

    @classmethod
    def of(cls, signal: Signal) -> "Said":
        probs, exited = signal.probs, signal.exit
        return cls(
            signal.digest,
            signal.action is SignalAction.RETRACT,
            signal.label,
            None if exited is None else exited.layer,
            None if exited is None else exited.reason,
            None if probs is None else (probs.negative, probs.neutral, probs.positive),
        )


@dataclass
class Comparison:
    """Give it the whole record first, then every recomputed signal; then read the report."""

    deterministic: bool
    recorded: dict[_Key, Said] = field(default_factory=dict)
    models: set[tuple[str, str, str]] = field(default_factory=set)  # sha256, config_hash, numerics; of the record
    model: tuple[str, str, str] | None = None
    equal: int = 0
    differing: int = 0
    label_flips: int = 0
    exit_shifts: int = 0
    largest_exit_shift: int = 0
    largest_change: float = 0.0
    only_recomputed: int = 0
    covered: set[tuple[str, int, int]] = field(default_factory=set)  # raw records that were computed again

    def record(self, signal: Signal) -> None:
        """A recorded signal; of one that was published twice the first counts. Where one is a retraction (its text was
        shed, or is no more to be read, when it came again) the other does."""
        key, said = _key(signal), Said.of(signal)
        if self.recorded.setdefault(key, said).retraction:
            self.recorded[key] = said
        self.models.add(_model(signal.model))

    def cover(self, topic: str, partition: int, offset: int) -> None:
        """This raw record was computed again: its signals should be in the record."""
        self.covered.add((topic, partition, offset))

    def add(self, signal: Signal) -> None:
        """A recomputed signal."""
        self.model = _model(signal.model)
        before, now = self.recorded.pop(_key(signal), None), Said.of(signal)
        if before is None:
            self.only_recomputed += 1
        elif before.digest == now.digest:
            self.equal += 1
        else:
            self.differing += 1
            self._differ(before, now)

    def _differ(self, before: Said, now: Said) -> None:
        self.label_flips += before.label != now.label
        if before.layer is not None and now.layer is not None and before.layer != now.layer:
            self.exit_shifts += 1
            self.largest_exit_shift = max(self.largest_exit_shift, abs(before.layer - now.layer))
        if before.probs is not None and now.probs is not None:
            change = max(abs(one - other) for one, other in zip(before.probs, now.probs, strict=True))
            self.largest_change = max(self.largest_change, change)

    @property
    def only_recorded(self) -> int:
        """Signals of the record that were not computed again though their raw record was."""
        return sum(key[:3] in self.covered for key in self.recorded)

    @property
    def expectation(self) -> tuple[Literal["equal digests", "tolerance", "nothing"], str]:
        """What may be expected of these two runs, and why."""
        if self.model is None or not self.models:
            return "nothing", "there is nothing to compare"
        if {known[:2] for known in self.models} != {self.model[:2]}:
            return "nothing", "another model or configuration made the record"
        if {known[2] for known in self.models} != {self.model[2]}:
            return "tolerance", "the record was made by other arithmetic (numerics differ)"
        if not self.deterministic:
            return "tolerance", "deterministic mode is off"
        return "equal digests", "same model, configuration and numerics, deterministic mode"

    @property
    def holds(self) -> bool:
        """Whether the expectation was met. Signals that only one side has meet none."""
        expected, _ = self.expectation
        if expected == "nothing":
            return True
        whole = not self.only_recomputed and not self.only_recorded
        if expected == "equal digests":
            return whole and not self.differing
        return whole and not self.label_flips and self.largest_change <= TOLERANCE

    def report(self) -> dict[str, Any]:
        """All figures."""
        expected, why = self.expectation
        return {
            "expected": expected,
            "why": why,
            "holds": self.holds,
            "equal_digests": self.equal,
            "differing": self.differing,
            "label_flips": self.label_flips,
            "exit_shifts": self.exit_shifts,
            "largest_exit_shift": self.largest_exit_shift,
            "largest_probability_change": round(self.largest_change, 6),
            "only_recorded": self.only_recorded,
            "only_recomputed": self.only_recomputed,
        }


def _key(signal: Signal) -> _Key:
    raw = signal.raw
    return raw.topic, raw.partition, raw.offset, raw.index


def _model(model: Model) -> tuple[str, str, str]:
    return model.sha256, model.config_hash, model.numerics
