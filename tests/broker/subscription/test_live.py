"""The client on a broker: where it starts, what it commits, what it does when it is slow, stale or left alone."""

import asyncio
import gc
import signal as signals_of_the_system
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from structlog.testing import capture_logs

from earlybird.schemas.codec import decode, encode
from earlybird.schemas.control import Heartbeat, PartitionProgress, ReplayComplete, TopicEnd
from earlybird.schemas.rejection import Reason
from earlybird.schemas.signal import Signal, SignalAction
from earlybird.stream.adapters.clock import ManualClock
from earlybird.stream.adapters.embedded import EmbeddedBroker
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.topic_range import TopicReader
from earlybird.stream.client import CaughtUp, Condition, HealthChange, HealthTimeouts, Signals, StaleSignal, TopicRange
from earlybird.stream.errors import SettingsError, SourceError
from earlybird.stream.parsing.records import Refusal
from earlybird.stream.ports import Outgoing, Position, Record
from earlybird.stream.stage.messages import Entry
from earlybird.stream.stage.outcome import signal_record
from earlybird.stream.strategies.invented import invented
from project import ROOT

PATIENCE_S = 150.0
SECOND = 1_000_000


def now_us() -> int:
    return time.time_ns() // 1000


class Stage:
    """Publishes signals as the stage does, on topics of its own with one partition."""

    def __init__(self, broker: Any, topic: str, control: str) -> None:
        self.broker, self.topic, self.control = broker, topic, control
        self._sink = KafkaSink(broker.bootstrap_servers)

    def publish(self, *signals: Signal) -> None:
        """All acknowledged, in order."""
        refusal = Refusal(Position("news.raw", 0, 0), Reason.STALE, "", None)
        entry = Entry(refusal, Record("news.raw", 0, 0, None, None), 0, 0)
        for signal in signals:
            self._sink.send(signal_record(signal, entry, self.topic))
        self.broker.settle(self._sink)

    def send(self, topic: str, value: bytes) -> None:
        """One record as it is."""
        self._sink.send(Outgoing(topic, None, value))
        self.broker.settle(self._sink)

    def beat(self, state: str = "running", oldest_us: int | None = None, shed: int = 0) -> None:
        """A heartbeat of its worker."""
        progress = PartitionProgress(
            topic="news.raw",
            partition=0,
            unfinished=int(oldest_us is not None),
            oldest_unfinished_ingested_us=oldest_us,
        )
        heartbeat = Heartbeat.model_validate(
            {"worker": "w1", "sequence": 1, "state": state, "partitions": (progress,), "shed": shed,
             "model_sha256": "0", "config_hash": "0", "numerics": "0", "sent_us": now_us()}
        )  # fmt: skip
        self.send(self.control, encode(heartbeat))

    def complete(self, topic: str, end: int) -> None:
        """The word that a replay to this topic is over, at this offset."""
        ends = (TopicEnd(partition=0, offset=end or 10**6),)
        message = ReplayComplete(
            run_id="again", topic=topic, ends=ends, signals=end, content_sha256="0", sent_us=now_us()
        )
        self.send(self.control, encode(message))

    def live(self, **about: Any) -> Signals:
        """A client of these topics."""
        return Signals.live(
            self.broker.bootstrap_servers,
            topic=self.topic,
            control_topic=about.pop("control_topic", None),
            options=self.broker.options,
            **about,
        )

    def close(self) -> None:
        self._sink.close()


@pytest.fixture(scope="module")
def single() -> Iterator[tuple[str, Iterator[str]]]:
    """An embedded broker whose topics have one partition, and their names."""
    names = [f"topic-{number}" for number in range(128)]
    with EmbeddedBroker(dict.fromkeys(names, 1)) as server:
        yield server.bootstrap_servers, iter(names)


@pytest.fixture
def stage(broker: Any, single: tuple[str, Iterator[str]]) -> Iterator[Stage]:
    if broker.real:
        topics = broker.topic(**{"message.timestamp.type": "LogAppendTime"}), broker.topic()
    else:
        broker, topics = replace(broker, bootstrap_servers=single[0]), (next(single[1]), next(single[1]))
    stage = Stage(broker, *topics)
    yield stage
    stage.close()


