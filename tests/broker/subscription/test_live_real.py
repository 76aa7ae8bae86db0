"""What only a real Kafka shows of the client: groups, outages, aborted transactions, lost offsets, new partitions."""

import threading
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions
from structlog.testing import capture_logs

from earlybird.schemas.codec import encode
from earlybird.schemas.signal import Signal
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.client import Signals
from earlybird.stream.ports import Outgoing
from earlybird.stream.strategies.invented import invented

pytestmark = pytest.mark.broker

PATIENCE_S = 150.0
T0 = 1_700_000_000_000_000


def signals_of(count: int, first: int = 0) -> list[Signal]:
    return [invented(str(number), T0) for number in range(first, first + count)]


def publish(broker: Any, topic: str, signals: Sequence[Signal]) -> None:
    """Without headers, as a bridge from elsewhere may; keys spread them over the partitions."""
    sink = KafkaSink(broker.bootstrap_servers)
    for signal in signals:
        sink.send(Outgoing(topic, signal.item_key.encode(), encode(signal)))
    broker.settle(sink)
    sink.close()


def live(broker: Any, topic: str, **about: Any) -> Signals:
    return Signals.live(broker.bootstrap_servers, topic=topic, control_topic=None, start="beginning", **about)


def keys(signals: Sequence[Signal]) -> list[str]:
    return sorted((signal.item_key for signal in signals), key=lambda key: int(key.partition(":")[2]))


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "never came"
        time.sleep(0.02)


class Member:
    """A strategy in a group, on a thread of its own."""

    def __init__(self, broker: Any, topic: str, group: str) -> None:
        self.seen: list[Signal] = []
        self.signals = live(broker, topic, group=group, buffer=50).on(self.seen.append)
        self.thread = threading.Thread(target=self.signals.run)
        self.thread.start()

    def leave(self) -> None:
        self.signals.close()
        self.thread.join()


def test_members_of_a_group_share_the_signals_and_pass_them_on(real_broker: Any) -> None:
    """Each partition is one member's; who leaves well repeats nothing."""
    topic, group = real_broker.topic(partitions=4), real_broker.unique("strategy")
    publish(real_broker, topic, signals_of(200))
    first = Member(real_broker, topic, group)
    wait_for(lambda: len(first.seen) == 200)
    second = Member(real_broker, topic, group)
    later = 200

    def shared() -> bool:
        nonlocal later
        publish(real_broker, topic, signals_of(8, later))
        later += 8
        time.sleep(0.2)
        return bool(second.seen) and len(first.seen) + len(second.seen) >= later

    wait_for(shared)
    first.leave()
    publish(real_broker, topic, signals_of(40, later))
    wait_for(lambda: {signal.item_key for signal in second.seen} >= {s.item_key for s in signals_of(40, later)})
    second.leave()
    assert set(keys(first.seen + second.seen)) == {f"wire:{number}" for number in range(later + 40)}
    third = Member(real_broker, topic, group)
    publish(real_broker, topic, signals_of(1, later + 40))
    wait_for(lambda: third.seen)
    third.leave()
    assert keys(third.seen) == [f"wire:{later + 40}"]


def test_a_blocked_strategy_stays_in_its_group(real_broker: Any) -> None:
    """Whoever thinks for long is not thrown out: with nothing taken for longer than max.poll.interval.ms it goes on."""
    topic, group = real_broker.topic(), real_broker.unique("strategy")
    publish(real_broker, topic, signals_of(30))
    options = {"session.timeout.ms": 6000, "max.poll.interval.ms": 6000}
    with live(real_broker, topic, group=group, buffer=2, options=options) as signals, capture_logs() as lines:
        seen = [next(signals)]
        time.sleep(7)
        seen += islice(signals, 29)
        assert keys(seen) == [f"wire:{number}" for number in range(30)]
    assert not [line for line in lines if line["event"] in ("partitions.lost", "commit.refused")]
    with live(real_broker, topic, group=group) as again:
        assert keys(list(islice(again, 1))) == ["wire:29"]  # it was in hand, and not done


