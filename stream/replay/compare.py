"""Compares a recomputed run with the record, by raw position and digest.

Pure. Novelty is compared and counted apart: it is what the live workers knew at the time, which no rerun has to repeat.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from earlybird.schemas.signal import ExitReason, Label, Signal, SignalAction

TOLERANCE = 1e-4
"""Largest difference of a probability that different arithmetic can explain."""

_Key = tuple[str, int, int, int]
_Model = tuple[str, str, str, str | None]  # sha256, config_hash, numerics, table of symbols


class ComparedSignal(NamedTuple):
    """The fields of a signal that are compared."""

    digest: str
    item_key: str
    action: SignalAction
    label: Label | None
    score: float | None
    layer: int | None
    reason: ExitReason | None
    probs: tuple[float, float, float] | None
    novelty: tuple[bool, str | None, int | None] | None  # without the count, which only the live cache had

    @classmethod
    def of(cls, signal: Signal) -> "ComparedSignal":
        probs, exited, novelty = signal.probs, signal.exit, signal.novelty
        return cls(
            signal.digest,
            signal.item_key,
            signal.action,
            signal.label,
            signal.score,
            None if exited is None else exited.layer,
            None if exited is None else exited.reason,
            None if probs is None else (probs.negative, probs.neutral, probs.positive),
            None if novelty is None else (novelty.cache_hit, novelty.dup_of, novelty.first_seen_us),
        )

    @property
    def retraction(self) -> bool:
        return self.action is SignalAction.RETRACT

    @property
    def name(self) -> str:
        """Name of the signal's column in the confusion matrix."""
        return "retraction" if self.label is None else self.label.value