def named(*items: object, **about: Any) -> list[Signal]:
    return [invented(str(item), now_us(), **about) for item in items]


def items(signals: Sequence[Signal]) -> list[str]:
    return [signal.item_key.partition(":")[2] for signal in signals]


def take(signals: Signals, n: int) -> list[Any]:
    """The next n."""
    return list(islice(signals, n))


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "never came"
        time.sleep(0.01)


def test_signals_come_as_they_were_published(stage: Stage) -> None:
    """From now on, in order, dated by the broker, to be read again from the beginning."""
    stage.publish(*named("before"))
    with stage.live() as signals:
        sent = named(1, 2, 3)
        stage.publish(*sent)
        received = take(signals, 3)
    assert [encode(signal) for signal in received] == [encode(signal) for signal in sent]
    assert all(signal.available_us // 1000 >= signal.ts.emitted_us // 1000 for signal in received)
    assert len(signals.latencies_us) == 3
    assert received == list(Signals.replay([(signal, signal.available_us) for signal in received]))
    with stage.live(start="beginning") as again:
        assert items(take(again, 4)) == ["before", "1", "2", "3"]


def test_reading_starts_at_an_instant(stage: Stage) -> None:
    """By the broker's timestamps; where it cannot find by time, what is older is passed over."""
    stage.publish(*named("old"))
    time.sleep(0.005)
    instant = now_us() // 1000 * 1000
    stage.publish(*named("new"))
    with stage.live(start=instant) as signals:
        stage.publish(*named("newer"))
        assert items(take(signals, 2)) == ["new", "newer"]
    with stage.live(start=now_us() + 3600 * SECOND) as signals:
        assert signals.to_arrow(1, timeout_s=0.3).num_rows == 0


def test_a_range_of_the_topic_is_replayed_as_it_came_live(stage: Stage) -> None:
    """The same objects at the same instants, from archive or topic alike; what comes after the replay was made is no
    part of it."""
    stage.publish(*named("up", score=0.9), *named("down", score=-0.9), *named("flat", score=0.0))
    with stage.live(start="beginning") as signals:
        live = take(signals, 3)
    recorded = TopicRange(stage.broker.bootstrap_servers, stage.topic, options=stage.broker.options)
    replays = [
        Signals.replay(recorded),
        Signals.replay(recorded, start=live[0].available_us, end=live[2].available_us + 1),
        Signals.replay(recorded, start="-1h", labels=["positive", "neutral"]),
        Signals.replay(replace(recorded, first=1, last={0: 2})),
        Signals.replay(recorded, start=live[2].available_us + 1),
    ]
    stage.publish(*named("after", score=0.9))
    assert [list(replay) for replay in replays] == [live, live, [live[0], live[2]], [live[1]], []]


def test_a_replay_that_is_left_early_lets_go_of_the_broker(stage: Stage) -> None:
    """Its consumer ends with it."""
    stage.publish(*named(*range(3_000)))
    closed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TopicReader, "close", lambda reader: closed.append(type(reader).__name__))
        options = stage.broker.options
        replay = Signals.replay(TopicRange(stage.broker.bootstrap_servers, stage.topic, slack_us=0, options=options))
        assert next(replay).item_key == "wire:0" and not closed
        replay.close()
        assert list(replay) == [] and closed == ["TopicReader"]


def test_filters_hold_live_and_what_follows_passes(stage: Stage) -> None:
    """As in a replay."""
    with stage.live(labels=["positive"], symbols=["NVDA"], distinct=True) as signals:
        bought, flipped = named("1"), named("1", score=-0.9, symbols=["AMD"], revision=1, action=SignalAction.CORRECT)
        gone = named("1", symbols=[], revision=2, action=SignalAction.RETRACT)
        stage.publish(
            *named("0", score=-0.9), *bought, *bought, *flipped, *gone, *named("2", symbols=["AMD"], score=0.9)
        )
        stage.publish(*named("3"))
        assert [(signal.item_key, signal.action) for signal in take(signals, 4)] == [
            ("wire:1", "new"),
            ("wire:1", "correct"),
            ("wire:1", "retract"),
            ("wire:3", "new"),
        ]
        assert (signals.counts.filtered, signals.counts.repeated) == (2, 1)


