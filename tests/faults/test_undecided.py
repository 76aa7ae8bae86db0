"""What a broker leaves undecided when it ends a transaction of which a partition has no leader."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from earlybird.stream.adapters.kafka_transactions import KafkaTransactions
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.adapters.transactional_producer import TransactionalProducer
from earlybird.stream.adapters.undecided import Undecided
from earlybird.stream.errors import SinkError
from earlybird.stream.ports import Outgoing
from earlybird.stream.stage import commit_map
from local import LocalCluster

pytestmark = [pytest.mark.faults, pytest.mark.broker, pytest.mark.timeout(300)]

PATIENCE_S = 90.0
FENCED_SOON = {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}
LONE_OFFSETS = {"offsets.topic.replication.factor": "1"}  # so that they can be without a leader
GROUP = {"group.id": "group", "isolation.level": "read_committed"}


@pytest.fixture
def cluster(tmp_path: Path, kafka: Any) -> Iterator[LocalCluster]:
    """Three nodes; `kafka` has skipped the test where none can run."""
    with LocalCluster(tmp_path / "cluster", options=FENCED_SOON | LONE_OFFSETS) as nodes:
        yield nodes


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "never came"
        time.sleep(0.05)


def outcome(offset: int) -> bytes:
    return json.dumps({"raw": {"topic": "raw", "partition": 0, "offset": offset, "index": 0}}).encode()


def leader(cluster: LocalCluster, topic: str) -> int:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
    known = admin.list_topics(topic, timeout=10).topics[topic].partitions
    return int(known[0].leader) if known else -2  # it was created a moment ago


def committed_of(member: Consumer) -> int:
    """The group's offset, once its coordinator answers."""
    found: list[TopicPartition] = []

    def answered() -> bool:
        with suppress(KafkaException):
            found.extend(member.committed([TopicPartition("raw", 0)], timeout=10))
        return bool(found)

    until(answered)
    return int(found[0].offset)


@pytest.mark.parametrize("committed", [False, True])
def test_partition_without_a_leader_gets_its_end_later(cluster: LocalCluster, committed: bool) -> None:
    """The coordinator skips it; a successor under the same name must not commit what was aborted, nor the reverse."""
    own: dict[str, str | int | float | bool] = {"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0}
    admin, former = AdminClient(own), Producer(own | {"transactional.id": "one"})
    former.init_transactions(60)

    admin.create_topics([NewTopic("raw", 1, 3)])["raw"].result()
    member = Consumer(own | GROUP)
    committed_of(member)  # the offsets have their topic from here on
    busy = {leader(cluster, "__transaction_state"), leader(cluster, "__consumer_offsets")}
    node = next(each for each in cluster.nodes if each.node not in busy)
    admin.create_topics([NewTopic("signals", 1, replica_assignment=[[node.node]])])["signals"].result()
    until(lambda: leader(cluster, "signals") == node.node)
    former.begin_transaction()
    former.produce("signals", outcome(7))
    assert former.flush(30) == 0
    if committed:
        former.send_offsets_to_transaction([TopicPartition("raw", 0, 8)], member.consumer_group_metadata(), 60)
    node.kill()
    until(lambda: leader(cluster, "signals") == -1)
    former.commit_transaction(60) if committed else former.abort_transaction(60)
    node.start(PATIENCE_S)
    until(lambda: leader(cluster, "signals") == node.node)

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
    assert signals(cluster, 2 if committed else 1) == [*([outcome(7)] if committed else []), outcome(9)]


def test_offsets_and_outcomes_that_wait_for_each_other_are_both_aborted(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither has its end, though the commit was answered: who counts on it goes, and who comes begins before both."""
    own: dict[str, str | int | float | bool] = {"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0}
    admin, member = AdminClient(own), Consumer(own | GROUP)
    admin.create_topics([NewTopic("raw", 1, 3)])["raw"].result()
    place = TopicPartition("raw", 0, 8)
    assert committed_of(member) == OFFSET_INVALID
    node = next(each for each in cluster.nodes if each.node == leader(cluster, "__consumer_offsets"))
    admin.create_topics([NewTopic("signals", 1, replica_assignment=[[node.node]])])["signals"].result()
    until(lambda: leader(cluster, "signals") == node.node)
    undecided = Undecided(cluster.bootstrap_servers, ["signals"], ["raw"], "group", commit_map.finished_above)
    sink = KafkaTransactions(cluster.bootstrap_servers, "one", interval_ms=0, undecided=undecided)
    sink.send(Outgoing("signals", b"k", outcome(7)), "receipt")
    until(lambda: sink.receipts())
    sink.hold()
    until(lambda: sink.receipts() or sink.settled)

    ask = TransactionalProducer._ask

    def without_a_leader(producer: TransactionalProducer, request: Any, **how: Any) -> bool:
        if how.get("in_doubt"):
            node.kill()
            until(lambda: leader(cluster, "signals") == -1)
        return ask(producer, request, **how)

    monkeypatch.setattr(TransactionalProducer, "_ask", without_a_leader)
    assert sink.commit(([place], member.consumer_group_metadata()))
    monkeypatch.undo()
    node.start(PATIENCE_S)
    until(lambda: leader(cluster, "signals") == node.node)
    with pytest.raises(KafkaException, match="Timed out"):
        member.committed([TopicPartition("raw", 0)], timeout=5)
    sink.renew()
    with pytest.raises(SinkError, match="left undecided"):
        until(lambda: sink.receipts() or not sink.awaited)
    sink.close()

    heir = KafkaTransactions(cluster.bootstrap_servers, "one", interval_ms=0, undecided=undecided)
    until(lambda: heir.receipts() or not heir.awaited)
    assert committed_of(member) == OFFSET_INVALID
    heir.send(Outgoing("signals", b"k", outcome(7)), "receipt")
    until(lambda: heir.receipts())
    heir.hold()
    until(lambda: heir.receipts() or heir.settled)
    assert heir.commit(([place], member.consumer_group_metadata()))
    heir.close()
    assert committed_of(member) == 8
    member.close()
    assert signals(cluster, 1) == [outcome(7)]


def signals(cluster: LocalCluster, count: int) -> list[bytes | None]:
    """What a reader of committed records sees, once it is so many."""
    read: list[bytes | None] = []
    tail = Tail(cluster.bootstrap_servers, ["signals"], start="beginning")

    def all_read() -> bool:
        read.extend(record.value for record in tail.poll(50))
        return len(read) >= count and tail.reached(tail.ends())

    until(all_read)
    tail.close()
    return read
