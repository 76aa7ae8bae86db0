"""The ledger against a model that remembers everything: nothing is lost, and only unfinished work is repeated."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from earlybird.stream.ports import Commit, Partition
from earlybird.stream.stage import commit_map
from earlybird.stream.stage.offsets import REMEMBERED_COMMITS, OffsetTracker

P = Partition("news.raw", 0)


@dataclass
class Broker:
    """The partition's log (with gaps) and the group's stored commit."""

    log: list[int] = field(default_factory=list)
    commit: Commit | None = None
    outcomes: dict[int, int] = field(default_factory=dict)  # offset -> times its outcome was published


class LedgerAgainstModel(RuleBasedStateMachine):
    """Records arrive with gaps, finish in any order, commits succeed or are lost, workers die and take over."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker()
        self.next_offset = 0
        self.take_over()

    def take_over(self) -> None:
        """A new worker: nothing but the stored commit survives."""
        self.offsets = OffsetTracker()
        self.offsets.assign({P: self.broker.commit})
        start = 0 if self.broker.commit is None else self.broker.commit.offset
        self.to_deliver = [offset for offset in self.broker.log if offset >= start]
        self.open: list[int] = []
        self.known_finished = set() if self.broker.commit is None else self.stored_as_finished()
        self.unconfirmed = 0  # commits since the stored one; too many, and the ledger does not know it again
        self.read_to = 0

    def stored_as_finished(self) -> set[int]:
        commit = self.broker.commit
        assert commit is not None
        mapped = commit_map.decode(commit.offset, commit.metadata).finished
        return {offset for offset in self.broker.log if offset < commit.offset or offset in mapped}

    @rule(gap=st.integers(0, 3), count=st.integers(1, 8))
    def append(self, gap: int, count: int) -> None:
        self.next_offset += gap
        for _ in range(count):
            self.broker.log.append(self.next_offset)
            self.to_deliver.append(self.next_offset)
            self.next_offset += 1

    @precondition(lambda self: self.to_deliver)
    @rule(count=st.integers(1, 10))
    def deliver(self, count: int) -> None:
        for offset in self.to_deliver[:count]:
            wanted = self.offsets.deliver(P, offset, 1, offset)
            assert wanted is (offset not in self.known_finished), offset
            self.known_finished.add(offset)  # once it is finished, which all but the open ones are
            if wanted:
                self.open.append(offset)
        del self.to_deliver[:count]

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        offset = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        self.broker.outcomes[offset] = self.broker.outcomes.get(offset, 0) + 1
        epoch = self.offsets.epoch(P)
        assert epoch is not None
        self.offsets.finish(P, offset, epoch)

    @rule(stored=st.booleans())
    def commit(self, stored: bool) -> None:
        commits = self.offsets.commits()
        self.unconfirmed = 0 if stored else self.unconfirmed + 1
        if stored and commits:
            self.broker.commit = commits[P]
        self.offsets.committed(commits, confirmed=stored)

    @rule()
    def die_and_take_over(self) -> None:
        self.take_over()

    @rule(data=st.data())
    def lose_the_partition_and_get_it_back(self, data: st.DataObject) -> None:
        """Some of what was under way is acknowledged meanwhile; the rest was never sent."""
        if self.unconfirmed >= REMEMBERED_COMMITS:
            return
        epoch = self.offsets.epoch(P)
        assert epoch is not None
        self.offsets.lose([P])
        while bool(self.open) and data.draw(st.booleans()):
            offset = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
            self.broker.outcomes[offset] = self.broker.outcomes.get(offset, 0) + 1
            self.offsets.finish(P, offset, epoch)
        commit, self.read_to = self.broker.commit, 0
        self.offsets.assign({P: commit})
        self.to_deliver = [offset for offset in self.broker.log if commit is None or offset >= commit.offset]
        self.known_finished = set() if commit is None else self.known_finished - set(self.open)
        self.open.clear()

    @precondition(lambda self: not self.to_deliver)
    @rule(gap=st.integers(0, 3))
    def read_to_the_end(self, gap: int) -> None:
        """Behind the last record lie offsets that hold none."""
        self.next_offset += gap
        self.read_to = self.next_offset
        self.offsets.read_to({P: self.next_offset})

    @rule()
    def finish_everything_and_commit(self) -> None:
        self.deliver(len(self.to_deliver)) if self.to_deliver else None
        epoch = self.offsets.epoch(P)
        assert epoch is not None
        for offset in self.open:
            self.broker.outcomes[offset] = self.broker.outcomes.get(offset, 0) + 1
            self.offsets.finish(P, offset, epoch)
        self.open.clear()
        if commits := self.offsets.commits():
            self.broker.commit, self.unconfirmed = commits[P], 0
            self.offsets.committed(commits, confirmed=True)
        if self.broker.log and self.broker.commit is not None:
            assert self.broker.commit.offset >= max(self.broker.log[-1] + 1, self.read_to)
            assert self.broker.commit.metadata == ""

    @invariant()
    def never_commits_past_unfinished_work(self) -> None:
        if self.broker.commit is not None:
            assert all(self.broker.outcomes.get(offset, 0) >= 1 for offset in self.stored_as_finished())

    @invariant()
    def counts_open_records(self) -> None:
        assert self.offsets.unfinished() == len(self.open)