@pytest.mark.faults
def test_an_outage_delays_and_loses_nothing(own_broker: Any) -> None:
    """The broker dies and comes back: the same iterator goes on, and the log says what was awaited."""
    topic = own_broker.topic()
    publish(own_broker, topic, signals_of(5))
    with live(own_broker, topic) as signals, capture_logs() as lines:
        assert len(list(islice(signals, 5))) == 5
        own_broker.server.kill()
        wait_for(lambda: [line for line in lines if line["event"] == "broker.awaited"])
        own_broker.server.start()
        publish(own_broker, topic, signals_of(5, 5))
        assert keys(list(islice(signals, 5))) == [f"wire:{number}" for number in range(5, 10)]


@pytest.mark.faults
def test_a_broker_that_hangs_holds_no_strategy_up(own_broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing comes back though the last commit gets no answer, says so, and is made up for when the broker is back."""
    monkeypatch.setattr("earlybird.stream.subscription.live._CLOSING_S", 1.0)
    topic, group = own_broker.topic(), own_broker.unique("strategy")
    publish(own_broker, topic, signals_of(5))
    with capture_logs() as lines:
        with live(own_broker, topic, group=group) as signals:
            assert len(list(islice(signals, 3))) == 3
            own_broker.server.pause()
        assert "signals.not_closed" in [line["event"] for line in lines]
        own_broker.server.resume()
        wait_for(lambda: "signals-reader" not in [thread.name for thread in threading.enumerate()])


def test_aborted_signals_are_not_seen_unless_asked_for(real_broker: Any) -> None:
    """What a transaction took back was never said."""
    topic = real_broker.topic()
    producer = Producer(
        {"bootstrap.servers": real_broker.bootstrap_servers, "transactional.id": real_broker.unique("writer")}
    )
    producer.init_transactions()
    for number, end in ((0, producer.abort_transaction), (1, producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic, encode(invented(str(number), T0)), f"wire:{number}")
        producer.flush()
        end()
    with live(real_broker, topic) as signals:
        assert next(signals).item_key == "wire:1"
    with live(real_broker, topic, read_committed=False) as signals:
        assert keys(list(islice(signals, 2))) == ["wire:0", "wire:1"]


def test_deleted_signals_are_a_number_and_reading_goes_on(real_broker: Any) -> None:
    """A group whose next record is gone reads on at the earliest: loud, counted, never at the newest."""
    topic, group = real_broker.topic(), real_broker.unique("strategy")
    publish(real_broker, topic, signals_of(20))
    member = Member(real_broker, topic, group)
    wait_for(lambda: len(member.seen) == 20)
    member.leave()
    publish(real_broker, topic, signals_of(10, 20))
    admin = AdminClient({"bootstrap.servers": real_broker.bootstrap_servers})
    for answer in admin.delete_records([TopicPartition(topic, 0, 25)]).values():
        answer.result()
    with live(real_broker, topic, group=group) as signals:
        assert keys(list(islice(signals, 5))) == [f"wire:{number}" for number in range(25, 30)]
        assert signals.counts.out_of_range == 1


def test_partitions_that_are_added_are_read(real_broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A strategy without a group notices them by itself, from their first record."""
    monkeypatch.setattr("earlybird.stream.subscription.reader._REFRESH_S", 0.2)
    topic = real_broker.topic()
    publish(real_broker, topic, signals_of(1))
    with live(real_broker, topic) as signals:
        assert next(signals).item_key == "wire:0"
        admin = AdminClient({"bootstrap.servers": real_broker.bootstrap_servers})
        for answer in admin.create_partitions([NewPartitions(topic, 4)]).values():
            answer.result()
        publish(real_broker, topic, signals_of(40, 1))
        assert keys(list(islice(signals, 40))) == [f"wire:{number}" for number in range(1, 41)]
