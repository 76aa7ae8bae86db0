"""Reference audit: everything in memory, records in any order. The shipped audit is compared with it."""

from collections import Counter
from dataclasses import dataclass, field

from earlybird.schemas.codec import DecodeError, decode
from earlybird.schemas.rejection import Reason, Rejection
from earlybird.schemas.signal import ExitReason, RawPosition, Signal
from earlybird.stream.feeds.reader import Reader
from earlybird.stream.parsing.records import Limits, Skip
from earlybird.stream.ports import Position, Record


@dataclass
class Audit:
    """Audit of outcomes against raw records.

    Add every record of the raw topics, of signals and of the dead letters, in any order; then read the results.
    """

    raw: set[Position] = field(default_factory=set)  # one position per element
    outcomes: Counter[Position] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)  # new, correct, retract; by distinct position
    rejections: Counter[str] = field(default_factory=Counter)  # by reason and distinct position
    exit_layers: Counter[int] = field(default_factory=Counter)  # of computed texts
    cache_hits: int = 0
    digests: dict[Position, str] = field(default_factory=dict)
    first_us: int | None = None  # append times of the first and the last outcome
    last_us: int | None = None
    unreadable: int = 0  # records of the stage's topics that are not its messages
    read: Reader = field(default_factory=lambda: Reader(Limits()))
    _rejected: set[Position] = field(default_factory=set)
    _differing: list[Position] = field(default_factory=list)  # published twice with different digests
    _hurried: set[Position] = field(default_factory=set)  # a deadline or shedding affected an outcome

    def add_raw(self, record: Record) -> None:
        """Add one record of a raw topic."""
        self.raw.update(element.position for element in self.read(record) if not isinstance(element, Skip))

    def add_signal(self, record: Record) -> None:
        """Add one record of the signals topic."""
        self._dated(record)
        try:
            signal = decode(Signal, record.value or b"")
        except DecodeError:
            self.unreadable += 1
            return
        position = _position(signal.raw)
        first = position not in self.digests
        if not first and self.digests[position] != signal.digest:
            self._differing.append(position)
        if signal.exit is not None and signal.exit.reason is ExitReason.DEADLINE:
            self._hurried.add(position)
        self.digests[position] = signal.digest
        self.outcomes[position] += 1
        if first:
            self.actions[signal.action.value] += 1
            hit = signal.novelty is not None and signal.novelty.cache_hit
            self.cache_hits += hit
            if signal.exit is not None and not hit:
                self.exit_layers[signal.exit.layer] += 1

    def add_rejection(self, record: Record) -> None:
        """Add one record of the dead-letter topic."""
        self._dated(record)
        try:
            rejection = decode(Rejection, record.value or b"")
        except DecodeError:
            self.unreadable += 1
            return
        position = _position(rejection.raw)
        if rejection.reason is Reason.SHED:
            self._hurried.add(position)
        if position not in self._rejected:
            self.rejections[rejection.reason.value] += 1
            self._rejected.add(position)
        self.outcomes[position] += 1

    def _dated(self, record: Record) -> None:
        if (at_us := record.timestamp_us) is not None:
            self.first_us = min(at_us, self.first_us or at_us)
            self.last_us = max(at_us, self.last_us or at_us)

    @property
    def span_s(self) -> float:
        """Time from the first outcome to the last, in seconds."""
        return ((self.last_us or 0) - (self.first_us or 0)) / 1e6

    @property
    def disagreeing(self) -> list[Position]:
        """Positions published twice with different digests.

        Excluded are positions where they may differ: a deadline or shedding affected an outcome, or the text was
        refused once and its retraction is one of the two.
        """
        excused = self._hurried | self._rejected
        return [position for position in self._differing if position not in excused]

    @property
    def missing(self) -> list[Position]:
        """Elements without an outcome, in order."""
        return sorted(self.raw - self.outcomes.keys(), key=_order)

    @property
    def strays(self) -> list[Position]:
        """Outcomes of unknown elements.

        Their raw records were deleted by retention or belong to another cluster.
        """
        return sorted(self.outcomes.keys() - self.raw, key=_order)

    @property
    def repeated(self) -> int:
        """Number of outcomes published more than once, as at-least-once delivery allows.

        The retraction of a refused element is not one of them.
        """
        also_retracted = sum(1 for position in self._rejected if position in self.digests)
        return sum(self.outcomes.values()) - len(self.outcomes) - also_retracted

    @property
    def balanced(self) -> bool:
        """Whether every element has its outcome and repeated outcomes are equal."""
        return not self.missing and not self.disagreeing and not self.unreadable

    def report(self) -> dict[str, object]:
        """Return all figures, for the table and for --json."""
        return {
            "records": len(self.raw),
            "signals": self.actions["new"] + self.actions["correct"],
            "corrections": self.actions["correct"],
            "retractions": self.actions["retract"],
            "rejections": dict(sorted(self.rejections.items())),
            "cache_hits": self.cache_hits,
            "exit_layers": dict(sorted(self.exit_layers.items())),
            "repeated": self.repeated,
            "missing": len(self.missing),
            "strays": len(self.strays),
            "disagreeing": len(self.disagreeing),
            "span_s": self.span_s,
            "outcomes_per_s": round(sum(self.outcomes.values()) / self.span_s, 1) if self.span_s else None,
            "balanced": self.balanced,
        }


def _position(raw: RawPosition) -> Position:
    return Position(raw.topic, raw.partition, raw.offset, raw.index)


def _order(position: Position) -> tuple[str, int, int, int]:
    return (position.topic, position.partition, position.offset, position.index)