LedgerAgainstModel.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLedger = LedgerAgainstModel.TestCase


def test_record_with_several_elements_finishes_with_the_last() -> None:
    """An array record is done when every element's outcome is."""
    offsets = OffsetTracker()
    offsets.assign({P: Commit(10)})
    assert offsets.deliver(P, 10, 2)
    epoch = offsets.epoch(P)
    assert epoch is not None
    offsets.finish(P, 10, epoch)
    assert offsets.commits() == {}
    offsets.finish(P, 10, epoch)
    assert offsets.commits() == {P: Commit(11)}


def test_outcome_of_an_older_assignment_is_ignored() -> None:
    """A verdict that arrives after the partition came back counts for nothing: its record was delivered anew."""
    offsets = OffsetTracker()
    offsets.assign({P: Commit(0)})
    old = offsets.epoch(P)
    assert old is not None
    offsets.deliver(P, 0, 1)
    offsets.forget([P])
    offsets.assign({P: Commit(0)})
    offsets.deliver(P, 0, 1)
    offsets.finish(P, 0, old)
    assert offsets.unfinished() == 1


def epoch_of(offsets: OffsetTracker) -> int:
    epoch = offsets.epoch(P)
    assert epoch is not None
    return epoch


def test_what_came_back_at_a_commit_of_somebody_else_is_done_again() -> None:
    """Another member had it in between, or somebody reset the group: what we remember of it means nothing."""
    offsets = OffsetTracker()
    offsets.assign({P: Commit(0)})
    for offset in range(4):
        offsets.deliver(P, offset, 1)
        offsets.finish(P, offset, epoch_of(offsets))
    offsets.committed(offsets.commits(), confirmed=True)
    offsets.lose([P])
    offsets.assign({P: Commit(1)})
    assert [offsets.deliver(P, offset, 1) for offset in range(1, 4)] == [True] * 3


def test_records_written_over_finished_ones_are_done() -> None:
    """The log was cut and went on under a later leader: at the same offsets stand other records."""
    offsets = OffsetTracker()
    offsets.assign({P: Commit(10, "", 4)})
    for offset in range(10, 16):
        offsets.deliver(P, offset, 1, leader_epoch=4)
    for offset in range(12, 16):
        offsets.finish(P, offset, epoch_of(offsets))
    (commit,) = offsets.commits().values()
    assert (commit.offset, commit.leader_epoch) == (10, 4)
    epochs = {10: 4, 11: 4, 12: 4, 13: 6, 14: 6, 15: 6}
    successor = OffsetTracker()
    successor.assign({P: commit})
    wanted = [offset for offset, epoch in epochs.items() if successor.deliver(P, offset, 1, leader_epoch=epoch)]
    assert wanted == [10, 11, 13, 14, 15]
    (later,) = successor.commits().values()
    third = OffsetTracker()
    third.assign({P: later})
    assert [offset for offset in epochs if third.deliver(P, offset, 1, leader_epoch=6)] == [10, 11, 13, 14, 15]


def test_unreadable_map_is_dropped_and_counted() -> None:
    """Another tool's metadata costs repeated work, never a crash."""
    offsets = OffsetTracker()
    offsets.assign({P: Commit(5, "somebody else's note")})
    assert offsets.maps_dropped == {"foreign": 1}
    assert offsets.deliver(P, 5, 1)


def test_map_that_does_not_fit_is_dropped_and_counted() -> None:
    """The offset is committed all the same."""
    offsets = OffsetTracker()
    offsets.assign({P: Commit(0)})
    epoch = offsets.epoch(P)
    assert epoch is not None
    import random

    rng = random.Random(3)
    for offset in range(200_000):
        offsets.deliver(P, offset, 1)
        if offset and rng.random() < 0.5:
            offsets.finish(P, offset, epoch)
    assert offsets.commits() == {P: Commit(0, "")}
    assert offsets.maps_dropped == {"too_long": 1}


def test_partition_begun_anew_takes_lower_offsets() -> None:
    """A topic that was deleted and made again counts from 0: its records must not look finished."""
    offsets = OffsetTracker()
    offsets.assign({P: Commit(500)})
    assert not offsets.deliver(P, 3, 1)
    offsets.assign({P: None})
    assert offsets.deliver(P, 3, 1)
