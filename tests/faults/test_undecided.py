"""What a broker leaves undecided when it ends a transaction of which a partition has no leader."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from earlybird.stream.adapters.kafka_transactions import KafkaTransactions
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.adapters.undecided import Undecided
from earlybird.stream.ports import Outgoing
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


def test_aborted_outcomes_of_a_partition_without_a_leader_are_never_committed(cluster: LocalCluster) -> None:
    """The coordinator skips the partition; a successor under the same name must not commit what is open there."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
    former = Producer({"bootstrap.servers": cluster.bootstrap_servers, "transactional.id": "one", "log_level": 0})
    former.init_transactions(60)

    def leader(topic: str) -> int:
        return int(admin.list_topics(topic, timeout=10).topics[topic].partitions[0].leader)

    node = next(each for each in cluster.nodes if each.node != leader("__transaction_state"))
    for topic, nodes in (("signals", [node.node]), ("raw", [1, 2, 3])):
        admin.create_topics([NewTopic(topic, 1, replica_assignment=[nodes])])[topic].result()
    until(lambda: leader("signals") == node.node)
    former.begin_transaction()
    former.produce("signals", b"aborted")
    assert former.flush(30) == 0
    node.kill()
    until(lambda: leader("signals") == -1)
    former.abort_transaction(60)
    node.start(PATIENCE_S)
    until(lambda: leader("signals") == node.node)

    undecided = Undecided(cluster.bootstrap_servers, ["signals", "missing"], "raw", "group", {})
    assert [(tp.topic, tp.partition) for tp in undecided.find().partitions] == [("signals", 0)], "Kafka decides it now"
    sink = KafkaTransactions(cluster.bootstrap_servers, "one", interval_ms=0, undecided=undecided)
    sink.send(Outgoing("signals", b"k", b"committed"), "receipt")
    until(lambda: sink.receipts())
    sink.hold()
    until(lambda: sink.receipts() or sink.settled)
    assert sink.commit(([], None))
    sink.close()
    assert undecided.find().partitions == []
    found: list[bytes | None] = []
    tail = Tail(cluster.bootstrap_servers, ["signals"], start="beginning")
    until(lambda: found.extend(record.value for record in tail.poll(50)) or tail.reached(tail.ends()))  # type: ignore[func-returns-value]
    tail.close()
    assert found == [b"committed"]
