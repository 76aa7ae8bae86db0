"""The stage, stepped by hand: what leaves, in which order, and what may be committed when."""

from collections.abc import Callable
from typing import Any

import pytest

from earlybird.schemas.rejection import Reason
from earlybird.schemas.signal import SignalAction
from earlybird.stream.adapters.memory import MemoryCache
from earlybird.stream.ports import Commit, Partition, Record
from earlybird.stream.stage.budget import Budget
from earlybird.stream.stage.messages import Fence

P0, P1 = Partition("news.raw", 0), Partition("news.raw", 1)
NOW_US = 1_770_000_000_000_000
DAY_US = 86_400_000_000

Worlds = Callable[..., Any]
News = Callable[..., dict[str, Any]]
MakeRecord = Callable[..., Record]


@pytest.fixture
def three(make_news: News, make_record: MakeRecord) -> list[Record]:
    """Three different texts on one partition."""
    texts = ("Acme raises its outlook", "Bolt Corp warns on profit", "Crane Ltd names a new chairman")
    return [make_record(offset, make_news(str(offset), text)) for offset, text in enumerate(texts)]


def test_signal_leaves_when_its_text_exits(worlds: Worlds, three: list[Record]) -> None:
    """Whatever its neighbours do; what is committed waits for the slow one, and the map knows the rest."""
    world = worlds()
    world.source.append(three)
    world.turn()
    world.model.exit(2)
    world.model.exit(1)
    world.turn()
    assert [signal.item_key for signal in world.signals] == ["wire:2", "wire:1"]
    assert world.source.committed[P0].offset == 0
    assert world.source.committed[P0].metadata
    world.model.exit()
    world.turn(3)
    assert world.source.committed[P0] == Commit(3)


def test_restart_repeats_only_unfinished_texts(worlds: Worlds, three: list[Record]) -> None:
    """A worker that dies with one text in a slot costs one text, not three."""
    first = worlds()
    first.source.append(three)
    first.turn()
    first.model.exit(2)
    first.model.exit(1)
    first.turn()
    second = worlds(committed=first.source.committed)
    second.source.append(three)
    second.finish()
    assert [signal.item_key for signal in second.signals] == ["wire:0"]
    assert second.source.committed[P0] == Commit(3)


def test_text_is_done_only_when_the_broker_has_it(worlds: Worlds, three: list[Record]) -> None:
    """An exit is not a delivery: nothing is committed for what is only under way."""
    world = worlds()
    world.sink.hold = True
    world.source.append(three)
    world.finish()
    assert world.signals == []
    assert world.source.committed[P0].offset == 0
    world.sink.acknowledge()
    world.turn(3)
    assert world.source.committed[P0] == Commit(3)


def test_refused_commit_is_offered_again(worlds: Worlds, three: list[Record]) -> None:
    """A rebalance under way refuses commits; the next one repairs it."""
    world = worlds()
    world.source.append(three)
    world.source.refusals = 3
    world.finish()
    world.turn(3)
    assert world.source.committed[P0] == Commit(3)


