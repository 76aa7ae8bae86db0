"""Texts that came too late, or stayed too long: what becomes of them, of who waits with them, and of the record."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import pytest

from earlybird.engine.config import EngineConfig, RunnerName
from earlybird.engine.engine import Engine
from earlybird.engine.types import Verdict
from earlybird.schemas.rejection import Reason
from earlybird.schemas.signal import ExitReason, Signal
from earlybird.stream.adapters.memory import MemoryCache
from earlybird.stream.adapters.redis import RedisCache
from earlybird.stream.ports import Position
from earlybird.stream.stage.deadlines import ClockLateness, Deadlines, RecordedLateness
from earlybird.stream.stage.engine_threads import EngineThreads
from earlybird.stream.stage.messages import Answers, Failed, TimedRequest

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
OLDER_US = 3 * SECOND_US
HEADLINE = "Sundial Media buys back shares worth $500 million"


def left(signal: Signal) -> tuple[int, ExitReason]:
    assert signal.exit is not None
    return signal.exit.layer, signal.exit.reason


# --- shedding -------------------------------------------------------------------------------------------------------


@pytest.fixture
def shedding(worlds: Callable[..., Any]) -> Any:
    """A worker that sheds what is older than a second when it comes."""
    return worlds(lateness=ClockLateness(shed_after_us=SECOND_US))


def test_a_text_that_is_too_old_when_it_comes_is_a_dead_letter(
    shedding: Any, make_news: Callable[..., Any], make_record: Callable[..., Any]
) -> None:
    """It never reaches the model; its bytes, its age and the limit are on the dead-letter topic. One that is exactly as
    old as allowed is computed."""
    now_us = shedding.clock.now_us()
    old = make_news("old", "Acme wins an order", ingested_us=now_us - SECOND_US - 1)
    fresh = make_news("fresh", "Acme loses an order", ingested_us=now_us - SECOND_US)
    shedding.source.append([make_record(0, old), make_record(1, fresh)])
    shedding.finish()
    (rejection,) = shedding.rejections
    assert (rejection.reason, rejection.raw.offset, rejection.schema_version) == (Reason.SHED, 0, "1.1")
    assert rejection.detail == "at most 1000000 us old allowed when consumed, was 1000001"
    assert b"Acme wins" in (rejection.original_value() or b"")
    assert [(signal.raw.offset, signal.action) for signal in shedding.signals] == [(0, "retract"), (1, "new")]
    assert (shedding.model.computed, shedding.pipeline.shed_total) == (1, 1)
    assert shedding.source.committed[next(iter(shedding.source.committed))].offset == 2
    assert b'earlybird_dlq_total{reason="shed"} 1.0' in shedding.metrics.exposition()


@pytest.mark.parametrize("about", [{"ingested_origin": "assumed"}, {"ingested_us": 1_770_000_009_000_000}])
def test_history_and_a_sender_ahead_of_our_clock_are_not_late(
    shedding: Any, make_news: Callable[..., Any], make_record: Callable[..., Any], about: dict[str, Any]
) -> None:
    """An assumed time was made up for a backfill; one in the future is of a faster clock."""
    shedding.source.append([make_record(0, make_news("a", HEADLINE, **{"ingested_us": 1_500_000_000_000_000} | about))])
    shedding.finish()
    assert not shedding.rejections
    assert len(shedding.signals) == 1


def test_a_provider_s_delay_is_not_ours(
    shedding: Any, make_news: Callable[..., Any], make_record: Callable[..., Any]
) -> None:
    """An hour between publication and ingest is what limits.max_age_s judges, on recorded times."""
    now_us = shedding.clock.now_us()
    shedding.source.append([make_record(0, make_news("a", HEADLINE, published_us=now_us - 3_600 * SECOND_US))])
    shedding.finish()
    assert not shedding.rejections


def test_a_correction_that_is_shed_takes_the_earlier_text_back(
    shedding: Any, make_news: Callable[..., Any], make_record: Callable[..., Any]
) -> None:
    """Nobody goes on trading on a text that its source has replaced: the retraction has the correction's revision and
    leaves behind the earlier signal, though that one is still in the model when the correction comes."""
    now_us = shedding.clock.now_us()
    shedding.source.append([make_record(0, make_news("a", "Acme wins an order", revision=1))])
    shedding.turn()
    late = {"action": "update", "revision": 2, "ingested_us": now_us - OLDER_US}
    shedding.source.append([make_record(1, make_news("a", "Acme wins no order", **late))])
    shedding.turn()
    assert not shedding.signals
    shedding.finish()
    assert [(signal.action, signal.revision) for signal in shedding.signals] == [("new", 1), ("retract", 2)]
    assert [rejection.raw.offset for rejection in shedding.rejections] == [1]


def test_deletes_are_never_shed(shedding: Any, make_news: Callable[..., Any], make_record: Callable[..., Any]) -> None:
    """They cost nothing, and a late one is worth as much as an early one: with a body and as a bare null record."""
    gone = make_news("a", None, action="delete", ingested_us=shedding.clock.now_us() - DAY_US)
    shedding.clock.advance(DAY_US)
    shedding.source.append([make_record(0, gone), make_record(1, None, key="wire:b")])
    shedding.finish()
    assert [signal.action for signal in shedding.signals] == ["retract", "retract"]
    assert not shedding.rejections


def test_a_shed_text_leads_nobody_and_a_leader_is_not_its_followers_age(
    shedding: Any, make_news: Callable[..., Any], make_record: Callable[..., Any]
) -> None:
    """The same text three times: the shed one is not waited for, and a copy that is too old is shed though the answer
    is under way."""
    now_us = shedding.clock.now_us()
    texts = [make_news(name, HEADLINE, ingested_us=now_us - age) for name, age in (("a", OLDER_US), ("b", 0))]
    shedding.source.append([make_record(offset, text) for offset, text in enumerate(texts)])
    shedding.turn()
    shedding.source.append([make_record(2, make_news("c", HEADLINE, ingested_us=now_us - OLDER_US))])
    shedding.finish()
    (computed,) = [signal for signal in shedding.signals if signal.exit is not None]
    assert [rejection.item_key for rejection in shedding.rejections] == ["wire:a", "wire:c"]
    assert computed.item_key == "wire:b" and computed.novelty is not None and not computed.novelty.cache_hit


# --- deadlines ------------------------------------------------------------------------------------------------------


def hurried(worlds: Callable[..., Any], **about: Any) -> Any:
    """A worker whose texts have a second."""
    return worlds(lateness=ClockLateness(deadline_us=SECOND_US), **about)


def test_a_text_whose_time_is_over_leaves_after_its_next_layer(
    worlds: Callable[..., Any], make_news: Callable[..., Any], make_record: Callable[..., Any]
) -> None:
    """The answer is the model's at that depth, its reason says so, and it has a digest of its own; the same text in
    time goes deeper under the same signal_id."""
    said = []
    for waited_us in (SECOND_US - 1, SECOND_US):
        world = hurried(worlds)
        world.source.append([make_record(0, make_news("a", HEADLINE))])
        world.turn()
        world.clock.advance(waited_us)
        world.finish()
        said += world.signals
    in_time, late = said
    assert left(late) == (1, ExitReason.DEADLINE)
    assert in_time.exit is not None and in_time.exit.layer > 1 and in_time.exit.reason is not ExitReason.DEADLINE
    assert (in_time.signal_id, in_time.digest == late.digest) == (late.signal_id, False)
    assert b'exit_reason="deadline",label="%s"} 1.0' % str(late.label).encode() in world.metrics.exposition()


def test_followers_share_an_answer_that_was_cut_short_and_nobody_after_them(
    worlds: Callable[..., Any], make_news: Callable[..., Any], make_record: Callable[..., Any]
) -> None:
    """Who waits for a leader gets what it got, and says so. The text is then computed anew, here and elsewhere: an
    answer that was cut short is not what the model says of it."""
    cache = MemoryCache(DAY_US)
    world, other = hurried(worlds, cache=cache), hurried(worlds, cache=cache.peer())
    world.source.append([make_record(n, make_news(name, HEADLINE)) for n, name in enumerate("ab")])
    world.turn()
    world.clock.advance(SECOND_US)
    world.finish()
    assert [left(signal) for signal in world.signals] == [(1, ExitReason.DEADLINE)] * 2
    assert [signal.novelty.dup_of for signal in world.signals] == [None, "wire:a"]
    other.source.append([make_record(0, make_news("c", HEADLINE))])
    other.finish()
    world.source.append([make_record(2, make_news("d", HEADLINE))])
    world.finish()
    (first,), again = other.signals, world.signals[2]
    assert first.exit.reason is not ExitReason.DEADLINE and not first.novelty.cache_hit
    assert left(again) == left(first) and again.novelty.dup_of == "wire:c"


def test_a_text_in_another_worker_s_hand_is_not_waited_for_past_its_deadline(
    worlds: Callable[..., Any], make_news: Callable[..., Any], make_record: Callable[..., Any]
) -> None:
    """The other worker hangs: ours answers as deep as it gets."""
    cache = MemoryCache(DAY_US)
    hanging, world = hurried(worlds, cache=cache), hurried(worlds, cache=cache.peer())
    for each in (hanging, world):
        each.source.append([make_record(0, make_news("a", HEADLINE))])
        each.turn()
    assert not world.model.requests
    world.clock.advance(SECOND_US)
    while not world.model.requests:
        world.turn()
    world.finish()
    assert [left(signal) for signal in world.signals] == [(1, ExitReason.DEADLINE)]


def test_redis_never_answers_with_what_was_cut_short(
    redis_server: Any, worlds: Callable[..., Any], make_news: Callable[..., Any], make_record: Callable[..., Any]
) -> None:
    """On a real server: the claim of the text is given up with its answer, so the next worker computes it at once, and
    what it says is kept."""

    def cache() -> RedisCache:
        return RedisCache(redis_server.url, ttl_us=DAY_US, lease_ms=600_000, max_layers=3, budget_ms=5_000)

    reasons = []
    for number, waited_us in enumerate((SECOND_US, 0, 0)):
        world = hurried(worlds, cache=cache())
        world.source.append([make_record(number, make_news(f"n{number}", HEADLINE))])
        world.turn()
        world.clock.advance(waited_us)
        world.finish()
        (signal,) = world.signals
        reasons.append((signal.exit.reason is ExitReason.DEADLINE, signal.novelty.cache_hit))
    assert reasons == [(True, False), (False, False), (False, True)]


def test_each_late_ticket_is_named_once_and_those_gone_are_forgotten() -> None:
    """Earliest first, whatever the order of arrival; one that never expires is never named."""
    deadlines = Deadlines()
    deadlines.watch([TimedRequest(n, (1,), due_us=due) for n, due in enumerate([50, 10, None, 30, 30])])
    assert deadlines.late(9, range(5)) == []
    assert deadlines.late(30, {0, 1, 2, 4}) == [1, 4]
    assert deadlines.late(1_000, range(5)) == [0]
    assert deadlines.late(1_000, range(5)) == []


class Ticking:
    """A clock on which a microsecond goes by between two looks."""

    def __init__(self) -> None:
        self._ticks = itertools.count(1_000)

    def now_us(self) -> int:
        return next(self._ticks)


@pytest.mark.parametrize("runner", ["packed", "resident"])
def test_engine_threads_call_back_what_is_late_and_answer_it(runner: RunnerName) -> None:
    """Through the runners of the real engine: late on arrival leaves after one layer, late in its slot leaves at the
    depth it has, and who has time goes all the way."""
    engine = Engine.load(EngineConfig(runner=runner, policy="full"))
    said, failed = SimpleQueue[Answers](), SimpleQueue[Failed]()
    threads = EngineThreads(engine, 1, Ticking(), said.put, failed.put)
    threads.submit([TimedRequest(n, (2, 9, 9, 3), due_us=due) for n, due in enumerate([1, 1_002, None])])
    threads.start()
    threads.close(60.0)
    verdicts: dict[int, Verdict | None] = {
        answer.ticket: answer.verdict for _ in range(said.qsize()) for answer in said.get().answers
    }
    assert failed.empty() and verdicts.keys() == {0, 1, 2}
    layers = {ticket: verdict.exit_layer for ticket, verdict in verdicts.items() if verdict is not None}
    assert layers[0] == 1 and layers[2] == engine.max_layers
    assert layers[1] < engine.max_layers
    assert runner == "resident" or layers[1] == 2, "two layers by the look at the clock that finds it late"


# --- as recorded ----------------------------------------------------------------------------------------------------


def test_what_was_cut_or_shed_live_is_cut_and_shed_alike_again(
    worlds: Callable[..., Any], make_news: Callable[..., Any], make_record: Callable[..., Any]
) -> None:
    """No clock: the record alone, with equal digests, beside the same text at its full depth."""
    live = worlds(lateness=ClockLateness(SECOND_US, SECOND_US))
    names = ["cut", "shed", "whole"]
    ages = [0, OLDER_US, -5 * SECOND_US]  # the last one is ingested when the first two are done
    records = [
        make_record(n, make_news(name, HEADLINE, ingested_us=live.clock.now_us() - age))
        for n, (name, age) in enumerate(zip(names, ages, strict=True))
    ]
    live.source.append(records[:2])
    live.turn()
    live.clock.advance(5 * SECOND_US)
    live.finish()
    live.source.append(records[2:])
    live.finish()
    recorded = RecordedLateness()
    for rejection in live.rejections:
        recorded.note_rejection(rejection)
    for signal in live.signals:
        recorded.note_signal(signal)
    gone, cut, whole = live.signals
    again = worlds(lateness=recorded, cache=MemoryCache(DAY_US))
    again.clock.advance(900 * DAY_US)
    again.source.append(records)
    again.finish()
    assert {s.raw.offset: s.digest for s in again.signals} == {0: cut.digest, 1: gone.digest, 2: whole.digest}
    assert [(r.raw.offset, r.detail) for r in again.rejections] == [(1, live.rejections[0].detail)]


def test_of_outcomes_that_differ_after_a_crash_the_first_result_counts(
    worlds: Callable[..., Any], make_news: Callable[..., Any], make_record: Callable[..., Any]
) -> None:
    """The successor of a worker that died sheds, or cuts, what that one had published: strategies had it, so a replay
    has it. A text that was shed again and again has nothing else."""
    world = hurried(worlds)
    world.source.append([make_record(n, make_news(f"n{n}", f"{HEADLINE}, {n}")) for n in range(2)])
    world.turn()
    world.model.exit()
    world.clock.advance(SECOND_US)
    world.finish()
    whole, cut = world.signals
    recorded = RecordedLateness(shed={position_of(signal): "again" for signal in (whole, cut)})
    recorded.shed[replace(position_of(cut), offset=7)] = "twice"
    for signal in (whole, cut, cut.model_copy(update={"raw": whole.raw}), whole.model_copy(update={"raw": cut.raw})):
        recorded.note_signal(signal)
    assert recorded.depths == {position_of(cut): 1}
    assert [position.offset for position in recorded.shed] == [7]


def position_of(signal: Signal) -> Position:
    return Position(**signal.raw.model_dump())


def test_a_cached_answer_is_no_answer_for_a_text_that_was_cut_short(
    worlds: Callable[..., Any], make_news: Callable[..., Any], make_record: Callable[..., Any]
) -> None:
    """In a replay the whole answer may be known first: from the cache, and in flight."""
    cache = MemoryCache(DAY_US)
    before = worlds(cache=cache)
    before.source.append([make_record(9, make_news("whole", HEADLINE))])
    before.finish()
    recorded = RecordedLateness()
    late = before.signals[0].model_copy(
        update={
            "raw": before.signals[0].raw.model_copy(update={"offset": 0}),
            "exit": before.signals[0].exit.model_copy(update={"layer": 1, "reason": ExitReason.DEADLINE}),
        }
    )
    recorded.note_signal(late)
    world = worlds(cache=cache.peer(), lateness=recorded)
    world.source.append([make_record(n, make_news(f"n{n}", HEADLINE)) for n in range(2)])
    world.finish()
    assert {signal.raw.offset: left(signal)[1] is ExitReason.DEADLINE for signal in world.signals} == {
        0: True,
        1: False,
    }
    assert {signal.raw.offset: signal.novelty.dup_of for signal in world.signals} == {0: None, 1: "wire:whole"}
