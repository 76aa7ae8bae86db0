"""A record that ends the process: it is found, refused and named, and its neighbours are unharmed."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from earlybird.schemas.rejection import Reason
from earlybird.stream.parsing.records import Readable
from earlybird.stream.ports import Commit, Partition, Record
from earlybird.stream.stage import commit_map
from earlybird.stream.stage.budget import Budget
from earlybird.stream.stage.guarded_parser import GuardedParser
from earlybird.stream.stage.messages import Entry
from earlybird.stream.stage.offsets import REFUSE_AFTER, SUSPECT_AFTER, OffsetTracker

P0, P1 = Partition("news.raw", 0), Partition("news.raw", 1)

Worlds = Callable[..., Any]
News = Callable[..., dict[str, Any]]
MakeRecord = Callable[..., Record]


class Death(BaseException):
    """As the kernel ends a process: nothing of it goes on, and nothing is written down."""


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text with `kill` ends the process that encodes it."""
    encode = GuardedParser.encode

    def or_die(self: GuardedParser, entries: list[Entry]) -> None:
        if any(isinstance(entry.element, Readable) and b"kill" in (entry.record.value or b"") for entry in entries):
            raise Death
        encode(self, entries)

    monkeypatch.setattr(GuardedParser, "encode", or_die)


@pytest.mark.usefixtures("deadly")
@pytest.mark.parametrize("places", [(0,), (7,), (3, 4, 11)])
@pytest.mark.parametrize("room", [1, 4, 100])
def test_deadly_records_are_refused(
    worlds: Worlds, make_news: News, make_record: MakeRecord, places: tuple[int, ...], room: int
) -> None:
    """Each successor starts with nothing but the group's commits. The number of deaths is bounded."""
    texts = ["the kill" if offset in places else f"Acme opens plant {offset}" for offset in range(16)]
    records = [make_record(offset, make_news(str(offset), text)) for offset, text in enumerate(texts)]
    other = [make_record(0, make_news("other", "Bolt Corp warns on profit"), partition=1)]
    committed: dict[Partition, Commit] = {}
    signals, letters, deaths = Counter[str](), Counter[int](), 0
    while committed.get(P0, Commit(0)).offset < len(records):
        world = worlds([0, 1], committed=committed, budget=Budget(max_in_flight=room, batch=room, commit_interval_ms=0))
        world.source.append([*records, *other])
        try:
            for _ in range(40):
                world.finish()
        except Death:
            deaths += 1
        signals.update(signal.item_key for signal in world.signals if signal.action != "retract")
        letters.update(letter.raw.offset for letter in world.rejections)
        assert all(letter.reason is Reason.POISON for letter in world.rejections)
        assert deaths <= SUSPECT_AFTER + REFUSE_AFTER * len(places), "a crash loop"
    assert set(letters) == set(places)
    assert set(signals) == {f"wire:{offset}" for offset in range(16) if offset not in places} | {"wire:other"}
    assert committed[P0] == Commit(len(records))


