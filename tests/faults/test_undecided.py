"""What a broker leaves undecided when it ends a transaction of which a partition has no leader."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from earlybird.stream.adapters.kafka_transactions import KafkaTransactions
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.adapters.undecided import Undecided
from earlybird.stream.ports import Outgoing
from earlybird.stream.stage import commit_map
from local import LocalCluster

pytestmark = [pytest.mark.faults, pytest.mark.broker, pytest.mark.timeout(300)]

PATIENCE_S = 90.0
FENCED_SOON = {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}


@pytest.fixture
def cluster(tmp_path: Path, kafka: Any) -> Iterator[LocalCluster]:
    """Three nodes; `kafka` has skipped the test where none can run."""
    with LocalCluster(tmp_path / "cluster", options=FENCED_SOON) as nodes:
        yield nodes


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "never came"
        time.sleep(0.05)


def outcome(offset: int) -> bytes:
    return json.dumps({"raw": {"topic": "raw", "partition": 0, "offset": offset, "index": 0}}).encode()


@pytest.mark.parametrize("committed", [False, True])
def test_partition_without_a_leader_gets_its_end_later(cluster: LocalCluster, committed: bool) -> None:
    """The coordinator skips it; a successor under the same name must not commit what was aborted, nor the reverse."""
    own: dict[str, str | int | float | bool] = {"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0}
    admin, former = AdminClient(own), Producer(own | {"transactional.id": "one"})
    former.init_transactions(60)

    def leader(topic: str) -> int:
        known = admin.list_topics(topic, timeout=10).topics[topic].partitions
        return int(known[0].leader) if known else -2  # it was created a moment ago

    admin.create_topics([NewTopic("raw", 1, 3)])["raw"].result()
    node = next(each for each in cluster.nodes if each.node != leader("__transaction_state"))
    admin.create_topics([NewTopic("signals", 1, replica_assignment=[[node.node]])])["signals"].result()
    until(lambda: leader("signals") == node.node)
    former.begin_transaction()
    former.produce("signals", outcome(7))
    assert former.flush(30) == 0
    member = Consumer(own | {"group.id": "group", "isolation.level": "read_committed"})
    if committed:
        former.send_offsets_to_transaction([TopicPartition("raw", 0, 8)], member.consumer_group_metadata(), 60)
    node.kill()
    until(lambda: leader("signals") == -1)
    former.commit_transaction(60) if committed else former.abort_transaction(60)
    node.start(PATIENCE_S)
    until(lambda: leader("signals") == node.node)

    undecided = Undecided(
        cluster.bootstrap_servers, ["signals", "missing"], ["raw"], "group", commit_map.finished_above
    )
    found = [(tp.topic, tp.partition) for tp in undecided.find().partitions]
    assert found == ([] if committed else [("signals", 0)])
    sink = KafkaTransactions(cluster.bootstrap_servers, "one", interval_ms=0, undecided=undecided)
    sink.send(Outgoing("signals", b"k", outcome(9)), "receipt")
    until(lambda: sink.receipts())
    sink.hold()
    until(lambda: sink.receipts() or sink.settled)
    assert sink.commit(([], None))
    sink.close()
    member.close()
    expected = [outcome(7), outcome(9)] if committed else [outcome(9)]
    read: list[bytes | None] = []
    tail = Tail(cluster.bootstrap_servers, ["signals"], start="beginning")

    def all_read() -> bool:
        read.extend(record.value for record in tail.poll(50))
        return len(read) >= len(expected) and tail.reached(tail.ends())

    until(all_read)
    tail.close()
    assert read == expected