@dataclass
class Comparison:
    """Comparison of a whole record with recomputed signals.

    Give it the whole record first, then every recomputed signal, then read the report.
    """

    deterministic: bool
    write: Callable[[dict[str, Any]], None] = lambda _: None  # gets a row per differing or unpaired signal
    recorded: dict[_Key, ComparedSignal] = field(default_factory=dict)
    models: set[_Model] = field(default_factory=set)  # of the record
    model: _Model | None = None
    equal: int = 0
    differing: int = 0
    label_flips: int = 0
    exit_shifts: int = 0
    largest_exit_shift: int = 0
    largest_change: float = 0.0
    only_recomputed: int = 0
    novelty_differing: int = 0
    labels: Counter[tuple[str, str]] = field(default_factory=Counter)  # recorded, recomputed
    recorded_layers: Counter[int] = field(default_factory=Counter)
    recomputed_layers: Counter[int] = field(default_factory=Counter)
    covered: set[tuple[str, int, int]] = field(default_factory=set)  # raw records that were computed again

    def record(self, signal: Signal) -> None:
        """Add a recorded signal; of one published twice the first counts.

        Where the first is a retraction (its text was shed, or was no longer readable when it came again), the other
        counts.
        """
        key, recorded = _key(signal), ComparedSignal.of(signal)
        if self.recorded.setdefault(key, recorded).retraction:
            self.recorded[key] = recorded
        self.models.add(_model(signal))

    def cover(self, topic: str, partition: int, offset: int) -> None:
        """Mark a raw record as recomputed: the record should hold its signals."""
        self.covered.add((topic, partition, offset))

    def add(self, signal: Signal) -> None:
        self.model = _model(signal)
        key, now = _key(signal), ComparedSignal.of(signal)
        before = self.recorded.pop(key, None)
        if before is None:
            self.only_recomputed += 1
            self.write(_row("only recomputed", key, None, now))
        else:
            self._pair(key, before, now)

    def finish(self) -> None:
        """Write the signals that only the record has; no more will come."""
        for key, before in self.recorded.items():
            if key[:3] in self.covered:
                self.write(_row("only recorded", key, before, None))

    def _pair(self, key: _Key, before: ComparedSignal, now: ComparedSignal) -> None:
        self.labels[before.name, now.name] += 1
        if before.layer is not None and now.layer is not None:
            self.recorded_layers[before.layer] += 1
            self.recomputed_layers[now.layer] += 1
        novel = before.novelty != now.novelty
        self.novelty_differing += novel
        if before.digest == now.digest:
            self.equal += 1
        else:
            self.differing += 1
            self._differ(before, now)
        if novel or before.digest != now.digest:
            self.write(_row("novelty differs" if before.digest == now.digest else "differs", key, before, now))

    def _differ(self, before: ComparedSignal, now: ComparedSignal) -> None:
        self.label_flips += before.label != now.label
        if before.layer is not None and now.layer is not None and before.layer != now.layer:
            self.exit_shifts += 1
            self.largest_exit_shift = max(self.largest_exit_shift, abs(before.layer - now.layer))
        if before.probs is not None and now.probs is not None:
            change = max(abs(one - other) for one, other in zip(before.probs, now.probs, strict=True))
            self.largest_change = max(self.largest_change, change)

    @property
    def only_recorded(self) -> int:
        """Number of recorded signals not recomputed although their raw record was."""
        return sum(key[:3] in self.covered for key in self.recorded)

    @property
    def expectation(self) -> tuple[Literal["equal digests", "tolerance", "nothing"], str]:
        """The agreement to expect of these two runs, and the reason."""
        if self.model is None or not self.models:
            return "nothing", "there is nothing to compare"
        if {known[:2] for known in self.models} != {self.model[:2]}:
            return "nothing", "another model or configuration made the record"
        if {known[3] for known in self.models} != {self.model[3]}:
            return "nothing", "another table of symbols made the record"
        if {known[2] for known in self.models} != {self.model[2]}:
            return "tolerance", "the record was made by other arithmetic (numerics differ)"
        if not self.deterministic:
            return "tolerance", "deterministic mode is off"
        return "equal digests", "same model, configuration and numerics, deterministic mode"

    @property
    def holds(self) -> bool:
        """Whether the expectation was met; signals of one side only violate it."""
        expected, _ = self.expectation
        if expected == "nothing":
            return True
        whole = not self.only_recomputed and not self.only_recorded
        if expected == "equal digests":
            return whole and not self.differing
        return whole and not self.label_flips and self.largest_change <= TOLERANCE

    def report(self) -> dict[str, Any]:
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
            "novelty_differing": self.novelty_differing,
            "labels": [
                {"recorded": before, "recomputed": now, "signals": count}
                for (before, now), count in sorted(self.labels.items())
            ],
            "exit_layers": {
                "recorded": _counts(self.recorded_layers),
                "recomputed": _counts(self.recomputed_layers),
            },
        }


def _row(kind: str, key: _Key, before: ComparedSignal | None, now: ComparedSignal | None) -> dict[str, Any]:
    """Return one flat line for the file of differences."""
    known = before or now
    assert known is not None, "a row of neither side. This is a bug."
    row: dict[str, Any] = {"kind": kind, "item_key": known.item_key}
    row |= dict(zip(("topic", "partition", "offset", "index"), key, strict=True))
    for side, signal in (("recorded", before), ("recomputed", now)):
        row |= {f"{side}_{name}": None if signal is None else getattr(signal, name) for name in _SHOWN}
        novelty = (None, None, None) if signal is None or signal.novelty is None else signal.novelty
        row |= {f"{side}_{name}": value for name, value in zip(_NOVELTY, novelty, strict=True)}
    return row


_SHOWN = ("action", "label", "score", "layer", "reason")
_NOVELTY = ("cache_hit", "dup_of", "first_seen_us")


def _counts(layers: Counter[int]) -> dict[str, int]:
    return {str(layer): count for layer, count in sorted(layers.items())}


def _key(signal: Signal) -> _Key:
    raw = signal.raw
    return raw.topic, raw.partition, raw.offset, raw.index


def _model(signal: Signal) -> _Model:
    model = signal.model
    return model.sha256, model.config_hash, model.numerics, signal.symbol_table
