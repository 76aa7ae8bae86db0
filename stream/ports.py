"""What the pipeline needs from the world, in its own words. Adapters fulfil these; nothing else knows a client.

Threads: Source, DuplicateCache and the ledger belong to the consumer thread, Sink to the publisher thread, a Runner to
its engine thread. Nothing here is thread-safe, and nothing has to be.
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
    """One element of one raw record: the identity of an outcome."""

    topic: str
    partition: int
    offset: int
    index: int = 0

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}/{self.index}"


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a raw topic, as the broker has it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_us: int | None = None  # the broker's; create or append time, as the topic is configured
    headers: tuple[tuple[str, bytes | None], ...] = ()
    leader_epoch: int = -1  # under which leader of its partition it was written, counted up; -1: not known


class Commit(NamedTuple):
    """What a group stores for a partition: the offset to read next, a note (the map of what is finished above), and the
    latest leader epoch among the records that were delivered: what is written over them has a later one."""

    offset: int
    metadata: str = ""
    leader_epoch: int = -1  # not known


class RebalanceListener(Protocol):
    """Called on the consumer thread, inside Source.poll, when partitions come and go."""

    def assigned(self, committed: Mapping[Partition, Commit | None]) -> None:
        """These partitions are ours now and are read from their committed offset (None: none yet, or one that is out of
        range; read from the beginning). Called again for one that is ours already when it has to be begun anew."""

    def waiting(self) -> None:
        """The broker is awaited before `assigned` can be called: this may take minutes and is no hang."""

    def read_to(self, ends: Mapping[Partition, int]) -> None:
        """All that there is to read below these offsets was handed over; between the last record and the offset may
        lie what is never read: transaction markers, records that were taken back."""

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """These go to another member after this call returns: finish, commit, forget."""

    def lost(self, partitions: Sequence[Partition]) -> None:
        """These are another member's already, or were while no broker was heard: commit nothing. They may come back."""


class Source(Protocol):
    """Raw records in offset order per partition."""

    def subscribe(self, listener: RebalanceListener) -> None:
        """Join the group. Called once, before the first poll."""

    def poll(self, timeout_ms: int, limit: int) -> list[Record]:
        """Up to `limit` records: waits for the first one at most `timeout_ms`, then takes what is there already.
        Empty on timeout. Raises SourceEnded at the end of a bounded source, SourceError when reading can never go
        on."""

    def commit(self, commits: Mapping[Partition, Commit], *, wait: bool) -> bool:
        """Store the group's offsets. With `wait`, returns once the broker answered: False when it refused (a rebalance
        under way, say). Without, never waits: False until the broker is known to have just these, so offer them
        again. Nothing is lost by a refusal, the same work may be done twice."""

    def pause(self, partitions: Sequence[Partition]) -> None:
        """Stop fetching these; polling goes on, so that the group does not think us dead."""

    def resume(self, partitions: Sequence[Partition]) -> None:
        """Fetch these again."""

    def attend(self, timeout_ms: int) -> None:
        """Serve the group and take nothing, for at most so long: a rebalance goes on while we end. Only `commit`,
        `attend` and `close` may follow."""

    def lag(self) -> Mapping[Partition, int]:
        """Records between our read position and the broker's end per assigned partition, from what the client already
        knows (no round trip); a partition whose end is unknown is left out."""

    @property
    def unreadable(self) -> Mapping[Partition, int]:
        """Records behind a producer's open transaction, per partition that is read up to it; from what the client
        already knows."""

    @property
    def member(self) -> bool:
        """Whether the group counts us in and has told us our share, which may be nothing; False again from the moment
        that it has thrown us out until we are back. May be asked on any thread."""

    def close(self) -> None:
        """Leave the group. Calls the listener's `revoked` for what is still ours."""


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
    """Publishes records; a receipt is any object of the caller's."""

    @property
    def largest(self) -> int:
        """Bytes of the largest message that it hands to the broker, which may take less."""

    def send(self, outgoing: Outgoing, receipt: object | None = None) -> None:
        """Hand over one record. Order is kept per (topic, key). When the client's buffer is full it serves delivery
        reports until there is room: that is the back-pressure. Raises SinkError when delivery can never succeed, and
        RecordTooLarge for a record that was not taken for its size; then the sink goes on."""

    def receipts(self, timeout_ms: int = 0) -> list[object]:
        """Receipts of the records that the broker has acknowledged since the last call; waits up to `timeout_ms` for
        the first. Raises SinkError when a record could not be delivered, once the broker has answered for all that
        were under way and their receipts have been handed out; RecordTooLarge for one that is larger than its topic
        takes, and then the sink goes on."""

    def unacknowledged(self) -> int:
        """Records handed over that the broker has not acknowledged yet."""

    @property
    def awaited(self) -> tuple[str, ...]:
        """What stands in the way of publishing: topics that are not there, `acknowledgements` that do not come. May
        be asked on any thread."""

    def close(self) -> None:
        """Give up what is not delivered; call `receipts` until `unacknowledged` is 0 first."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A text that is about to be computed, named by its duplicate key."""

    key: str  # 32 hex digits, see engine.text.duplicate_key
    item_key: str
    position: Position
    at_us: int  # the item's ingested_us: duplicates are decided on recorded times


@dataclass(frozen=True, slots=True)
class First:
    """The first item with a text, and what the model said of it."""

    item_key: str
    position: Position
    seen_us: int
    verdict: Verdict  # its ticket means nothing here


@dataclass(frozen=True, slots=True)
class Hit:
    """The text was answered before."""

    first: First
    count: int  # earlier claims of this text, the first one included


class Acquired:
    """Nobody has this text: compute it."""


class HeldElsewhere:
    """Another worker is computing this text: ask again soon, or compute it anyway."""


ACQUIRED, HELD_ELSEWHERE = Acquired(), HeldElsewhere()
Answer = Hit | Acquired | HeldElsewhere


class DuplicateCache(Protocol):
    """Answers texts that were computed before. Never part of correctness: it may forget anything at any time. No call
    raises and none takes longer than its budget; when the cache is away every claim is ACQUIRED."""

    def claim(self, claims: Sequence[Claim]) -> list[Answer]:
        """One answer a claim, in order; one round trip."""

    def store(self, firsts: Mapping[str, First], repeats: Mapping[str, int]) -> None:
        """Keep what was computed, and count the items that followed a leader in flight, so that the next claim knows
        of them; both by duplicate key. What is only counted, and has no result yet, is given up: the next claim is
        ACQUIRED. One round trip."""

    def close(self) -> None:
        """Let go of the connection."""


class Clock(Protocol):
    """The only wall clock. Telemetry and stamps read it; decisions read recorded times."""

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
