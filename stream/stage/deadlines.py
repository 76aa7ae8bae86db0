"""What the clock decides of a text: whether it is too late to compute it, and how deep it may still go.

Live, texts are judged by the clock; a replay judges them as the record says that they were judged. Texts that are in
the engine when their time is over are called back by Deadlines.
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
    """Judges texts before anything is computed of them."""

    def judge(self, entry: Entry) -> None:
        """What holds of a readable entry: its `due_us` or its `depth_limit`, or a refusal in place of its element."""


@dataclass(frozen=True, slots=True)
class ClockLateness:
    """Ages at the instant at which the record was taken from Kafka. None: no limit."""

    deadline_us: int | None = None  # from then on until it has to leave
    shed_after_us: int | None = None

    def judge(self, entry: Entry) -> None:
        """As LatenessPolicy.judge. Age counts from `ingested_us`: a provider's delay cannot be caught up on.

        Items with an assumed ingest time are history and never late.
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
    """What a live stage's clock decided, by raw position. A worker that dies between an outcome and its commit leaves
    the text to another, which may decide otherwise: the first result counts, and shed is what has none."""

    depths: dict[Position, int] = field(default_factory=dict)
    shed: dict[Position, str] = field(default_factory=dict)
    _computed: set[Position] = field(default_factory=set)

    def note_rejection(self, rejection: Rejection) -> None:
        """One dead letter of the record."""
        if rejection.reason is Reason.SHED:
            self.shed.setdefault(_position(rejection.raw), rejection.detail)

    def note_signal(self, signal: Signal) -> None:
        """One signal of the record, after all of its dead letters."""
        position = _position(signal.raw)
        if signal.exit is None or position in self._computed:
            return
        self._computed.add(position)
        self.shed.pop(position, None)
        if signal.exit.reason is ExitReason.DEADLINE:
            self.depths[position] = signal.exit.layer

    def judge(self, entry: Entry) -> None:
        """As LatenessPolicy.judge."""
        element = entry.element
        if not isinstance(element, Readable):
            return
        detail = self.shed.get(element.position)
        if detail is not None:
            entry.element = element.refused(Reason.SHED, detail)
        entry.depth_limit = self.depths.get(element.position)


class Deadlines:
    """Which of the texts in an engine's hands are late. Not thread-safe: one engine thread owns it."""

    def __init__(self) -> None:
        self._due: list[tuple[int, int]] = []  # a heap of due_us and ticket

    def watch(self, requests: Iterable[TimedRequest]) -> None:
        """These have come."""
        for request in requests:
            if request.due_us is not None:
                heappush(self._due, (request.due_us, request.ticket))

    def late(self, now_us: int, flying: Container[int]) -> list[int]:
        """Tickets among `flying` whose time is over; each is named once."""
        late: list[int] = []
        while self._due and (self._due[0][0] <= now_us or self._due[0][1] not in flying):
            ticket = heappop(self._due)[1]
            if ticket in flying:
                late.append(ticket)
        return late


def _position(raw: RawPosition) -> Position:
    return Position(raw.topic, raw.partition, raw.offset, raw.index)
