"""The ledger against a model that remembers everything: nothing is lost, and only unfinished work is repeated."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from earlybird.stream.ports import Commit, Partition
from earlybird.stream.stage import commit_map
from earlybird.stream.stage.offsets import REMEMBERED_COMMITS, Ledger

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
        self.ledger = Ledger()
        self.ledger.assign({P: self.broker.commit})
        start = 0 if self.broker.commit is None else self.broker.commit.offset
        self.to_deliver = [offset for offset in self.broker.log if offset >= start]
        self.open: list[int] = []
        self.known_finished = set() if self.broker.commit is None else self.stored_as_finished()
        self.unconfirmed = 0  # commits since the stored one; too many, and the ledger does not know it again
        self.read_to = 0

    def stored_as_finished(self) -> set[int]:
        commit = self.broker.commit
        assert commit is not None
        mapped = commit_map.decode(commit.offset, commit.metadata)
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
            wanted = self.ledger.deliver(P, offset, 1, offset)
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
        epoch = self.ledger.epoch(P)
        assert epoch is not None
        self.ledger.finish(P, offset, epoch)

    @rule(stored=st.booleans())
    def commit(self, stored: bool) -> None:
        commits = self.ledger.commits()
        self.unconfirmed = 0 if stored else self.unconfirmed + 1
        if stored and commits:
            self.broker.commit = commits[P]
        self.ledger.committed(commits, confirmed=stored)

    @rule()
    def die_and_take_over(self) -> None:
        self.take_over()

    @rule(data=st.data())
    def lose_the_partition_and_get_it_back(self, data: st.DataObject) -> None:
        """Some of what was under way is acknowledged meanwhile; the rest was never sent."""
        if self.unconfirmed >= REMEMBERED_COMMITS:
            return
        epoch = self.ledger.epoch(P)
        assert epoch is not None
        self.ledger.lose([P])
        while self.open and data.draw(st.booleans()):
            offset = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
            self.broker.outcomes[offset] = self.broker.outcomes.get(offset, 0) + 1
            self.ledger.finish(P, offset, epoch)
        commit, self.read_to = self.broker.commit, 0
        self.ledger.assign({P: commit})
        self.to_deliver = [offset for offset in self.broker.log if commit is None or offset >= commit.offset]
        self.known_finished = set() if commit is None else self.known_finished - set(self.open)
        self.open.clear()

    @precondition(lambda self: not self.to_deliver)
    @rule(gap=st.integers(0, 3))
    def read_to_the_end(self, gap: int) -> None:
        """Behind the last record lie offsets that hold none."""
        self.next_offset += gap
        self.read_to = self.next_offset
        self.ledger.read_to({P: self.next_offset})

    @rule()
    def finish_everything_and_commit(self) -> None:
        self.deliver(len(self.to_deliver)) if self.to_deliver else None
        epoch = self.ledger.epoch(P)
        assert epoch is not None
        for offset in self.open:
            self.broker.outcomes[offset] = self.broker.outcomes.get(offset, 0) + 1
            self.ledger.finish(P, offset, epoch)
        self.open.clear()
        if commits := self.ledger.commits():
            self.broker.commit, self.unconfirmed = commits[P], 0
            self.ledger.committed(commits, confirmed=True)
        if self.broker.log and self.broker.commit is not None:
            assert self.broker.commit.offset >= max(self.broker.log[-1] + 1, self.read_to)
            assert self.broker.commit.metadata == ""

    @invariant()
    def never_commits_past_unfinished_work(self) -> None:
        if self.broker.commit is not None:
            assert all(self.broker.outcomes.get(offset, 0) >= 1 for offset in self.stored_as_finished())

    @invariant()
    def counts_open_records(self) -> None:
        assert self.ledger.unfinished() == len(self.open)


LedgerAgainstModel.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLedger = LedgerAgainstModel.TestCase


def test_record_with_several_elements_finishes_with_the_last() -> None:
    """An array record is done when every element's outcome is."""
    ledger = Ledger()
    ledger.assign({P: Commit(10)})
    assert ledger.deliver(P, 10, 2)
    epoch = ledger.epoch(P)
    assert epoch is not None
    ledger.finish(P, 10, epoch)
    assert ledger.commits() == {}
    ledger.finish(P, 10, epoch)
    assert ledger.commits() == {P: Commit(11)}