def test_a_group_goes_on_behind_what_was_done(stage: Stage, unique: Callable[[str], str]) -> None:
    """The signal in hand is not done until the next is asked for: a crash repeats it rather than losing it."""
    if not stage.broker.real:
        pytest.skip("the embedded broker takes 15 s to see a member leave")
    group = unique("strategy")
    stage.publish(*named(1, 2, 3))
    with stage.live(group=group, start="beginning") as first:
        assert items(take(first, 2)) == ["1", "2"]
    with stage.live(group=group, start="beginning") as second:
        seen: list[Signal] = []
        second.on(seen.append).run(stop=lambda: len(seen) == 2)  # done when the handlers return
        assert items(seen) == ["2", "3"]
    stage.publish(*named(4))
    with stage.live(group=group, start="beginning") as third:
        assert items(take(third, 1)) == ["4"]


def test_without_a_group_nothing_is_kept(stage: Stage) -> None:
    """Two strategies see the same signals, and again tomorrow."""
    stage.publish(*named(1, 2))
    with stage.live(start="beginning") as one, stage.live(start="beginning") as other:
        assert items(take(one, 2)) == items(take(other, 2)) == ["1", "2"]


def test_a_slow_strategy_blocks_the_reading(stage: Stage) -> None:
    """Nothing is lost: what does not fit waits in Kafka."""
    stage.publish(*named(*range(40)))
    with stage.live(start="beginning", buffer=4) as signals:
        time.sleep(0.5)
        assert items(take(signals, 40)) == [str(number) for number in range(40)]
        assert signals.counts.dropped == 0


def test_a_slow_strategy_may_drop_the_oldest(stage: Stage) -> None:
    """The newest stay, each loss is counted, and a retraction outlives what only opens."""
    retraction = named(0, revision=1, action=SignalAction.RETRACT)
    stage.publish(*named(0), *retraction, *named(*range(1, 40)))
    with stage.live(start="beginning", buffer=4, slow_reader="drop_oldest") as signals:
        wait_for(lambda: signals.counts.dropped == 37)
        assert items(take(signals, 4)) == ["0", "37", "38", "39"]


def test_a_stale_signal_is_skipped_but_not_its_consequences(stage: Stage) -> None:
    """Age counts from the broker's time to now. What follows on a delivered item is never too old."""
    clock = ManualClock(now_us())
    with stage.live(max_age_us=60 * SECOND, start="beginning", clock=clock) as signals:
        stage.publish(*named("fresh"))
        assert items(take(signals, 1)) == ["fresh"]
        clock.advance(3600 * SECOND)
        stage.publish(*named("late"), *named("fresh", revision=1, action=SignalAction.RETRACT))
        assert [signal.action for signal in take(signals, 1)] == ["retract"]
        assert signals.counts.stale == 1
        stage.publish(*named("fresh", revision=2))  # many feeds call an edit a create
        assert [signal.action for signal in take(signals, 1)] == ["new"]


def test_a_range_of_a_partition_that_is_not_there_is_refused(stage: Stage) -> None:
    """Otherwise all of the topic would be replayed."""
    recorded = TopicRange(stage.broker.bootstrap_servers, stage.topic, first={7: 3}, options=stage.broker.options)
    with pytest.raises(SourceError, match="has no partition 7"):
        list(Signals.replay(recorded))


def test_what_a_restarted_strategy_holds_is_never_too_old(stage: Stage) -> None:
    """Whatever names its items, a generator too: it trades on them."""
    clock = ManualClock(now_us() + 3600 * SECOND)
    positions = {"wire:held": 100}
    stage.publish(*named("late"), *named("held", revision=1, action=SignalAction.RETRACT))
    held = (item_key for item_key in positions)
    with stage.live(max_age_us=60 * SECOND, start="beginning", clock=clock, held=held) as signals:
        assert items(take(signals, 1)) == ["held"]


