"""Offsets with holes: aborted transactions, their markers and compaction do not stall what is committed."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from structlog.testing import capture_logs

from earlybird.stream.adapters.topics import Topic, create_topics

pytestmark = pytest.mark.broker


def committed(ground: Any) -> int:
    """The group's offset in partition 0."""
    consumer = Consumer({"bootstrap.servers": ground.bootstrap_servers, "group.id": ground.group})
    (place,) = consumer.committed([TopicPartition(ground.news, 0)], timeout=10)
    consumer.close()
    return int(place.offset)


@pytest.fixture
def one_partition(ground: Any, unique: Callable[[str], str]) -> Callable[..., Any]:
    """The ground with a raw topic of one partition and this configuration."""

    def make(**config: str) -> Any:
        ground.news = unique("gaps")
        ground.raw = [ground.news]
        create_topics(ground.bootstrap_servers, [Topic(ground.news, 1, 1, config)])
        return ground

    return make


def test_aborted_transactions_are_skipped_and_commits_go_on(
    one_partition: Callable[..., Any], join: Callable[..., Any], make_item: Callable[[int], Any]
) -> None:
    """Half of the records were taken back: none of them has an outcome, and the commit comes to the end."""
    ground = one_partition()
    producer = Producer({"bootstrap.servers": ground.bootstrap_servers, "transactional.id": ground.news})
    producer.init_transactions(30)
    for batch in range(20):
        producer.begin_transaction()
        for number in range(batch * 10, batch * 10 + 10):
            producer.produce(ground.news, json.dumps(make_item(number)), f"wire:{number}")
        producer.flush(30)
        producer.commit_transaction() if batch % 2 == 0 else producer.abort_transaction()
    worker = join(ground)
    with ground.watch() as watch:
        found = watch.until_answered(100)
        watch.until(lambda: committed(ground) == 20 * 11)
    assert found.balanced and not found.strays and found.repeated == 0
    assert worker.stage.pipeline.in_flight == 0
    assert {int(position.offset) // 11 % 2 for position in found.raw} == {0}, "every second batch was aborted"


def test_compacted_offsets_are_no_obstacle(
    one_partition: Callable[..., Any], join: Callable[..., Any], make_item: Callable[[int], Any]
) -> None:
    """Of each item only the last version is left, at offsets far apart; the commit ends behind the last of them."""
    ground = one_partition(
        **{
            "cleanup.policy": "compact",
            "segment.ms": "50",
            "min.cleanable.dirty.ratio": "0.001",
            "min.compaction.lag.ms": "0",
        }
    )
    versions = 0
    while True:  # the cleaner works on closed segments, and only a later record closes one
        ground.publish([make_item(number) for number in range(10)] + [make_item(1000 + versions)])
        versions += 1
        with ground.watch() as watch:
            watch.until_read()
            left = sorted(position.offset for position in watch.audit.raw)
        if left != list(range(11 * versions)):
            break
        assert versions < 500, "the broker never compacted"
    join(ground)
    with ground.watch() as watch:
        watch.until(lambda: committed(ground) == 11 * versions)
    with ground.watch() as watch:  # anew: the cleaner may have taken more before the worker came to it
        watch.until_read()
        found = watch.until_answered(len(watch.audit.raw))
    assert not found.missing and not found.disagreeing


def test_a_group_behind_aborted_transactions_shows_no_lag(
    one_partition: Callable[..., Any], join: Callable[..., Any], make_item: Callable[[int], Any]
) -> None:
    """What can never be read is committed with what was read, also where nothing was, so that Kafka's tools count 0."""
    ground = one_partition()
    producer = Producer({"bootstrap.servers": ground.bootstrap_servers, "transactional.id": ground.news})
    producer.init_transactions(30)

    def take_back(count: int) -> None:
        producer.begin_transaction()
        for number in range(count):
            producer.produce(ground.news, json.dumps(make_item(number)), f"wire:{number}")
        producer.flush(30)
        producer.abort_transaction()

    take_back(3)
    join(ground)
    with ground.watch() as watch:
        watch.until(lambda: committed(ground) == 4)
        ground.publish([make_item(number) for number in range(10)])
        watch.until_answered(10)
        take_back(6)
        watch.until(lambda: committed(ground) == 4 + 10 + 7)
        ground.publish([make_item(10)])
        found = watch.until_answered(11)
    assert found.balanced and found.repeated == 0


def test_an_open_transaction_is_reported_until_it_ends(
    one_partition: Callable[..., Any],
    join: Callable[..., Any],
    make_item: Callable[[int], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Records behind it are there and cannot be read: a line and a gauge, for nothing else tells it from silence."""
    monkeypatch.setattr("earlybird.stream.adapters.read_progress.STALLED_S", 0.5)
    ground = one_partition()
    producer = Producer({"bootstrap.servers": ground.bootstrap_servers, "transactional.id": ground.news})
    producer.init_transactions(30)
    worker = join(ground)
    with ground.watch() as watch, capture_logs() as lines:
        ground.publish([make_item(number) for number in range(5)])
        watch.until_answered(5)
        producer.begin_transaction()
        producer.produce(ground.news, json.dumps(make_item(5)), "wire:5")
        producer.flush(30)
        ground.publish([make_item(number) for number in range(6, 12)])
        watch.until(lambda: unreadable(worker) == 7)
        watch.until(lambda: [line for line in lines if line["event"] == "partition.unreadable"])
        assert watch.answered == 5
        producer.commit_transaction()
        watch.until_answered(12)
        watch.until(lambda: unreadable(worker) == 0)
        watch.until(lambda: committed(ground) == 13)
    (said,) = [line for line in lines if line["event"] == "partition.unreadable"]
    assert (said["log_level"], said["topic"], said["offset"]) == ("warning", ground.news, 5)


def unreadable(worker: Any) -> float:
    """The gauge over all partitions."""
    lines = worker.metrics.exposition().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("earlybird_unreadable_records{"))
