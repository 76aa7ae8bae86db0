"""Interfaces that the pipeline needs from outside, in its own terms.

Adapters implement them; nothing else knows a third-party client. Source, DuplicateCache and the offset tracker belong
to the consumer thread, Sink to the publisher thread, a Runner to its engine thread. Nothing here is thread-safe, and
nothing has to be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from earlybird.engine.types import Verdict


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Position:
    """Position of one element of one raw record: the identity of an outcome."""

    topic: str
    partition: int
    offset: int
    index: int = 0

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}/{self.index}"


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a raw topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_us: int | None = None  # the broker's: create or append time, depending on the topic
    headers: tuple[tuple[str, bytes | None], ...] = ()
    leader_epoch: int = -1  # Kafka's leader epoch at the time of writing; -1: unknown


class Commit(NamedTuple):
    """A partition's committed state in the group.

    That is the offset to read next, metadata (the map of offsets finished above it), and the latest leader epoch among
    the delivered records. Records written over those after a truncation have a later one.
    """

    offset: int
    metadata: str = ""
    leader_epoch: int = -1  # -1: unknown


class RebalanceListener(Protocol):
    """Callbacks on the consumer thread, inside Source.poll, when partitions come and go."""

    def assigned(self, committed: Mapping[Partition, Commit | None]) -> None:
        """Begin these partitions at their committed offsets.

        None: there is no offset yet, or it is out of range; read from the beginning. Called again for a partition
        already assigned when it has to be begun anew.
        """

    def waiting(self) -> None:
        """Note that `assigned` waits for the broker.

        This may take minutes and is no hang.
        """

    def read_to(self, ends: Mapping[Partition, int]) -> None:
        """Note that every readable record below these offsets was delivered.

        Between the last record and the offset may lie what is never read: transaction markers and aborted records.
        """

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Finish, commit and forget these: another member gets them after this call."""

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Forget these without a commit: another member may own them already.

        They were reassigned, or may have been while no broker answered. They may come back.
        """


class Source(Protocol):
    """Source of raw records, in offset order per partition."""

    def subscribe(self, listener: RebalanceListener) -> None:
        """Join the group. Called once, before the first poll."""

    def poll(self, timeout_ms: int, limit: int) -> list[Record]:
        """Return up to `limit` records; empty on timeout.

        Waits at most `timeout_ms` for the first one, then takes those available. Raises SourceEnded at the end of a
        bounded source, SourceError when reading can never go on.
        """

    def commit(self, commits: Mapping[Partition, Commit], *, wait: bool) -> bool:
        """Store the group's offsets; return whether the broker is known to have them.

        With `wait`, returns once the broker answered: False when it refused (during a rebalance, for example). Without,
        never waits: False until the broker is known to have exactly these, so offer them again. A refusal loses
        nothing, but the same work may be done twice.
        """

    def pause(self, partitions: Sequence[Partition]) -> None:
        """Stop fetching these; polling continues, so that the group keeps us as a member."""

    def resume(self, partitions: Sequence[Partition]) -> None:
        """Fetch these again."""

    def serve_group(self, timeout_ms: int) -> None:
        """Serve the group for at most `timeout_ms` without reading.

        A rebalance can go on while we shut down. Only `commit`, `serve_group` and `close` may follow.
        """

    def lag(self) -> Mapping[Partition, int]:
        """Return the records between our position and the broker's end per assigned partition.

        Never waits: the ends are the broker's as of the call before. A partition with an unknown end is left out.
        """

    @property
    def unreadable(self) -> Mapping[Partition, int]:
        """Records behind a producer's open transaction, per partition read up to it.

        Uses what the client already knows.
        """

    @property
    def member(self) -> bool:
        """True while we are a group member with a known (possibly empty) assignment.

        False from the moment the group removes us until we are back. May be read on any thread.
        """

    def close(self) -> None:
        """Leave the group, calling the listener's `revoked` for partitions that are still ours."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to publish."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_us: int | None = None  # the record's create time; None: now

    @property
    def size(self) -> int:
        """Bytes of its key, value and headers."""
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers


class Sink(Protocol):
    """Publisher of records; a receipt is any object of the caller's."""

    @property
    def largest(self) -> int:
        """Bytes of the largest message it hands to the broker, which may take less."""

    def send(self, outgoing: Outgoing, receipt: object | None = None) -> None:
        """Hand over one record. Order is kept per (topic, key).

        When the client's buffer is full, serves delivery reports until there is room: that is the backpressure. Raises
        SinkError when delivery can never succeed, and RecordTooLarge for a record refused for its size; the sink stays
        usable after the latter.
        """

    def receipts(self, timeout_ms: int = 0) -> list[object]:
        """Return receipts of the records acknowledged since the last call.

        Waits up to `timeout_ms` for the first. Raises SinkError when a record could not be delivered, once the broker
        has answered for all records in flight and their receipts were returned. Raises RecordTooLarge for a record
        larger than its topic takes; the sink stays usable.
        """

    def unacknowledged(self) -> int:
        """Return the number of records that the broker has not acknowledged yet."""

    @property
    def awaited(self) -> tuple[str, ...]:
        """Reasons why publishing is blocked: missing topics, or `acknowledgements`.

        The latter means that acknowledgements do not come. May be read on any thread.
        """

    def close(self) -> None:
        """Drop undelivered records; call `receipts` until `unacknowledged` is 0 first."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Claim on a text about to be computed, named by its duplicate key."""

    key: str  # 32 hex digits, see engine.text.duplicate_key
    item_key: str
    position: Position
    at_us: int  # the item's ingested_us: duplicates are decided on recorded times


@dataclass(frozen=True, slots=True)
class First:
    """The first item with a text, and its verdict."""

    item_key: str
    position: Position
    seen_us: int
    verdict: Verdict  # its ticket has no meaning here


@dataclass(frozen=True, slots=True)
class Hit:
    """Cache hit: the text was answered before."""

    first: First
    count: int  # earlier claims of this text, including the first


class Acquired:
    """The claim is ours: compute the text."""


class HeldElsewhere:
    """Another worker is computing this text: ask again soon, or compute it anyway."""


ACQUIRED, HELD_ELSEWHERE = Acquired(), HeldElsewhere()
ClaimResult = Hit | Acquired | HeldElsewhere


class DuplicateCache(Protocol):
    """Cache of verdicts by text. Correctness never depends on it.

    It may forget anything at any time. No call raises and none takes longer than its budget; when the cache is
    unreachable every claim is ACQUIRED.
    """

    def claim(self, claims: Sequence[Claim]) -> list[ClaimResult]:
        """Return one answer per claim, in order, with one round trip."""

    def store(self, firsts: Mapping[str, First], repeats: Mapping[str, int]) -> None:
        """Store results, and count the items that followed a leader in flight.

        Both are by duplicate key; the next claim then knows of these items. A key that is only counted and has no
        result yet is released: the next claim is ACQUIRED. One round trip.
        """

    def close(self) -> None:
        """Close the connection."""


class Clock(Protocol):
    """The only wall clock.

    Telemetry and stamps read it; decisions read recorded times.
    """

    def now_us(self) -> int:
        """Return microseconds since 1970-01-01 UTC."""
