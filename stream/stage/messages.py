"""Entries in flight and the messages between the stage's threads.

consumer --[Entries, Answers, Fence, Forget, Control, Stop]--> publisher --[finished entries, Fence]--> consumer
consumer --[timed requests]--> engine threads --[Answers]--> publisher

and under exactly-once consumer --[Prepare, CommitTransaction]--> publisher --[Prepared, Ended]--> consumer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from opentelemetry.trace import Span
from pydantic_core import to_json

from earlybird.engine.text.encoder import Encoded
from earlybird.engine.types import Request, Verdict
from earlybird.schemas.control import Heartbeat
from earlybird.schemas.rejection import Rejection
from earlybird.schemas.signal import Signal
from earlybird.stream.parsing.records import Element, Refusal
from earlybird.stream.ports import Partition, Record
from earlybird.stream.stage.trace_context import Headers, carried

Fields = dict[str, Any]
"""A signal as its JSON values, in the schema's order."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The first item with the same text, and the count of earlier ones."""

    first_item_key: str
    first_seen_us: int
    count: int


@dataclass(frozen=True, slots=True)
class TimedRequest(Request):
    """A request with a deadline: at the deadline it exits at its current depth."""

    due_us: int | None = None


@dataclass(slots=True, eq=False)
class Entry:
    """One element of one raw record, from delivery to acknowledged outcome.

    The consumer fills it in and hands it over; then the publisher owns it until it comes back finished.
    """

    element: Element
    record: Record
    epoch: int
    consumed_us: int
    due_us: int | None = None  # deadline: from then on it exits after its next layer
    depth_limit: int | None = None  # in a replay: the layer at which the live deadline cut the text
    rung: int | None = None  # in a replay: of a load-following policy, as recorded
    encoded: Encoded | None = None  # set for readable elements only, like the three below
    text_key: str = ""  # the duplicate key; with a recorded rung, which another text may not share, `KEY:RUNG`
    ticket: int | None = None  # ticket of the request that answers this entry: its own or its leader's
    leads: bool = False  # the ticket is its own
    duplicate: Duplicate | None = None  # for a follower: its leader in flight
    answer: "Answer | None" = None
    produced: list[Fields | Rejection] = field(default_factory=list)  # outcomes produced, until all are acknowledged
    unacknowledged: int = 0  # number of its records that the broker has not acknowledged
    siblings: "Siblings | None" = None  # entries that leave with it, if any
    span: Span | None = None  # with traces: the publisher's, from production to acknowledgement
    trace: Headers | None = None  # trace context of its span
    fenced: bool = False  # its partition went to another member, which will compute it again

    @property
    def partition(self) -> Partition:
        return Partition(self.record.topic, self.record.partition)

    @property
    def answered(self) -> bool:
        """Whether nothing is missing for its outcome."""
        return self.ticket is None or self.answer is not None

    @property
    def trace_context(self) -> Headers:
        """Trace context for its outcomes: that of its span, or the raw record's."""
        return carried(self.record.headers) if self.trace is None else self.trace

    @property
    def outcome(self) -> list[Signal | Rejection]:
        """Outcomes produced, as messages; empty again once they are acknowledged."""
        return [
            outcome if isinstance(outcome, Rejection) else Signal.model_validate_json(to_json(outcome))
            for outcome in self.produced
        ]


@dataclass(slots=True, eq=False)
class Siblings:
    """The entries of one record with several elements, which leave together."""

    entries: list[Entry]
    _known: int = 0  # the first of them that are answered: so that asking after each answer stays linear

    def answered(self) -> bool:
        """Return whether each of them has its answer, if it needs one."""
        while self._known < len(self.entries) and self.entries[self._known].answered:
            self._known += 1
        return self._known == len(self.entries)


def observed_us(element: Element) -> int | None:
    """Return when a live element was ingested.

    None for items with an assumed `ingested_us` (backfills), and for elements without one.
    """
    item = None if isinstance(element, Refusal) else element.item
    return None if item is not None and item.ingested_origin == "assumed" else element.ingested_us


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict for one ticket, from an engine thread or the cache, or an error."""

    ticket: int
    verdict: Verdict | None
    engine_in_us: int | None = None
    exited_us: int | None = None
    duplicate: Duplicate | None = None  # the cache answered
    error: str = ""  # the engine failed on this text when computed alone


@dataclass(frozen=True, slots=True)
class Entries:
    """New entries in raw order. They reach the publisher before any of their answers."""

    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class Answers:
    """Verdicts, in any order."""

    answers: list[Answer]


@dataclass(frozen=True, slots=True)
class Fence:
    """Request to publish no more outcomes of these partitions up to these epochs.

    The publisher returns it once the broker has acknowledged everything sent before. `drop`: it takes back what no
    transaction has committed; those entries come back fenced.
    """

    epochs: Mapping[Partition, int]
    drop: bool = False


@dataclass(frozen=True, slots=True)
class Forget:
    """Tickets that no later entry will wait for."""

    tickets: list[int]


@dataclass(frozen=True, slots=True)
class Control:
    """A message for signals.control."""

    heartbeat: Heartbeat


@dataclass(frozen=True, slots=True)
class Prepare:
    """Request to prepare a transaction now, even one of offsets alone."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A transaction whose records are all acknowledged.

    Its entries came back before this message. The consumer answers each with one CommitTransaction.
    """


@dataclass(frozen=True, slots=True)
class CommitTransaction:
    """The offsets (TransactionalSource.offsets_for) with which to commit the prepared transaction."""

    offsets: object


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of the prepared transaction; after an abort its records are in the next."""

    committed: bool


@dataclass(frozen=True, slots=True)
class Stop:
    """Request to publish nothing more and end when everything is acknowledged."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A thread's fatal error; the process must end."""

    error: BaseException


ToTransaction = Prepare | CommitTransaction
FromTransaction = Prepared | Ended
ToPublisher = Entries | Answers | Fence | Forget | Control | Stop | ToTransaction
FromPublisher = list[Entry] | Fence | Failed | FromTransaction


class Inference(Protocol):
    """Receiver of requests; the answers arrive at the publisher."""

    def submit(self, requests: list[TimedRequest]) -> None:
        """Queue requests without blocking; the pipeline's budget bounds what is in flight.

        Called each turn, also with no requests: those that had no room before may have room now.
        """
