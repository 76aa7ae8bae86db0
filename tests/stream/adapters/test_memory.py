"""The fakes keep the ports' promises, so that what is tested on them means something."""

from collections.abc import Mapping, Sequence

import pytest

from earlybird.engine.types import Verdict
from earlybird.schemas.signal import ExitReason
from earlybird.stream.adapters.breaker import Breaker
from earlybird.stream.adapters.memory import MemoryCache, MemorySink, MemorySource
from earlybird.stream.errors import SinkError, SourceEnded, SourceError
from earlybird.stream.ports import (
    ACQUIRED,
    HELD_ELSEWHERE,
    Claim,
    Commit,
    First,
    Hit,
    Outgoing,
    Partition,
    Position,
    Record,
)

ZERO, ONE = Partition("t", 0), Partition("t", 1)


class Listener:
    def __init__(self) -> None:
        self.events: list[object] = []

    def assigned(self, committed: Mapping[Partition, Commit | None]) -> None:
        self.events.append(dict(committed))

    def revoked(self, partitions: Sequence[Partition]) -> None:
        self.events.append(("revoked", list(partitions)))

    def waiting(self) -> None: ...

    def read_to(self, ends: Mapping[Partition, int]) -> None: ...

    def lost(self, partitions: Sequence[Partition]) -> None:
        self.events.append(("lost", list(partitions)))


def records(place: Partition, *offsets: int) -> list[Record]:
    return [Record(place.topic, place.number, offset, None, b"%d" % offset) for offset in offsets]


def test_a_source_starts_at_the_commit_and_jumps_over_gaps() -> None:
    """Offsets need not be consecutive; those below the commit are not read again."""
    source, listener = MemorySource({ZERO: Commit(3, "note")}), Listener()
    source.subscribe(listener)
    source.append(records(ZERO, 0, 2, 5, 9) + records(ONE, 0))
    source.assign([ZERO, ONE])
    assert [(r.partition, r.offset) for r in source.poll(0, 2)] == [(0, 5), (0, 9)]
    assert [(r.partition, r.offset) for r in source.poll(0, 2)] == [(1, 0)]
    assert listener.events == [{ZERO: Commit(3, "note"), ONE: None}]


def test_partitions_that_left_are_neither_read_nor_committed() -> None:
    """After a rebalance a commit is refused, as a broker does."""
    source, listener = MemorySource(), Listener()
    source.subscribe(listener)
    source.append(records(ZERO, 0))
    source.assign([ZERO])
    source.lose([ZERO])
    assert source.poll(0, 10) == []
    assert source.commit({ZERO: Commit(1)}, wait=True) is False
    assert listener.events[-1] == ("lost", [ZERO])


def test_pause_holds_and_lag_counts_what_waits() -> None:
    """A paused partition keeps its place."""
    source = MemorySource()
    source.subscribe(Listener())
    source.append(records(ZERO, 0, 1))
    source.assign([ZERO])
    source.poll(0, 1)
    source.pause([ZERO])
    assert source.poll(0, 10) == [] and source.lag() == {ZERO: 1}
    source.resume([ZERO])
    assert [record.offset for record in source.poll(0, 10)] == [1]


def test_a_bounded_source_ends_and_a_failing_one_fails() -> None:
    """The two ends of a source are told apart."""
    source = MemorySource(bounded=True)
    source.subscribe(Listener())
    source.fail("broken")
    with pytest.raises(SourceError, match="broken"):
        source.poll(0, 1)
    with pytest.raises(SourceEnded):
        source.poll(0, 1)


def test_a_sink_gives_receipts_only_for_what_was_acknowledged() -> None:
    """Held records are unacknowledged, and a failing sink says so."""
    sink = MemorySink()
    sink.hold = True
    for number in range(3):
        sink.send(Outgoing("t", b"k", b"%d" % number), number)
    sink.acknowledge(2)
    assert (sink.receipts(), sink.unacknowledged()) == ([0, 1], 1)
    sink.failure = "refused"
    with pytest.raises(SinkError, match="refused"):
        sink.receipts()


def test_the_memory_cache_answers_as_redis_does() -> None:
    """Mine, pending, hit with its count, and recorded time to live."""
    ours = MemoryCache(ttl_us=100)
    theirs = ours.peer()
    claim = Claim("k", "wire:1", Position("t", 0, 1), 1_000)
    assert (ours.claim([claim]), theirs.claim([claim])) == ([ACQUIRED], [HELD_ELSEWHERE])
    first = First("wire:0", Position("t", 0, 0), 1_000, Verdict(-1, 0, (1.0,), (0.0,), 1, ExitReason.FIXED, 0.0))
    ours.store({"k": first}, {"k": 2})
    assert theirs.claim([claim, claim]) == [Hit(first, 3), Hit(first, 4)]
    assert theirs.claim([Claim("k", "wire:2", Position("t", 0, 2), 1_101)]) == [ACQUIRED]


def test_a_breaker_opens_probes_and_closes() -> None:
    """One probe an interval while open; a success closes; only runs of failures open."""
    now = [0.0]
    breaker = Breaker(2, 1.0, lambda: now[0])
    assert not breaker.failed() and not breaker.succeeded() and not breaker.failed()
    assert breaker.failed() and breaker.open and not breaker.allows()
    now[0] = 1.0
    assert [breaker.allows(), breaker.allows()] == [True, False]
    assert not breaker.failed() and not breaker.allows()
    now[0] = 2.0
    assert breaker.allows() and breaker.succeeded() and breaker.allows()
