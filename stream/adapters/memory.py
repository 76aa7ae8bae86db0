"""Everything in one process: for tests of what stands on the ports, and for replays that need no server."""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from earlybird.stream.errors import RecordTooLarge, SinkError, SourceEnded, SourceError
from earlybird.stream.ports import (
    ACQUIRED,
    HELD_ELSEWHERE,
    Answer,
    Claim,
    Commit,
    First,
    Hit,
    Outgoing,
    Partition,
    RebalanceListener,
    Record,
)


class MemorySource:
    """Topics in a list. Rebalances and faults are scripted: each happens inside the next poll, in the order given.

    `committed` is what the group has stored; it outlives this member when handed to the next.
    """

    def __init__(self, committed: dict[Partition, Commit] | None = None, *, bounded: bool = False) -> None:
        """A `bounded` source raises SourceEnded once everything assigned was read."""
        self.committed = {} if committed is None else committed
        self.paused: set[Partition] = set()
        self.refusals = 0  # so many commits to come are refused
        self.closed = False
        self.member = False
        self.unreadable: Mapping[Partition, int] = {}  # as Source.unreadable: nothing is
        self._bounded = bounded
        self._logs: dict[Partition, list[Record]] = {}
        self._positions: dict[Partition, int] = {}  # ours, with the offset to read next
        self._events: deque[Callable[[], None]] = deque()
        self._listener: RebalanceListener | None = None

    def append(self, records: Sequence[Record]) -> None:
        """Records become readable; offsets ascend in each partition, gaps are welcome."""
        for record in records:
            self._logs.setdefault(Partition(record.topic, record.partition), []).append(record)

    def assign(self, partitions: Sequence[Partition]) -> None:
        """At the next poll these become ours."""
        self._events.append(lambda: self._assign(partitions))

    def revoke(self, partitions: Sequence[Partition]) -> None:
        """At the next poll these go to another member."""
        self._events.append(lambda: self._leave(partitions, lost=False))

    def lose(self, partitions: Sequence[Partition]) -> None:
        """At the next poll these are another member's already."""
        self._events.append(lambda: self._leave(partitions, lost=True))

    def fail(self, reason: str) -> None:
        """The next poll raises SourceError."""

        def event() -> None:
            raise SourceError(reason)

        self._events.append(event)

    def subscribe(self, listener: RebalanceListener) -> None:
        """As Source.subscribe."""
        self._listener = listener

    def poll(self, timeout_ms: int, limit: int) -> list[Record]:  # noqa: ARG002
        """As Source.poll, but it never waits."""
        while self._events:
            self._events.popleft()()
        taken: list[Record] = []
        for partition in sorted(self._positions.keys() - self.paused):
            log = self._logs.get(partition, [])
            start = bisect_left(log, self._positions[partition], key=lambda record: record.offset)
            ahead = log[start : start + limit - len(taken)]
            if ahead:
                taken += ahead
                self._positions[partition] = ahead[-1].offset + 1
        if not taken and self._bounded and not self.paused:
            raise SourceEnded("everything was read")
        return taken

    def commit(self, commits: Mapping[Partition, Commit], *, wait: bool) -> bool:  # noqa: ARG002
        """As Source.commit. Partitions that are not ours are refused, as by a broker after a rebalance."""
        if self.refusals:
            self.refusals -= 1
            return False
        if commits.keys() - self._positions.keys():
            return False
        self.committed.update(commits)
        return True

    def pause(self, partitions: Sequence[Partition]) -> None:
        """As Source.pause."""
        self.paused.update(partitions)

    def resume(self, partitions: Sequence[Partition]) -> None:
        """As Source.resume."""
        self.paused.difference_update(partitions)

    def attend(self, timeout_ms: int) -> None:  # noqa: ARG002
        """As Source.attend, but it never waits."""
        while self._events:
            self._events.popleft()()

    def lag(self) -> Mapping[Partition, int]:
        """As Source.lag."""
        return {
            partition: sum(record.offset >= position for record in self._logs.get(partition, ()))
            for partition, position in self._positions.items()
        }

    def close(self) -> None:
        """As Source.close."""
        if self._positions:
            self._leave(list(self._positions), lost=False)
        self.closed = True

    def _assign(self, partitions: Sequence[Partition]) -> None:
        assert self._listener is not None, "subscribe comes first"
        committed = {partition: self.committed.get(partition) for partition in partitions}
        for partition, commit in committed.items():
            self._positions[partition] = 0 if commit is None else commit.offset
        self._listener.assigned(committed)
        self.member = True

    def _leave(self, partitions: Sequence[Partition], *, lost: bool) -> None:
        assert self._listener is not None, "subscribe comes first"
        (self._listener.lost if lost else self._listener.revoked)(partitions)
        self.member = self.member and not lost
        for partition in partitions:
            self._positions.pop(partition, None)
            self.paused.discard(partition)