def test_a_stale_signal_may_be_an_error(stage: Stage) -> None:
    """For whoever wants to stop rather than miss one; asked again, the next one comes."""
    clock = ManualClock(now_us() + 3600 * SECOND)
    stage.publish(*named("late"))
    with stage.live(max_age_us=60 * SECOND, stale="raise", start="beginning", clock=clock) as signals:
        with pytest.raises(StaleSignal, match="wire:late: at most 60000000 us"):
            next(signals)
        clock.advance(-3600 * SECOND)
        stage.publish(*named("fresh"))
        assert items(take(signals, 1)) == ["fresh"]


def test_the_guard_is_on_where_reading_starts_now(stage: Stage) -> None:
    """A minute, unless somebody asks for the past."""
    clock = ManualClock(now_us() + 3600 * SECOND)
    with stage.live(clock=clock) as signals:
        stage.publish(*named("late"))
        wait_for(lambda: signals.to_arrow(1, timeout_s=0.1).num_rows == 0 and signals.counts.stale == 1)


def test_lag_death_and_quiet_are_told_apart(stage: Stage) -> None:
    """Each change reaches the handler once, on the iterating thread, and so does recovery."""
    told: list[HealthChange] = []
    clock = ManualClock(now_us())
    patience = HealthTimeouts(dead_after_us=5 * SECOND, lag_after_us=5 * SECOND, quiet_after_us=60 * SECOND)
    with stage.live(control_topic=stage.control, clock=clock, health_timeouts=patience, max_age_us=None) as signals:
        signals.on_health(told.append)

        def until(condition: Condition) -> None:
            signals.run(stop=lambda: bool(told) and told[-1].condition is condition)

        clock.advance(6 * SECOND)
        until(Condition.DEAD)
        stage.beat()
        until(Condition.ALIVE)
        stage.beat(oldest_us=clock.now_us() - 7 * SECOND)
        until(Condition.LAGGING)
        assert told[-1].lag_us == 7 * SECOND and told[-1].workers == ("w1",)
        clock.advance(60 * SECOND)
        stage.beat()
        until(Condition.QUIET)
        stage.publish(*named("news"))
        until(Condition.ALIVE)
        stage.beat(shed=3)
        until(Condition.SHEDDING)
        assert told[-1].shed == 3
        clock.advance(6 * SECOND)
        stage.beat(shed=3)
        until(Condition.ALIVE)
        stage.beat("stopped")
        until(Condition.STOPPED)
        assert signals.condition is Condition.STOPPED
    assert [silence.before for silence in told[1:]] == [silence.condition for silence in told[:-1]]


def test_a_replay_that_is_over_ends_the_loop(stage: Stage) -> None:
    """Once its last signal was taken, and not before; the handler hears it last. Word of another topic ends nothing."""
    told: list[str] = []
    with stage.live(start="beginning", control_topic=stage.control) as signals:
        signals.on_health(lambda silence: told.append(silence.condition.value))
        stage.complete("elsewhere", 0)
        stage.complete(stage.topic, 3)
        stage.publish(*named(1, 2))
        assert items(take(signals, 2)) == ["1", "2"] and told == []
        stage.publish(*named(3))
        assert [(items([signal]), list(told)) for signal in signals] == [(["3"], [])]
        assert told == ["complete"] and signals.condition is Condition.COMPLETE