def test_deaths_that_have_other_reasons_blame_nobody(
    worlds: Worlds, make_news: News, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that dies at random moments reads everything in the end: who came further is no suspect."""
    rng, encode = random.Random(3), GuardedParser.encode

    def or_die(self: GuardedParser, entries: list[Entry]) -> None:
        if rng.random() < 0.3:
            raise Death
        encode(self, entries)

    monkeypatch.setattr(GuardedParser, "encode", or_die)
    records = [make_record(offset, make_news(str(offset), f"Acme opens plant {offset}")) for offset in range(60)]
    committed: dict[Partition, Commit] = {}
    signals: set[str] = set()
    while committed.get(P0, Commit(0)).offset < len(records):
        world = worlds([0], committed=committed, budget=Budget(max_in_flight=4, batch=4, commit_interval_ms=0))
        world.source.append(records)
        try:
            for _ in range(40):
                world.finish()
        except Death:
            pass
        signals.update(signal.item_key for signal in world.signals)
        assert world.rejections == []
    assert len(signals) == 60


def attempts(commit: Commit | None) -> int:
    """How often the first unfinished record was begun, by the commit's metadata."""
    assert commit is not None
    return commit_map.decode(commit.offset, commit.metadata).attempts


def test_an_end_in_order_is_no_attempt() -> None:
    """Deployments and rebalances stop workers in the middle of slow texts, any number of times."""
    commit: Commit | None = Commit(5)
    for _ in range(20):
        offsets = OffsetTracker()
        offsets.assign({P0: commit})
        begun = offsets.begin(P0, 5)
        assert begun is not None and attempts(begun) == 1
        assert offsets.begin(P0, 6) is None
        offsets.committed({P0: begun}, confirmed=True)
        assert offsets.deliver(P0, 5, 1)
        commit = offsets.commits(ending=True)[P0]
        assert attempts(commit) == 0 and not offsets.suspects


def test_attempts_are_counted_until_the_record_is_suspected_and_refused() -> None:
    """They live in the commit alone."""
    commit: Commit | None = Commit(5)
    for attempt in range(1, REFUSE_AFTER + 1):
        offsets = OffsetTracker()
        offsets.assign({P0: commit})
        assert offsets.suspects == ([P0] if attempt > SUSPECT_AFTER else [])
        assert offsets.guilty(P0) == 0
        commit = offsets.begin(P0, 5)
        assert attempts(commit) == attempt
    offsets = OffsetTracker()
    offsets.assign({P0: commit})
    assert offsets.guilty(P0) == REFUSE_AFTER


def test_a_partition_that_came_back_has_not_died() -> None:
    """A broker that stays away takes partitions from processes that live on."""
    offsets = OffsetTracker()
    offsets.assign({P0: Commit(5)})
    for _ in range(2 * REFUSE_AFTER):
        begun = offsets.begin(P0, 5)
        assert begun is not None and attempts(begun) == 1
        offsets.committed({P0: begun}, confirmed=True)
        offsets.deliver(P0, 5, 1)
        offsets.lose([P0])
        offsets.assign({P0: begun})


def test_nothing_that_came_after_the_deaths_is_suspected() -> None:
    """A quiet partition must not hold the others of its worker to one record at a time for days."""
    offsets = OffsetTracker()
    commit: Commit | None = Commit(5, commit_map.encode(5, (), SUSPECT_AFTER) or "")
    offsets.assign({P0: commit})
    offsets.deliver(P0, 5, 1)
    offsets.read_to({P0: 6})
    assert offsets.suspects == [P0], "the last record that the dead may have had is not finished"
    offsets.finish(P0, 5, offsets.epoch(P0) or 0)
    assert offsets.suspects == []
    assert attempts(offsets.begin(P0, 6)) == 1


@pytest.mark.usefixtures("deadly")
@pytest.mark.parametrize("first", [0, 1])
def test_what_is_done_elsewhere_is_not_counted(
    worlds: Worlds, make_news: News, make_record: MakeRecord, first: int
) -> None:
    """A partition whose only record is finished, but not committed yet, when a record of another one kills."""
    records = [make_record(offset, make_news(str(offset), "the kill"), partition=1 - first) for offset in range(3)]
    other = [make_record(0, make_news("other", "Bolt Corp warns on profit"), partition=first)]
    committed: dict[Partition, Commit] = {}
    for _ in range(SUSPECT_AFTER + REFUSE_AFTER * len(records) + 1):
        world = worlds([0, 1], committed=committed, budget=Budget(commit_interval_ms=1_000_000))
        world.source.append([*other, *records] if first == 0 else [*records, *other])
        try:
            for _ in range(40):
                world.finish()
        except Death:
            continue
        break
    else:
        pytest.fail("a crash loop")
    assert {letter.raw.partition for letter in world.rejections} <= {1 - first}