class MemorySink:
    """Keeps what it is given. Acknowledges at once, or when told to (`hold`), in any order a test likes. What is larger
    than its topic takes (`limits`) is refused as by a broker."""

    largest = 1_000_000

    def __init__(self) -> None:
        self.limits: dict[str, int] = {}  # topic -> bytes of a record
        self.sent: list[Outgoing] = []  # acknowledged, in that order
        self.hold = False
        self.failure: str | None = None  # once set, nothing is delivered any more
        self.closed = False
        self._waiting: list[tuple[Outgoing, object | None]] = []
        self._ready: list[object] = []
        self._refused: deque[RecordTooLarge] = deque()

    def send(self, outgoing: Outgoing, receipt: object | None = None) -> None:
        """As Sink.send."""
        self._raise_failure()
        if outgoing.size > self.largest:
            raise RecordTooLarge(outgoing.topic, outgoing.size, self.largest, receipt)
        if outgoing.size > self.limits.get(outgoing.topic, self.largest):
            self._refused.append(RecordTooLarge(outgoing.topic, outgoing.size, None, receipt))
            return
        self._waiting.append((outgoing, receipt))
        if not self.hold:
            self.acknowledge()

    def acknowledge(self, count: int | None = None) -> None:
        """The broker has the next `count` records (None: all)."""
        done, self._waiting = self._waiting[:count], self._waiting[len(self._waiting[:count]) :]
        self.sent += [outgoing for outgoing, _ in done]
        self._ready += [receipt for _, receipt in done if receipt is not None]

    def receipts(self, timeout_ms: int = 0) -> list[object]:  # noqa: ARG002
        """As Sink.receipts, but it never waits."""
        ready, self._ready = self._ready, []
        if not ready:
            self._raise_failure()
            if self._refused:
                raise self._refused.popleft()
        return ready

    def unacknowledged(self) -> int:
        """As Sink.unacknowledged."""
        return len(self._waiting) + len(self._refused)

    @property
    def awaited(self) -> tuple[str, ...]:
        """As Sink.awaited: nothing."""
        return ()

    def close(self) -> None:
        """As Sink.close."""
        self._waiting.clear()
        self.closed = True

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise SinkError(self.failure)


class MemoryCache:
    """A DuplicateCache in a dict: what Redis answers, without the lease's clock and without forgetting.

    `peer` is another worker's view of the same entries.
    """

    def __init__(self, ttl_us: int) -> None:
        self._ttl_us = ttl_us
        self._firsts: dict[str, First] = {}
        self._counts: dict[str, int] = {}
        self._owners: dict[str, object] = {}
        self._token = object()

    def peer(self) -> "MemoryCache":
        """The same cache, as another worker has it."""
        other = MemoryCache(self._ttl_us)
        other._firsts, other._counts, other._owners = self._firsts, self._counts, self._owners
        return other

    def end_leases(self) -> None:
        """Whoever was computing a text is given up."""
        self._owners.clear()

    def flush(self) -> None:
        """Forget everything."""
        for entries in (self._firsts, self._counts, self._owners):
            entries.clear()

    def claim(self, claims: Sequence[Claim]) -> list[Answer]:
        """As DuplicateCache.claim."""
        return [self._claim(claim) for claim in claims]

    def store(self, firsts: Mapping[str, First], repeats: Mapping[str, int]) -> None:
        """As DuplicateCache.store."""
        for key, first in firsts.items():
            if key not in self._firsts:
                self._firsts[key], self._counts[key] = first, 1
            self._owners.pop(key, None)
        for key in repeats.keys() - firsts.keys():
            if key not in self._firsts and self._owners.get(key) is self._token:
                del self._owners[key]
        for key in repeats.keys() & self._firsts.keys():
            self._counts[key] += repeats[key]

    def close(self) -> None:
        """As DuplicateCache.close."""

    def _claim(self, claim: Claim) -> Answer:
        first = self._firsts.get(claim.key)
        if first is not None and abs(claim.at_us - first.seen_us) <= self._ttl_us:
            count = self._counts[claim.key]
            self._counts[claim.key] += first.position != claim.position
            return Hit(first, count)
        if first is None and self._owners.get(claim.key, self._token) is not self._token:
            return HELD_ELSEWHERE
        self._firsts.pop(claim.key, None)
        self._owners[claim.key] = self._token
        return ACQUIRED


class NoCache:
    """A DuplicateCache that knows nothing: every text that is not in flight is computed."""

    def claim(self, claims: Sequence[Claim]) -> list[Answer]:
        """As DuplicateCache.claim: all ACQUIRED."""
        return [ACQUIRED] * len(claims)

    def store(self, firsts: Mapping[str, First], repeats: Mapping[str, int]) -> None:
        """As DuplicateCache.store: forgotten."""

    def close(self) -> None:
        """As DuplicateCache.close."""