def test_a_replay_of_a_topic_decodes_what_passes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers decide, as they do live; what follows on a delivered item is among it."""
    from earlybird.stream.replay import recorded

    stage.publish(*named(*range(20), symbols=["AMD"]), *named("buy"), *named(20, symbols=["AMD"]))
    stage.publish(*named("buy", symbols=[], revision=1, action=SignalAction.RETRACT))
    decoded: list[bytes] = []

    def counted(kind: type[Signal], value: bytes) -> Signal:
        decoded.append(value)
        return decode(kind, value)

    monkeypatch.setattr(recorded, "decode", counted)
    there = TopicRange(stage.broker.bootstrap_servers, stage.topic, options=stage.broker.options)
    replay = Signals.replay(there, symbols=["NVDA"])
    assert items(list(replay)) == ["buy", "buy"] and len(decoded) == 2 and replay.counts.filtered == 21


def test_what_is_no_signal_is_counted_and_passed_over(stage: Stage) -> None:
    """One bad record must not end a strategy."""
    with stage.live(start="beginning") as signals:
        stage.send(stage.topic, b"{}")
        stage.publish(*named("good"))
        assert items(take(signals, 1)) == ["good"]
        assert signals.counts.unreadable == 1


def test_signals_come_to_an_event_loop_that_does_other_things(stage: Stage) -> None:
    """A task that is cancelled while it waits loses no signal."""

    async def both() -> list[str]:
        with stage.live() as signals:
            waiting = asyncio.create_task(anext(signals))
            await asyncio.sleep(0.3)
            waiting.cancel()
            await asyncio.to_thread(stage.publish, *named(1, 2))
            return items([await anext(signals), await anext(signals)])

    assert asyncio.run(both()) == ["1", "2"]


def test_another_thread_may_end_the_loop(stage: Stage) -> None:
    """As a signal handler or a user interface does."""
    with stage.live() as signals:
        threading.Timer(0.2, signals.close).start()
        assert list(signals) == []


def test_a_topic_that_is_not_there_is_said(broker: Any) -> None:
    """Rather than waited for in silence."""
    if not broker.real:
        pytest.skip("the embedded broker makes topics when they are asked for")
    with pytest.raises(SourceError, match="earlybird topics create"):
        Signals.live(broker.bootstrap_servers, topic="no-such-topic")


def test_options_of_ours_cannot_be_passed_through(broker: Any) -> None:
    """Each decides whether signals are lost."""
    with pytest.raises(SettingsError, match=r"enable\.auto\.commit"):
        Signals.live(broker.bootstrap_servers, options={"enable.auto.commit": True})


class Strategy:
    """Runs on a thread of its own and stops in the handler of its third signal until it is let go."""

    def __init__(self, signals: Signals) -> None:
        self.seen: list[str] = []
        self.signals = signals.on(self.handle)
        self.inside, self.go_on = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.signals.run)
        self.thread.start()

    def handle(self, signal: Signal) -> None:
        self.seen += items([signal])
        if len(self.seen) == 3:
            self.inside.set()
            assert self.go_on.wait(PATIENCE_S)

    def close_amid_a_signal(self) -> None:
        """Close the feed from outside while the third signal is handled."""
        assert self.inside.wait(PATIENCE_S)
        closing = threading.Thread(target=self.signals.close)
        closing.start()
        wait_for(lambda: self.signals._feed.stopped)
        self.go_on.set()
        self.thread.join(PATIENCE_S)
        closing.join(PATIENCE_S)
        assert not self.thread.is_alive() and not closing.is_alive()


def test_closing_ends_the_loop_with_the_signal_in_hand(stage: Stage) -> None:
    """What waits in the buffer reaches nobody."""
    stage.publish(*named(*range(300)))
    strategy = Strategy(stage.live(start="beginning"))
    strategy.close_amid_a_signal()
    assert strategy.seen == ["0", "1", "2"]
    strategy.signals.close()
    assert list(strategy.signals) == []


def test_what_was_handled_is_committed_and_nothing_else(stage: Stage, unique: Callable[[str], str]) -> None:
    """The next member gets what was buffered; closed in mid-handler, from outside or by the handler itself."""
    if not stage.broker.real:
        pytest.skip("the embedded broker takes 15 s to see a member leave")
    group = unique("strategy")
    stage.publish(*named(*range(300)))
    strategy = Strategy(stage.live(group=group, start="beginning"))
    strategy.close_amid_a_signal()
    seen: list[str] = []
    with stage.live(group=group, start="beginning") as second:

        def handle(signal: Signal) -> None:
            seen.extend(items([signal]))
            second.close()
            second.close()

        second.on(handle).run()
    with stage.live(group=group, start="beginning") as third:
        rest = items(take(third, 296))
    assert strategy.seen == ["0", "1", "2"] and seen == ["3"]
    assert rest == [str(number) for number in range(4, 300)]


def test_a_handler_that_fails_has_not_handled(stage: Stage, unique: Callable[[str], str]) -> None:
    """Its signal comes again to the next member; what it raised reaches whoever ran it."""
    if not stage.broker.real:
        pytest.skip("the embedded broker takes 15 s to see a member leave")
    group = unique("strategy")
    stage.publish(*named(*range(5)))

    def handle(signal: Signal) -> None:
        if items([signal]) == ["2"]:
            raise ZeroDivisionError

    with stage.live(group=group, start="beginning") as first, pytest.raises(ZeroDivisionError):
        first.on(handle).run()
    with stage.live(group=group, start="beginning") as second:
        assert items(take(second, 3)) == ["2", "3", "4"]


def test_a_signal_handler_may_end_the_loop(stage: Stage) -> None:
    """It interrupts the very thread that iterates, wherever that is."""
    stage.publish(*named(*range(2_000)))
    with stage.live(start="beginning") as signals:
        before = signals_of_the_system.signal(signals_of_the_system.SIGALRM, lambda *_: signals.close())
        try:
            signals_of_the_system.setitimer(signals_of_the_system.ITIMER_REAL, 0.2)
            for _ in signals:
                pass
        finally:
            signals_of_the_system.signal(signals_of_the_system.SIGALRM, before)
    assert "signals-reader" not in [thread.name for thread in threading.enumerate()]


def test_another_task_has_its_turns_while_signals_wait(stage: Stage) -> None:
    """A buffer that never empties must not hold an event loop up; opening and closing must not, either."""
    stage.publish(*named(*range(3_000)))

    async def both() -> tuple[int, int]:
        turns = 0

        async def tick() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        async with stage.live(start="beginning") as signals:
            opened = turns
            wait_for(lambda: len(signals._feed._buffer) > 2_500)  # type: ignore[attr-defined]
            async for signal in signals:
                if signal.item_key == "wire:2500":
                    break
            iterated = turns - opened
        ticking.cancel()
        return opened, iterated

    opened, iterated = asyncio.run(both())
    assert opened > 0 and iterated >= 3


def test_a_client_that_cannot_open_says_so_to_a_task(stage: Stage) -> None:
    """Not at the call, which must not wait, but where it is waited for."""
    if not stage.broker.real:
        pytest.skip("the embedded broker makes topics when they are asked for")

    async def opened() -> None:
        async with Signals.live(stage.broker.bootstrap_servers, topic="no-such-topic"):
            pass

    with pytest.raises(SourceError, match="earlybird topics create"):
        asyncio.run(opened())


def test_catching_up_is_ordered_and_ends(broker: Any) -> None:
    """Over partitions, as a replay of the same topic has it; then it is said, and what follows is live."""
    topic = broker.topic(partitions=4)
    stage = Stage(broker, topic, topic)
    told: list[CaughtUp] = []
    try:
        for number in range(200):
            stage.publish(*named(number))
        with stage.live(start="beginning") as signals:
            signals.on_live(told.append)
            caught_up = take(signals, 200)
            before = signals.caught_up
            stage.publish(*named("news"))
            assert items(take(signals, 1)) == ["news"] and not before and signals.caught_up and signals.ordered
        replayed = list(Signals.replay(TopicRange(broker.bootstrap_servers, topic, options=broker.options)))
    finally:
        stage.close()
    assert caught_up == replayed[:200]
    assert [each.delivered for each in told] == [200]


def test_reading_that_starts_now_is_live_at_once(stage: Stage) -> None:
    """There is nothing to catch up with."""
    told: list[CaughtUp] = []
    with stage.live() as signals:
        signals.on_live(told.append).run(stop=lambda: bool(told))
        assert signals.caught_up and told[0].delivered == 0


def test_a_group_says_that_it_is_not_ordered(stage: Stage, unique: Callable[[str], str]) -> None:
    """Rather than let somebody wait for the end of catching up."""
    with stage.live(group=unique("strategy"), start="beginning") as signals:
        assert not signals.ordered and not signals.caught_up
        with pytest.raises(ValueError, match="without a group"):
            signals.on_live(print)


def test_a_group_is_left_while_it_is_being_joined(stage: Stage, unique: Callable[[str], str]) -> None:
    """At any moment of a rebalance, and without waiting for a time-out."""
    stage.publish(*named(1))
    with capture_logs() as logs:
        for milliseconds in range(0, 80, 4):
            with stage.live(group=unique("strategy"), start="beginning"):
                time.sleep(milliseconds / 1000)
    assert not [line for line in logs if line["event"] == "client.not_left"]


def test_one_iteration_at_a_time(stage: Stage) -> None:
    """A second one would commit what the first is not done with."""
    stage.publish(*named(*range(5)))
    strategy = Strategy(stage.live(start="beginning"))
    assert strategy.inside.wait(PATIENCE_S)
    for again in (lambda: next(strategy.signals), strategy.signals.run, lambda: strategy.signals.to_arrow(1)):
        with pytest.raises(RuntimeError, match="being iterated already"):
            again()
    strategy.go_on.set()
    wait_for(lambda: len(strategy.seen) == 5)
    strategy.signals.close()
    strategy.thread.join(PATIENCE_S)


def test_a_client_that_is_forgotten_lets_go(stage: Stage) -> None:
    """Its thread would read for nobody for ever."""
    stage.publish(*named(*range(50)))
    signals = stage.live(start="beginning", buffer=2)
    thread = signals._feed._reader._thread  # type: ignore[attr-defined]
    next(signals)
    del signals
    gc.collect()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_fork_is_told_that_the_client_is_not_its_own(stage: Stage) -> None:
    """Where it would wait for ever; it can end, and the client of the process that opened it goes on."""
    stage.publish(*named(*range(50)))
    code = f"""