def test_outcome_of_an_older_assignment_is_ignored() -> None:
    """A verdict that arrives after the partition came back counts for nothing: its record was delivered anew."""
    ledger = Ledger()
    ledger.assign({P: Commit(0)})
    old = ledger.epoch(P)
    assert old is not None
    ledger.deliver(P, 0, 1)
    ledger.forget([P])
    ledger.assign({P: Commit(0)})
    ledger.deliver(P, 0, 1)
    ledger.finish(P, 0, old)
    assert ledger.unfinished() == 1


def epoch_of(ledger: Ledger) -> int:
    epoch = ledger.epoch(P)
    assert epoch is not None
    return epoch


def test_what_came_back_at_a_commit_of_somebody_else_is_done_again() -> None:
    """Another member had it in between, or somebody reset the group: what we remember of it means nothing."""
    ledger = Ledger()
    ledger.assign({P: Commit(0)})
    for offset in range(4):
        ledger.deliver(P, offset, 1)
        ledger.finish(P, offset, epoch_of(ledger))
    ledger.committed(ledger.commits(), confirmed=True)
    ledger.lose([P])
    ledger.assign({P: Commit(1)})
    assert [ledger.deliver(P, offset, 1) for offset in range(1, 4)] == [True] * 3


def test_records_written_over_finished_ones_are_done() -> None:
    """The log was cut and went on under a later leader: at the same offsets stand other records."""
    ledger = Ledger()
    ledger.assign({P: Commit(10, "", 4)})
    for offset in range(10, 16):
        ledger.deliver(P, offset, 1, leader_epoch=4)
    for offset in range(12, 16):
        ledger.finish(P, offset, epoch_of(ledger))
    (commit,) = ledger.commits().values()
    assert (commit.offset, commit.leader_epoch) == (10, 4)
    epochs = {10: 4, 11: 4, 12: 4, 13: 6, 14: 6, 15: 6}
    successor = Ledger()
    successor.assign({P: commit})
    wanted = [offset for offset, epoch in epochs.items() if successor.deliver(P, offset, 1, leader_epoch=epoch)]
    assert wanted == [10, 11, 13, 14, 15]
    (later,) = successor.commits().values()
    third = Ledger()
    third.assign({P: later})
    assert [offset for offset in epochs if third.deliver(P, offset, 1, leader_epoch=6)] == [10, 11, 13, 14, 15]


def test_unreadable_map_is_dropped_and_counted() -> None:
    """Another tool's metadata costs repeated work, never a crash."""
    ledger = Ledger()
    ledger.assign({P: Commit(5, "somebody else's note")})
    assert ledger.maps_dropped == {"foreign": 1}
    assert ledger.deliver(P, 5, 1)


def test_map_that_does_not_fit_is_dropped_and_counted() -> None:
    """The offset is committed all the same."""
    ledger = Ledger()
    ledger.assign({P: Commit(0)})
    epoch = ledger.epoch(P)
    assert epoch is not None
    import random

    chance = random.Random(3)
    for offset in range(200_000):
        ledger.deliver(P, offset, 1)
        if offset and chance.random() < 0.5:
            ledger.finish(P, offset, epoch)
    assert ledger.commits() == {P: Commit(0, "")}
    assert ledger.maps_dropped == {"too_long": 1}


def test_partition_begun_anew_takes_lower_offsets() -> None:
    """A topic that was deleted and made again counts from 0: its records must not look finished."""
    ledger = Ledger()
    ledger.assign({P: Commit(500)})
    assert not ledger.deliver(P, 3, 1)
    ledger.assign({P: None})
    assert ledger.deliver(P, 3, 1)
