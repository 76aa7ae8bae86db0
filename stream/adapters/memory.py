"""In-memory source, sink and cache, for tests and for replays without a server."""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from earlybird.stream.errors import RecordTooLarge, SinkError, SourceEnded, SourceError
from earlybird.stream.ports import (
    ACQUIRED,
    HELD_ELSEWHERE,
    Claim,
    ClaimResult,
    Commit,
    First,
    Hit,
    Outgoing,
    Partition,
    RebalanceListener,
    Record,
)


class MemorySource:
    """A Source on lists with scripted rebalances and faults.

    Each event happens inside the next poll, in the order given. `committed` holds the group's commits; passed to the
    next member, it outlives this one.
    """

    def __init__(self, committed: dict[Partition, Commit] | None = None, *, bounded: bool = False) -> None:
        """Start with these commits; a `bounded` source raises SourceEnded once everything was read."""
        self.committed = {} if committed is None else committed
        self.paused: set[Partition] = set()
        self.refusals = 0  # number of further commits to refuse
        self.closed = False
        self.member = False
        self.unreadable: Mapping[Partition, int] = {}  # see Source.unreadable; always empty
        self._bounded = bounded
        self._logs: dict[Partition, list[Record]] = {}
        self._positions: dict[Partition, int] = {}  # our partitions, with the offset to read next
        self._events: deque[Callable[[], None]] = deque()
        self._listener: RebalanceListener | None = None

    def append(self, records: Sequence[Record]) -> None:
        """Make records readable; offsets ascend in each partition, gaps are allowed."""
        for record in records:
            self._logs.setdefault(Partition(record.topic, record.partition), []).append(record)

    def assign(self, partitions: Sequence[Partition]) -> None:
        """Assign these partitions at the next poll."""
        self._events.append(lambda: self._assign(partitions))

    def revoke(self, partitions: Sequence[Partition]) -> None:
        """Move these partitions to another member at the next poll."""
        self._events.append(lambda: self._leave(partitions, lost=False))

    def lose(self, partitions: Sequence[Partition]) -> None:
        """Lose these partitions at the next poll; another member owns them already."""
        self._events.append(lambda: self._leave(partitions, lost=True))

    def fail(self, reason: str) -> None:
        """Let the next poll raise SourceError."""

        def event() -> None:
            raise SourceError(reason)

        self._events.append(event)

    def subscribe(self, listener: RebalanceListener) -> None:
        self._listener = listener

    def poll(self, timeout_ms: int, limit: int) -> list[Record]:  # noqa: ARG002
        """See Source.poll; it never waits."""
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
        """See Source.commit; refuses partitions that are not ours, like a broker after a rebalance."""
        if self.refusals:
            self.refusals -= 1
            return False
        if commits.keys() - self._positions.keys():
            return False
        self.committed.update(commits)
        return True

    def offsets_for(self, commits: Mapping[Partition, Commit]) -> Callable[[], bool]:
        """Return what a MemoryTransactions calls at its commit."""
        return lambda: self.commit(commits, wait=True)

    def pause(self, partitions: Sequence[Partition]) -> None:
        self.paused.update(partitions)

    def resume(self, partitions: Sequence[Partition]) -> None:
        self.paused.difference_update(partitions)

    def serve_group(self, timeout_ms: int) -> None:  # noqa: ARG002
        """See Source.serve_group; it never waits."""
        while self._events:
            self._events.popleft()()

    def lag(self) -> Mapping[Partition, int]:
        return {
            partition: sum(record.offset >= position for record in self._logs.get(partition, ()))
            for partition, position in self._positions.items()
        }

    def close(self) -> None:
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
    """A Sink that keeps its records and acknowledges them at once.

    With `hold` it acknowledges when told to. A record larger than its topic's limit (`limits`) is refused, as by a
    broker.
    """

    largest = 1_000_000

    def __init__(self) -> None:
        self.limits: dict[str, int] = {}  # topic -> bytes of a record
        self.sent: list[Outgoing] = []  # acknowledged records, in order of acknowledgement
        self.hold = False
        self.failure: str | None = None  # once set, nothing is delivered any more
        self.closed = False
        self._waiting: list[tuple[Outgoing, object | None]] = []
        self._ready: list[object] = []
        self._refused: deque[RecordTooLarge] = deque()

    def send(self, outgoing: Outgoing, receipt: object | None = None) -> None:
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
        """Acknowledge the next `count` records (None: all)."""
        done, self._waiting = self._waiting[:count], self._waiting[len(self._waiting[:count]) :]
        self.sent += [outgoing for outgoing, _ in done]
        self._ready += [receipt for _, receipt in done if receipt is not None]

    def receipts(self, timeout_ms: int = 0) -> list[object]:  # noqa: ARG002
        """See Sink.receipts; it never waits."""
        ready, self._ready = self._ready, []
        if not ready:
            self._raise_failure()
            if self._refused:
                raise self._refused.popleft()
        return ready

    def unacknowledged(self) -> int:
        return len(self._waiting) + len(self._refused)

    @property
    def awaited(self) -> tuple[str, ...]:
        """See Sink.awaited; always empty."""
        return ()

    def close(self) -> None:
        self._waiting.clear()
        self.closed = True

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise SinkError(self.failure)


class MemoryCache:
    """A DuplicateCache in a dict: answers like Redis, without expiry of leases or entries.

    `peer` is another worker's view of the same entries.
    """

    def __init__(self, ttl_us: int) -> None:
        self._ttl_us = ttl_us
        self._firsts: dict[str, First] = {}
        self._counts: dict[str, int] = {}
        self._owners: dict[str, object] = {}
        self._token = object()

    def peer(self) -> "MemoryCache":
        """Return another worker's view of the same cache."""
        other = MemoryCache(self._ttl_us)
        other._firsts, other._counts, other._owners = self._firsts, self._counts, self._owners
        return other

    def end_leases(self) -> None:
        """End all leases, as if the workers that compute had died."""
        self._owners.clear()

    def flush(self) -> None:
        """Forget everything."""
        for entries in (self._firsts, self._counts, self._owners):
            entries.clear()

    def claim(self, claims: Sequence[Claim]) -> list[ClaimResult]:
        return [self._claim(claim) for claim in claims]

    def store(self, firsts: Mapping[str, First], repeats: Mapping[str, int]) -> None:
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
        """See DuplicateCache.close."""

    def _claim(self, claim: Claim) -> ClaimResult:
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
    """A DuplicateCache that is always empty: every text that is not in flight is computed."""

    def claim(self, claims: Sequence[Claim]) -> list[ClaimResult]:
        """See DuplicateCache.claim; all ACQUIRED."""
        return [ACQUIRED] * len(claims)

    def store(self, firsts: Mapping[str, First], repeats: Mapping[str, int]) -> None:
        """See DuplicateCache.store; stores nothing."""

    def close(self) -> None:
        """See DuplicateCache.close."""
