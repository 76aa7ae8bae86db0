"""Lateness policies and deadlines: which texts are too old, and which must exit early.

ClockLateness judges live texts by the clock. In a replay RecordedLateness repeats what the live stage decided, and
which policy it chose under load, since that depends on the clock, too. Deadlines finds the texts in the engine whose
deadline has passed.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Protocol

from earlybird.schemas.rejection import Reason, Rejection
from earlybird.schemas.signal import ExitReason, RawPosition, Signal
from earlybird.stream.parsing.records import Readable
from earlybird.stream.ports import Position
from earlybird.stream.stage.messages import Entry, TimedRequest


class LatenessPolicy(Protocol):
    """Policy that judges texts before they are computed."""

    def judge(self, entry: Entry) -> None:
        """Set `due_us` or `depth_limit` of a readable entry, or refuse its element."""


@dataclass(frozen=True, slots=True)
class ClockLateness:
    """Lateness by age at consumption. None means no limit."""

    deadline_us: int | None = None  # from consumption to exit
    shed_after_us: int | None = None  # maximum age at consumption

    def judge(self, entry: Entry) -> None:
        """See LatenessPolicy.judge. Age counts from `ingested_us`, so a provider's delay does not count.

        Items with an assumed ingest time (backfills) are never late.
        """
        element = entry.element
        if not isinstance(element, Readable):
            return
        if self.deadline_us is not None:
            entry.due_us = entry.consumed_us + self.deadline_us
        age_us = entry.consumed_us - element.ingested_us
        late = self.shed_after_us is not None and age_us > self.shed_after_us
        if late and element.item.ingested_origin == "observed":
            detail = f"at most {self.shed_after_us} us old allowed when consumed, was {age_us}"
            entry.element = element.refused(Reason.SHED, detail)


@dataclass
class RecordedLateness:
    """A live stage's lateness decisions, by raw position.

    A worker that dies between an outcome and its commit leaves the text to another, which may decide otherwise. The
    first result counts; a text counts as shed only if it has no result.
    """

    rungs: tuple[str, ...] = ()  # of this run's policy, see Origin; a text without a recorded one takes the first
    depths: dict[Position, int] = field(default_factory=dict)
    chosen: dict[Position, int] = field(default_factory=dict)  # rungs but the first
    shed: dict[Position, str] = field(default_factory=dict)
    _computed: set[Position] = field(default_factory=set)

    def note_rejection(self, rejection: Rejection) -> None:
        """Take in one recorded dead letter."""
        if rejection.reason is Reason.SHED:
            self.shed.setdefault(_position(rejection.raw), rejection.detail)

    def note_signal(self, signal: Signal) -> None:
        """Take in one recorded signal. Call it after all dead letters were noted."""
        position = _position(signal.raw)
        if signal.exit is None or position in self._computed:
            return
        self._computed.add(position)
        self.shed.pop(position, None)
        if signal.exit.reason is ExitReason.DEADLINE:
            self.depths[position] = signal.exit.layer
        if signal.exit.policy in self.rungs[1:]:
            self.chosen[position] = self.rungs.index(signal.exit.policy)

    def judge(self, entry: Entry) -> None:
        element = entry.element
        if not isinstance(element, Readable):
            return
        detail = self.shed.get(element.position)
        if detail is not None:
            entry.element = element.refused(Reason.SHED, detail)
        entry.depth_limit = self.depths.get(element.position)
        entry.rung = self.chosen.get(element.position, 0) if self.rungs else None


class Deadlines:
    """Deadlines of the texts in the engine. Not thread-safe: one engine thread owns it."""

    def __init__(self) -> None:
        self._due: list[tuple[int, int]] = []  # heap of (due_us, ticket)

    def watch(self, requests: Iterable[TimedRequest]) -> None:
        """Watch these requests' deadlines."""
        for request in requests:
            if request.due_us is not None:
                heappush(self._due, (request.due_us, request.ticket))

    def late(self, now_us: int, in_flight: Container[int]) -> list[int]:
        """Return each ticket in `in_flight` once when its deadline has passed."""
        late: list[int] = []
        while self._due and (self._due[0][0] <= now_us or self._due[0][1] not in in_flight):
            ticket = heappop(self._due)[1]
            if ticket in in_flight:
                late.append(ticket)
        return late


def _position(raw: RawPosition) -> Position:
    return Position(raw.topic, raw.partition, raw.offset, raw.index)
