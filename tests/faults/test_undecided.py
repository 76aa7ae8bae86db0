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
from earlybird.stream.adapters.own_transactions import OwnTransactions
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.adapters.transactional_producer import TransactionalProducer
from earlybird.stream.adapters.undecided import Undecided
from earlybird.stream.errors import SinkError
from earlybird.stream.ports import Outgoing
from earlybird.stream.stage import commit_map
from kafka_node import LocalKafka
from local import LocalCluster

pytestmark = [pytest.mark.faults, pytest.mark.broker]

PATIENCE_S = 150.0
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
    place_signals(cluster, node)
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
    found = [(tp.topic, tp.partition) for tp in undecided.state(OwnTransactions()).aborted]
    assert found == ([] if committed else [("signals", 0)])
    sink = worker(cluster, "one")
    publish(sink, outcome(9), ([], None))
    sink.close()
    member.close()
    assert signals(cluster, 2 if committed else 1) == [*([outcome(7)] if committed else []), outcome(9)]


@pytest.mark.parametrize("died", [False, True])
def test_aborted_outcomes_stay_aborted_when_another_worker_has_committed_the_same_texts(
    cluster: LocalCluster, died: bool
) -> None:
    """The group has their offsets then, by the other's transaction, which says nothing of ours."""
    own: dict[str, str | int | float | bool] = {"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0}
    admin, member = AdminClient(own), Consumer(own | GROUP)
    admin.create_topics([NewTopic("raw", 1, 3)])["raw"].result()
    committed_of(member)
    first, second = worker(cluster, "one"), worker(cluster, "two")
    for sink in (first, second):
        until(lambda sink=sink: sink.receipts() or not sink.awaited)  # type: ignore[misc]
    busy = {leader(cluster, "__transaction_state"), leader(cluster, "__consumer_offsets")}
    node = next(each for each in cluster.nodes if each.node not in busy)
    place_signals(cluster, node)
    first.send(Outgoing("signals", b"k", outcome(7)), "receipt")
    until(lambda: first.receipts())
    node.kill()
    until(lambda: leader(cluster, "signals") == -1)
    assert first.drop(lambda _: True) == []  # its partition is the other's now
    node.start(PATIENCE_S)
    until(lambda: leader(cluster, "signals") == node.node)
    publish(second, outcome(7), ([TopicPartition("raw", 0, 8)], member.consumer_group_metadata()))
    if died:
        first.close()
        first = worker(cluster, "one")
    else:
        first.renew()
    publish(first, outcome(9), ([], None))
    for sink in (first, second):
        sink.close()
    member.close()
    assert signals(cluster, 2) == [outcome(7), outcome(9)]


@pytest.mark.parametrize("lost", ["both", "offsets", "offsets, behind another's"])
def test_last_commit_is_completed_or_taken_back(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """The broker has accepted it, and left out offsets or both: offsets are committed again behind outcomes that stand.

    Where the outcomes are undecided, too, both are aborted; who counts on them goes, and who comes begins before both.
    """
    own: dict[str, str | int | float | bool] = {"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0}
    admin, member = AdminClient(own), Consumer(own | GROUP)
    admin.create_topics([NewTopic("raw", 1, 3)])["raw"].result()
    place = TopicPartition("raw", 0, 8)
    assert committed_of(member) == OFFSET_INVALID
    node = next(each for each in cluster.nodes if each.node == leader(cluster, "__consumer_offsets"))
    place_signals(cluster, node if lost == "both" else next(each for each in cluster.nodes if each is not node))
    sink, other = worker(cluster, "one"), Producer(own | {"transactional.id": "other"})
    if lost == "offsets, behind another's":
        other.init_transactions(60)
        other.begin_transaction()
        other.produce("signals", b"another's")
        assert other.flush(30) == 0

    ask = TransactionalProducer._ask

    def without_a_leader(producer: TransactionalProducer, request: Any, **how: Any) -> bool:
        if how.get("in_doubt"):
            node.kill()
            until(lambda: leader(cluster, "__consumer_offsets") == -1)
        return ask(producer, request, **how)

    monkeypatch.setattr(TransactionalProducer, "_ask", without_a_leader)
    publish(sink, outcome(7), ([place], member.consumer_group_metadata()))
    monkeypatch.undo()
    node.start(PATIENCE_S)
    until(lambda: leader(cluster, "__consumer_offsets") == node.node)
    with pytest.raises(KafkaException, match="Timed out"):
        member.committed([TopicPartition("raw", 0)], timeout=5)
    sink.renew()
    if lost == "both":
        with pytest.raises(SinkError, match="left undecided"):
            until(lambda: sink.receipts() or not sink.awaited)
        sink.close()
        sink = worker(cluster, "one")
        until(lambda: sink.receipts() or not sink.awaited)
        assert committed_of(member) == OFFSET_INVALID
        publish(sink, outcome(7), ([place], member.consumer_group_metadata()))
    elif lost != "offsets":
        for _ in range(3):
            sink.receipts()
        assert "transactions" in sink.awaited  # until the other's records before ours are decided
        other.abort_transaction(60)
    until(lambda: sink.receipts() or not sink.awaited)
    sink.close()
    assert committed_of(member) == 8
    member.close()
    assert signals(cluster, 1) == [outcome(7)]


def worker(cluster: LocalCluster, name: str) -> KafkaTransactions:
    undecided = Undecided(cluster.bootstrap_servers, ["signals"], ["raw"], "group", commit_map.finished_above)
    return KafkaTransactions(cluster.bootstrap_servers, name, interval_ms=0, undecided=undecided)


def place_signals(cluster: LocalCluster, node: LocalKafka) -> None:
    """Create the topic of outcomes with this node as its only replica."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
    admin.create_topics([NewTopic("signals", 1, replica_assignment=[[node.node]])])["signals"].result()
    until(lambda: leader(cluster, "signals") == node.node)


def publish(sink: KafkaTransactions, value: bytes, offsets: object) -> None:
    """Commit one outcome with these offsets."""
    sink.send(Outgoing("signals", b"k", value), "receipt")
    until(lambda: sink.receipts())
    sink.hold()
    until(lambda: sink.receipts() or sink.settled)
    assert sink.commit(offsets)


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
