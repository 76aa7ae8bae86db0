"""The client on a broker: where it starts, what it commits, what it does when it is slow, stale or left alone."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from schemas.codec import encode
from schemas.control import Heartbeat, PartitionProgress, ReplayComplete, TopicEnd
from schemas.rejection import Reason
from schemas.signal import Signal, SignalAction
from stream.adapters.clock import ManualClock
from stream.adapters.embedded import EmbeddedBroker
from stream.adapters.kafka_sink import KafkaSink
from stream.adapters.topic_range import TopicReader
from stream.client import Condition, Patience, Signals, Silence, StaleSignal, TopicRange
from stream.errors import SettingsError, SourceError
from stream.inflight import Entry
from stream.outcome import signal_record
from stream.ports import Outgoing, Position, Record
from stream.preprocess import Refusal
from stream.strategies.invented import invented

PATIENCE_S = 30.0
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
    names = [f"topic-{number}" for number in range(64)]
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
        clock.advance(62 * SECOND)
        stage.publish(*named("late"), *named("fresh", revision=1, action=SignalAction.RETRACT))
        assert [signal.action for signal in take(signals, 1)] == ["retract"]
        assert signals.counts.stale == 1
        stage.publish(*named("fresh", revision=2))  # many feeds call an edit a create
        assert [signal.action for signal in take(signals, 1)] == ["new"]


def test_a_stale_signal_may_be_an_error(stage: Stage) -> None:
    """For whoever wants to stop rather than miss one; asked again, the next one comes."""
    clock = ManualClock(now_us() + 62 * SECOND)
    stage.publish(*named("late"))
    with stage.live(max_age_us=60 * SECOND, stale="raise", start="beginning", clock=clock) as signals:
        with pytest.raises(StaleSignal, match="wire:late: at most 60000000 us"):
            next(signals)
        clock.advance(-62 * SECOND)
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
    told: list[Silence] = []
    clock = ManualClock(now_us())
    patience = Patience(dead_after_us=5 * SECOND, lag_after_us=5 * SECOND, quiet_after_us=60 * SECOND)
    with stage.live(control_topic=stage.control, clock=clock, patience=patience, max_age_us=None) as signals:
        signals.on_silence(told.append)

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
        signals.on_silence(lambda silence: told.append(silence.condition.value))
        stage.complete("elsewhere", 0)
        stage.complete(stage.topic, 3)
        stage.publish(*named(1, 2))
        assert items(take(signals, 2)) == ["1", "2"] and told == []
        stage.publish(*named(3))
        assert [(items([signal]), list(told)) for signal in signals] == [(["3"], [])]
        assert told == ["complete"] and signals.condition is Condition.COMPLETE


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