import os, sys
from earlybird.stream.client import Signals
from earlybird.stream.errors import SourceError
signals = Signals.live({stage.broker.bootstrap_servers!r}, topic={stage.topic!r}, control_topic=None,
                       start="beginning", options={dict(stage.broker.options)!r})
next(signals)
child = os.fork()
if not child:
    try:
        next(signals)
    except SourceError as error:
        print("told:", error)
    signals.close()
    sys.exit(7)
print("child:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), next(signals).item_key)
signals.close()
"""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert "cannot be used in its fork" in ran.stdout and "child: 7 wire:1" in ran.stdout, ran.stdout + ran.stderr


def test_without_heartbeats_the_condition_is_unknown(stage: Stage) -> None:
    """Nobody has heard anything of the stage."""
    with stage.live() as deaf, stage.live(control_topic=stage.control) as hearing:
        stage.publish(*named(1))
        next(deaf), next(hearing)
        assert deaf.condition is hearing.condition is Condition.UNKNOWN
        stage.beat()
        wait_for(lambda: hearing.condition is Condition.ALIVE)
        assert deaf.condition is Condition.UNKNOWN


def test_what_a_silence_handler_raises_reaches_the_loop(stage: Stage) -> None:
    """Once; the loop may go on."""
    clock = ManualClock(now_us())
    with stage.live(control_topic=stage.control, clock=clock, max_age_us=None) as signals:

        def handle(silence: HealthChange) -> None:
            raise ZeroDivisionError(str(silence))

        signals.on_health(handle)
        clock.advance(6 * SECOND)
        with pytest.raises(ZeroDivisionError, match="the stage is dead"):
            next(signals)
        stage.publish(*named(1))
        assert items(take(signals, 1)) == ["1"]


def test_a_time_limit_holds_while_signals_come(stage: Stage) -> None:
    """Also where there is always one more."""
    stage.publish(*named(*range(20)))
    with stage.live(start="beginning") as signals:
        wait_for(lambda: len(signals._feed._buffer) > 20)  # type: ignore[attr-defined]
        assert 0 < signals.to_arrow(10**9, timeout_s=0).num_rows <= 20


def test_an_unknown_filter_is_refused(stage: Stage) -> None:
    """A typing error must not let everything through."""
    with pytest.raises(TypeError, match="min_confidnce"):
        stage.live(min_confidnce=0.6)