def test_waits_for_commits_do_not_add_up_to_a_hung_loop(
    worlds: Worlds, make_news: News, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each partition's first record waits for its commit. With the broker away each wait takes seconds, and /healthz
    must not take them together for a hung loop."""
    world, loops = worlds(), list[float]()
    commit = world.source.commit

    def noted(commits: dict[Partition, Commit], *, wait: bool) -> bool:
        loops.extend([world.pipeline.last_loop_s] if wait else [])
        return bool(commit(commits, wait=wait))

    monkeypatch.setattr(world.source, "commit", noted)
    world.source.assign([P0, P1])
    world.source.append([make_record(0, make_news(str(number), "Acme rises"), partition=number) for number in (0, 1)])
    world.turn(1)
    assert len(loops) == 2 and loops[0] < loops[1]


def test_every_record_has_one_outcome(worlds: Worlds, make_news: News, make_record: MakeRecord) -> None:
    """Signals, retractions and rejections add up to the elements that came; what is refused and names its item takes
    it back, too."""
    values: list[object] = [
        make_news("1", "Acme raises its outlook"),
        b"{broken",
        make_news("2", "   "),
        make_news("3", None, action="delete"),
        make_news("4", "Gewinn steigt", lang="de"),
        [make_news("5", "Bolt Corp warns on profit"), {"item_key": "x"}],
        make_news("6", "Acme raises its outlook"),
    ]
    world = worlds()
    world.source.append(
        [*[make_record(i, value) for i, value in enumerate(values)], make_record(7, None, key="wire:1")]
    )
    world.finish()
    outcomes = [(s.raw.offset, s.raw.index, s.action.value) for s in world.signals]
    outcomes += [(r.raw.offset, r.raw.index, r.reason.value) for r in world.rejections]
    assert sorted(outcomes) == [
        (0, 0, "new"),
        (1, 0, "malformed"),
        (2, 0, "empty_text"),
        (2, 0, "retract"),
        (3, 0, "retract"),
        (4, 0, "language"),
        (4, 0, "retract"),
        (5, 0, "new"),
        (5, 1, "missing_field"),
        (6, 0, "new"),
        (7, 0, "retract"),
    ]
    assert world.source.committed[P0] == Commit(8)


def test_dead_letter_holds_the_original_bytes(worlds: Worlds, make_record: MakeRecord) -> None:
    """Enough to look at it, and to send it again."""
    world = worlds()
    world.source.append([make_record(0, b"{broken \xff", key="k")])
    world.finish()
    (rejection,) = world.rejections
    assert rejection.original_value() == b"{broken \xff"
    assert (rejection.reason, rejection.attempt, rejection.raw.topic) == (Reason.MALFORMED, 1, "news.raw")
    (sent,) = world.sink.sent
    assert dict(sent.headers)["reason"] == b"malformed"
    assert sent.key == b"k"


def test_correction_waits_for_the_text_it_corrects(worlds: Worlds, make_news: News, make_record: MakeRecord) -> None:
    """Outcomes of one key leave in raw order, whichever exits first; other keys do not wait."""
    world = worlds()
    world.source.append(
        [
            make_record(0, make_news("1", "Acme raises its outlook")),
            make_record(1, make_news("1", "Acme cuts its outlook", action="update", updated_us=NOW_US)),
            make_record(2, make_news("1", None, action="delete", updated_us=NOW_US + 1)),
            make_record(3, make_news("2", "Bolt Corp warns on profit")),
        ]
    )
    world.turn()
    world.model.exit(2)
    world.model.exit(1)
    world.turn()
    assert [signal.item_key for signal in world.signals] == ["wire:2"]
    world.model.exit()
    world.turn()
    assert [signal.action for signal in world.signals[1:]] == [
        SignalAction.NEW,
        SignalAction.CORRECT,
        SignalAction.RETRACT,
    ]
    revisions = [signal.revision for signal in world.signals[1:]]
    assert revisions == sorted(revisions)


@pytest.mark.parametrize("action", ["create", "update"])
def test_a_refused_element_also_retracts(worlds: Worlds, make_news: News, make_record: MakeRecord, action: str) -> None:
    """A strategy must not go on trading on a text that its source has replaced, whatever the feed calls it."""
    world = worlds()
    world.source.append([make_record(0, make_news("1", "", action=action, updated_us=NOW_US))])
    world.finish()
    assert [r.reason for r in world.rejections] == [Reason.EMPTY_TEXT]
    assert [s.action for s in world.signals] == [SignalAction.RETRACT]
    assert world.source.committed[P0] == Commit(1)


def test_outcome_of_two_records_is_done_with_the_second(
    worlds: Worlds, make_news: News, make_record: MakeRecord
) -> None:
    """A refused update is a dead letter and a retraction: one of them acknowledged is not yet an outcome."""
    world = worlds()
    world.sink.hold = True
    world.source.append([make_record(0, make_news("1", "", action="update", updated_us=NOW_US))])
    world.finish()
    world.sink.acknowledge(1)
    world.turn(3)
    assert world.source.committed[P0].offset == 0
    world.sink.acknowledge(1)
    world.turn(3)
    assert world.source.committed[P0] == Commit(1)


def test_revoked_partition_is_committed_before_it_goes(worlds: Worlds, three: list[Record]) -> None:
    """Between two commits, too: its next owner repeats nothing that is finished."""
    world = worlds(budget=Budget(commit_interval_ms=3_600_000, revoke_timeout_ms=1, acknowledge_timeout_ms=1))
    world.turn(1)  # the first interval begins
    world.source.append(three)
    world.finish()
    assert world.source.committed[P0].offset == 0
    world.source.revoke([P0])
    world.turn()
    assert world.source.committed[P0] == Commit(3)


def test_revoked_partition_waits_for_what_has_left(
    worlds: Worlds, three: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text in a slot goes to the next owner when the time is over; one on its way to the broker is ours, and on the
    map that the next owner reads. Once the partition is given up, nothing leaves any more."""
    world = worlds(budget=Budget(commit_interval_ms=3_600_000, revoke_timeout_ms=1, acknowledge_timeout_ms=60_000))
    world.turn(1)  # the first interval begins
    world.source.append(three)
    world.turn()
    world.sink.hold = True
    world.model.exit(2)
    world.publisher.run_once(0.001)
    submit = world.model.submit

    def turn(requests: list[Any]) -> None:
        submit(requests)
        if world.model.requests and any(isinstance(message, Fence) for message in world.said):
            world.model.exit()
            world.publisher.run_once(0)
            world.sink.acknowledge()
        world.publisher.run_once(0)

    monkeypatch.setattr(world.model, "submit", turn)
    world.source.revoke([P0])
    world.turn()
    assert [signal.item_key for signal in world.signals] == ["wire:2"]
    second = worlds(committed=world.source.committed)
    second.source.append(three)
    second.finish()
    assert sorted(signal.item_key for signal in second.signals) == ["wire:0", "wire:1"]
    assert second.source.committed[P0] == Commit(3)


def test_same_text_in_flight_is_computed_once(worlds: Worlds, make_news: News, make_record: MakeRecord) -> None:
    """Followers complete with their leader and say whom they repeat."""
    world = worlds()
    world.source.append([make_record(i, make_news(str(i), "Acme raises its outlook")) for i in range(3)])
    world.turn()
    assert len(world.model.requests) == 1
    world.finish()
    leader, *followers = world.signals
    assert not leader.novelty.cache_hit
    assert [f.novelty.dup_of for f in followers] == ["wire:0", "wire:0"]
    assert [f.novelty.dup_count for f in followers] == [1, 2]
    assert {s.probs for s in world.signals} == {leader.probs}


def test_text_answered_before_is_not_computed(worlds: Worlds, make_news: News, make_record: MakeRecord) -> None:
    """Another worker, later: the cache gives the same result, bit for bit, and only novelty tells."""
    cache = MemoryCache(DAY_US)
    first, second = worlds(cache=cache), worlds([1], cache=cache.peer())
    first.source.append([make_record(0, make_news("1", "Acme raises its outlook"))])
    first.finish()
    second.source.append([make_record(0, make_news("2", "Acme raises its outlook"), partition=1)])
    second.finish()
    (original,), (repeated,) = first.signals, second.signals
    assert second.model.computed == 0
    assert repeated.novelty.dup_of == "wire:1"
    assert (repeated.probs, repeated.exit, repeated.score) == (original.probs, original.exit, original.score)


def test_every_repetition_is_counted(worlds: Worlds, make_news: News, make_record: MakeRecord) -> None:
    """Whether an item followed a text in flight or was answered by the cache: all name the first item, and count."""
    world = worlds()
    for batch in ((0, 1, 2), (3, 4), (5,)):
        world.source.append([make_record(i, make_news(str(i), "Acme raises its outlook")) for i in batch])
        world.finish()
    novelty = [signal.novelty for signal in sorted(world.signals, key=lambda signal: signal.raw.offset)]
    assert [n.dup_count for n in novelty] == [0, 1, 2, 3, 4, 5]
    assert {n.dup_of for n in novelty[1:]} == {"wire:0"}


def test_result_does_not_depend_on_the_cache(worlds: Worlds, make_news: News, make_record: MakeRecord) -> None:
    """Digests with a cache that answers equal digests with one that forgets everything."""
    texts = ["Acme raises its outlook", "Bolt Corp warns on profit", "Acme raises its outlook"]
    digests = []
    for forgetful in (False, True):
        cache = MemoryCache(DAY_US)
        world = worlds(cache=cache)
        for offset, text in enumerate(texts):
            world.source.append([make_record(offset, make_news(str(offset), text))])
            world.finish()
            if forgetful:
                cache.flush()
        digests.append([signal.digest for signal in world.signals])
    assert digests[0] == digests[1]


def test_text_that_finds_itself_is_an_original(worlds: Worlds, three: list[Record]) -> None:
    """A crash between publishing and committing repeats the signal, not as a duplicate of itself."""
    cache = MemoryCache(DAY_US)
    first = worlds(cache=cache)
    first.source.append(three[:1])
    first.finish()
    again = worlds(cache=cache.peer())
    again.source.append(three[:1])
    again.finish()
    assert again.model.computed == 0
    assert [s.novelty for s in again.signals] == [s.novelty for s in first.signals]
    assert [s.signal_id for s in again.signals] == [s.signal_id for s in first.signals]


def test_old_text_is_new_again(worlds: Worlds, make_news: News, make_record: MakeRecord) -> None:
    """Time to live is decided on recorded times: two days apart is no duplicate, however fast the replay."""
    world = worlds()
    world.source.append(
        [
            make_record(0, make_news("1", "Acme raises its outlook")),
            make_record(1, make_news("2", "Acme raises its outlook", ingested_us=NOW_US + 2 * DAY_US)),
        ]
    )
    world.finish()
    assert [s.novelty.cache_hit for s in world.signals] == [False, False]


def test_text_in_another_workers_hand_is_waited_for(worlds: Worlds, make_news: News, make_record: MakeRecord) -> None:
    """It is answered by the other's result, or computed here once the other is given up."""
    cache = MemoryCache(DAY_US)
    first, second = worlds(cache=cache), worlds([1], cache=cache.peer())
    text = "Acme raises its outlook"
    first.source.append([make_record(0, make_news("1", text))])
    first.turn()
    second.source.append([make_record(0, make_news("2", text), partition=1)])
    second.turn()
    assert second.model.requests == []
    first.finish()
    _until(lambda: second.turn() or second.signals)
    assert second.signals[0].novelty.dup_of == "wire:1"

    first.source.append([make_record(1, make_news("3", "Bolt Corp warns"))])
    first.turn()
    second.source.append([make_record(1, make_news("4", "Bolt Corp warns"), partition=1)])
    second.turn()
    cache.end_leases()
    _until(lambda: second.turn() or second.model.requests)
    second.finish()
    assert not second.signals[1].novelty.cache_hit


def test_revoked_texts_get_no_outcome_here(worlds: Worlds, make_news: News, make_record: MakeRecord) -> None:
    """Their next owner computes them; followers on a partition that stays are answered by the same verdict."""
    world = worlds([0, 1])
    world.source.append(
        [
            make_record(0, make_news("1", "Acme raises its outlook")),
            make_record(0, make_news("2", "Acme raises its outlook"), partition=1),
        ]
    )
    world.turn()
    world.source.revoke([P0])
    world.finish()
    assert [signal.item_key for signal in world.signals] == ["wire:2"]
    assert world.pipeline.in_flight == 0
    assert world.pipeline.finished_total == 1  # the other is its next owner's to count
    assert world.source.committed[P0] == Commit(0)  # given up in order: no attempt


def test_verdict_of_a_revoked_text_is_its_next_owners(worlds: Worlds, make_news: News, make_record: MakeRecord) -> None:
    """The next owner waits for our verdict, not for the end of our claim; and the text is an original there."""
    cache = MemoryCache(DAY_US)
    first, second = worlds(cache=cache), worlds(cache=cache.peer())
    text = make_record(0, make_news("1", "Acme raises its outlook"))
    first.source.append([text])
    first.turn()
    first.source.revoke([P0])
    first.turn()
    second.source.append([text])
    second.turn()
    assert second.model.requests == [] and second.signals == []
    first.finish()
    _until(lambda: second.turn() or second.signals)
    assert first.signals == [] and second.model.computed == 0
    assert not second.signals[0].novelty.cache_hit


def test_partition_that_comes_back_is_read_anew(worlds: Worlds, three: list[Record]) -> None:
    """Verdicts of the old assignment are dropped; each record still gets its outcome, once."""
    world = worlds()
    world.source.append(three)
    world.turn()
    world.source.lose([P0])
    world.source.assign([P0])
    world.finish()
    assert sorted(signal.raw.offset for signal in world.signals) == [0, 1, 2]
    assert world.source.committed[P0] == Commit(3)


def test_text_that_breaks_the_engine_becomes_a_dead_letter(worlds: Worlds, three: list[Record]) -> None:
    """Poison, after a second attempt alone; its neighbours are answered, and what it replaced is taken back."""
    world = worlds()
    world.source.append(three)
    world.turn()
    world.model.fail(1)
    world.finish()
    assert [(r.reason, r.attempt, r.raw.offset) for r in world.rejections] == [(Reason.POISON, 2, 1)]
    assert [(s.raw.offset, s.action) for s in world.signals] == [(1, "retract"), (0, "new"), (2, "new")]
    assert world.source.committed[P0] == Commit(3)


def test_budget_bounds_what_is_in_flight(worlds: Worlds, make_news: News, make_record: MakeRecord) -> None:
    """A slow engine stops the reading, not the memory's growth; all is read in the end."""
    world = worlds(budget=Budget(max_in_flight=8, batch=4, commit_interval_ms=0))
    world.source.append([make_record(i, make_news(str(i), f"Acme raises its outlook by {i} %")) for i in range(50)])
    world.turn(10)
    assert world.pipeline.in_flight == 8
    while len(world.signals) < 50:
        world.model.exit()
        world.turn(1)
        assert world.pipeline.in_flight <= 8
    world.turn(3)
    assert world.source.committed[P0] == Commit(50)


@pytest.mark.parametrize("most", [1, 2, 3, 60])
def test_budget_below_a_batch_holds(worlds: Worlds, make_news: News, make_record: MakeRecord, most: int) -> None:
    """Also the smallest: no poll asks for more than there is room for."""
    world = worlds(budget=Budget(max_in_flight=most, commit_interval_ms=0))
    world.source.append([make_record(i, make_news(str(i), f"Acme raises its outlook by {i} %")) for i in range(150)])
    world.turn(5)
    assert world.pipeline.in_flight == most
    world.finish()
    world.turn(1)
    assert world.pipeline.in_flight == most


def test_span_of_a_partition_is_bounded(worlds: Worlds, make_news: News, make_record: MakeRecord) -> None:
    """A stuck text pauses its partition before the map grows beyond a commit; others go on."""
    world = worlds([0, 1], budget=Budget(max_span=8, batch=4, commit_interval_ms=0))
    for partition in (0, 1):
        world.source.append(
            [
                make_record(
                    i, make_news(f"{partition}-{i}", f"Acme wins {i} orders in {partition}"), partition=partition
                )
                for i in range(30)
            ]
        )
    world.turn(1)
    while len(world.model.requests) > 1:
        world.model.exit(1)  # everything but the very first text
        world.turn(2)
    assert P0 in world.source.paused
    assert sum(signal.raw.partition == 1 for signal in world.signals) == 30
    world.finish()
    world.turn(4)
    while world.model.requests:
        world.finish()
    assert world.source.committed[P0] == Commit(30)


def test_history_is_never_old(worlds: Worlds, make_news: News, make_record: MakeRecord) -> None:
    """A back-dated feed: neither the age of what is unfinished nor a latency is counted in years; live texts' are."""
    ten_years_us = 3652 * DAY_US
    world = worlds()
    fields = {"ingested_us": NOW_US - ten_years_us, "ingested_origin": "assumed"}
    world.source.append([make_record(0, make_news("old", "Norvex lifts outlook", **fields))])
    world.turn()
    (partition,) = world.pipeline.offsets.partitions()
    progress = world.pipeline.offsets.progress(partition)
    assert (progress.unfinished, progress.oldest_unfinished_ingested_us) == (1, NOW_US), "since it was read"
    world.finish()
    assert len(world.signals) == 1
    assert b"earlybird_signal_latency_seconds_count 0.0" in world.metrics.exposition()
    live = [
        make_news("new", "Acme sells plant", ingested_us=NOW_US - 5),
        make_news("new", None, action="delete", published_us=NOW_US - 1),
    ]
    world.source.append([make_record(offset, item) for offset, item in enumerate(live, 1)])
    world.turn()
    assert world.pipeline.offsets.progress(partition).oldest_unfinished_ingested_us == NOW_US - 5
    world.finish()
    assert b"earlybird_signal_latency_seconds_count 2.0" in world.metrics.exposition()
    assert b'earlybird_stage_latency_seconds_count{stage="engine"} 2.0' in world.metrics.exposition()


def test_drain_finishes_and_commits(worlds: Worlds, three: list[Record]) -> None:
    """What SIGTERM does: take nothing more, finish what is here, commit, leave."""
    world = worlds()
    world.source.append(three)
    turns = iter(range(100))

    def after_loop() -> None:
        next(turns)
        if world.model.requests:
            world.model.exit()
        world.publisher.run_once(0.001)

    world.pipeline.run(lambda: world.pipeline.in_flight == 3, after_loop)
    assert len(world.signals) == 3
    assert world.source.committed[P0] == Commit(3)
    assert world.source.closed


def test_the_last_commit_is_offered_again_until_the_group_takes_it(worlds: Worlds, three: list[Record]) -> None:
    """A group between two generations refuses commits; whoever stops just then must not repeat its work on others."""
    world = worlds()
    world.source.append(three)
    world.turn(1)
    world.source.refusals = 1_000
    world.finish()
    assert world.source.committed[P0].offset == 0
    world.source.refusals = 2
    world.pipeline.drain()
    assert world.source.committed[P0] == Commit(3)


def _until(happened: Callable[[], Any]) -> None:
    for _ in range(2_000):
        if happened():
            return
    pytest.fail("did not happen")


@pytest.mark.parametrize(("origin", "age_us"), [("observed", 4_000 * DAY_US), ("assumed", 0)])
def test_history_waits_since_it_was_read(
    worlds: Worlds, make_news: News, make_record: MakeRecord, origin: str, age_us: int
) -> None:
    """The ingest time of a back-dated feed was made up: it tells nothing of how far the stage is behind."""
    item = make_news("1", "Acme raises its outlook", ingested_us=NOW_US - 4_000 * DAY_US, ingested_origin=origin)
    world = worlds()
    world.source.append([make_record(0, item)])
    world.turn()
    since_us = world.pipeline.offsets.progress(P0).oldest_unfinished_ingested_us
    assert since_us is not None and since_us + age_us <= world.clock.now_us() < since_us + age_us + DAY_US


def test_a_paused_partition_that_begins_anew_is_read(worlds: Worlds, make_news: News, make_record: MakeRecord) -> None:
    """Its topic was made again while it was too far ahead: the source keeps it paused until it is resumed."""
    world = worlds(budget=Budget(max_span=8, batch=4, commit_interval_ms=0))
    world.source.append([make_record(i, make_news(str(i), f"Acme wins {i} orders")) for i in range(30)])
    world.turn(4)
    assert P0 in world.source.paused
    world.source.assign([P0])
    world.turn()
    assert P0 not in world.source.paused


def test_what_was_read_before_a_new_beginning_has_its_outcome(
    worlds: Worlds, make_news: News, make_record: MakeRecord
) -> None:
    """The broker may have deleted it since: dropped here, it would have no outcome at all."""
    world = worlds(budget=Budget(max_in_flight=4, commit_interval_ms=0))
    large = [make_record(i, make_news(str(i), f"Acme wins {i} orders", body="x" * 600_000)) for i in range(3)]
    world.source.append(large)
    world.turn(1)  # takes in 1 MiB, a part of what it read
    world.source.committed[P0] = Commit(7)  # the earliest record by now
    world.source.assign([P0])
    world.source.append([make_record(7, make_news("7", "Bolt Corp warns on profit"))])
    for _ in range(4):
        world.finish()
    assert {signal.raw.offset for signal in world.signals} == {0, 1, 2, 7}
