"""What only a real Kafka shows: offsets that are gone, rebalances, generations, outages, topic administration."""

import shutil
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from structlog.testing import capture_logs

from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.topics import Topic, admin_client, create_topics, stage_topics
from earlybird.stream.errors import StreamError
from earlybird.stream.ports import Commit, Outgoing, Partition

pytestmark = pytest.mark.broker

VALUES = [b"%d" % number for number in range(20)]


def delete_before(address: str, partition: Partition, offset: int) -> None:
    """Let the broker forget records, as retention does."""
    from confluent_kafka import TopicPartition

    place = TopicPartition(partition.topic, partition.number, offset)
    admin = AdminClient({"bootstrap.servers": address})  # named: pending answers die with their client
    for answer in admin.delete_records([place]).values():
        answer.result()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_an_offset_that_is_gone_is_loud_and_reading_goes_on_at_the_earliest(real_broker: Any, protocol: str) -> None:
    """Records deleted before they were read are an event and a number, never a silent jump to the newest."""
    topic, group = real_broker.topic(), real_broker.unique("group")
    real_broker.publish(topic, VALUES)
    place = Partition(topic, 0)
    member = real_broker.join(topic, group, protocol=protocol)
    member.poll_until(lambda: member.owned)
    assert member.source.commit({place: Commit(3, "")}, wait=True)
    member.source.close()
    delete_before(real_broker.bootstrap_servers, place, 11)
    with capture_logs() as lines:
        successor = real_broker.join(topic, group, protocol=protocol)
        successor.poll_until(lambda: len(successor.records) >= 9)
    assert successor.values() == VALUES[11:]
    assert successor.source.out_of_range == 1
    events = [line for line in lines if line["event"] == "source.out_of_range"]
    assert [(line["log_level"], line["offset"]) for line in events] == [("error", 3)]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_second_member_takes_over_where_the_first_committed(real_broker: Any, protocol: str) -> None:
    """Partitions move one by one: each with its commit and note, kept ones undisturbed, nothing read twice."""
    topic, group = real_broker.topic(partitions=4), real_broker.unique("group")
    sink = KafkaSink(real_broker.bootstrap_servers)
    for number in range(400):
        sink.send(Outgoing(topic, b"key-%d" % (number % 40), b"%d" % number))
    real_broker.settle(sink)
    first = real_broker.join(topic, group, protocol=protocol)
    first.poll_until(lambda: len(first.records) >= 400)

    def commit_all() -> None:
        ends = {Partition(record.topic, record.partition): record.offset + 1 for record in first.records}
        mine = {place: Commit(ends.get(place, 0), f"note {place.number}") for place in first.owned}
        assert first.source.commit(mine, wait=True)

    first.at_revocation = commit_all
    first.source.pause(list(first.owned))
    second = real_broker.join(topic, group, protocol=protocol)

    def shared() -> bool:
        first.poll()
        return len(second.owned) == 2 and len(first.owned) == 2

    second.poll_until(shared)
    assert all(commit is not None and commit.metadata == f"note {p.number}" for p, commit in second.owned.items())
    kept = set(first.owned)
    for number in range(400, 800):
        sink.send(Outgoing(topic, b"key-%d" % (number % 40), b"%d" % number))
    real_broker.settle(sink)
    sink.close()
    expected = {record.key for record in first.records if Partition(record.topic, record.partition) not in kept}
    second.poll_until(lambda: first.poll() or len(second.records) >= 10 * len(expected))
    assert len(first.records) == 400, "a partition that stayed must stay paused"
    first.source.resume(list(kept))
    first.poll_until(lambda: len(first.records) + len(second.records) >= 800)
    values = first.values() + second.values()
    assert sorted(values) == sorted(b"%d" % number for number in range(800))


def test_a_commit_of_a_member_that_was_thrown_out_is_refused(real_broker: Any) -> None:
    """A member that did not poll for too long hears that its partitions are lost; its commits return False."""
    topic, group = real_broker.topic(), real_broker.unique("group")
    real_broker.publish(topic, VALUES)
    limits = {"max.poll.interval.ms": 6000, "session.timeout.ms": 6000}
    sleeper = real_broker.join(topic, group, **limits)
    sleeper.poll_until(lambda: sleeper.records)
    place = Partition(topic, 0)
    successor = real_broker.join(topic, group)
    successor.poll_until(lambda: successor.owned)
    assert sleeper.source.commit({place: Commit(5, "late")}, wait=True) is False
    assert sleeper.source.commits_refused == 1
    sleeper.poll_until(lambda: ("lost", [place]) in sleeper.events)
    assert successor.source.commit({place: Commit(7, "")}, wait=True)


def test_a_topic_that_comes_later_is_waited_for(real_broker: Any) -> None:
    """Source and sink say once that the topic is missing, and start by themselves when it is made."""
    topic = real_broker.unique("later")
    address = real_broker.bootstrap_servers
    fast = {"topic.metadata.refresh.interval.ms": 200, "topic.metadata.propagation.max.ms": 200}
    sink = KafkaSink(address, options=fast)
    with capture_logs() as lines:
        member = real_broker.join(topic, real_broker.unique("group"), **fast)
        for number in range(5):
            sink.send(Outgoing(topic, b"k", b"%d" % number), number)
        member.poll_until(lambda: sink.receipts() or sink.produced_again >= 1)
        create_topics(address, [Topic(topic)])
        assert real_broker.settle(sink) == [0, 1, 2, 3, 4]
        member.poll_until(lambda: len(member.records) >= 5)
    assert member.values() == [b"0", b"1", b"2", b"3", b"4"]
    assert [line["event"] for line in lines].count("topic.awaited") == 1
    assert [line["event"] for line in lines].count("delivery.repeated") == 1
    sink.close()


def test_a_topic_to_write_to_is_missed_before_anything_is_written(real_broker: Any) -> None:
    """By name, in `awaited` and in the log, until somebody has made it."""
    topic, there = real_broker.unique("later"), real_broker.topic()
    sink = KafkaSink(real_broker.bootstrap_servers, topics=[topic, there])
    assert set(sink.awaited) == {topic, there}
    with capture_logs() as lines:
        real_broker.until(lambda: not sink.receipts() and sink.awaited == (topic,))
    (line,) = [line for line in lines if line["event"] == "topic.awaited"]
    assert (line["topic"], line["reason"]) == (topic, "not there, or not ours to see")
    create_topics(real_broker.bootstrap_servers, [Topic(topic)])
    real_broker.until(lambda: not sink.receipts() and not sink.awaited)
    sink.close()


@pytest.mark.faults
@pytest.mark.parametrize("how", ["killed", "paused"])
def test_an_outage_delays_and_loses_nothing(own_broker: Any, how: str) -> None:
    """Records sent while the broker is away arrive once it is back, each once and in order; the reader goes on."""
    topic = own_broker.topic()
    sink = KafkaSink(own_broker.bootstrap_servers)
    member = own_broker.join(topic, "group", **{"session.timeout.ms": 6000})
    numbers = list(range(300))
    for number in numbers[:100]:
        sink.send(Outgoing(topic, b"k", b"%d" % number), number)
    receipts = own_broker.settle(sink)
    member.poll_until(lambda: len(member.records) >= 100)
    assert member.source.commit({Partition(topic, 0): Commit(100, "")}, wait=True)
    own_broker.server.kill() if how == "killed" else own_broker.server.pause()
    for number in numbers[100:]:
        sink.send(Outgoing(topic, b"k", b"%d" % number), number)
    for _ in range(10):
        assert sink.receipts(100) == [] and member.poll() == []
    assert sink.unacknowledged() == 200
    own_broker.server.start() if how == "killed" else own_broker.server.resume()
    receipts += own_broker.settle(sink)
    assert receipts == numbers
    member.poll_until(lambda: len(member.records) >= 300)
    assert member.values() == [b"%d" % number for number in numbers]
    sink.close()


@pytest.mark.faults
def test_records_that_replaced_others_are_read(own_broker: Any) -> None:
    """The end of the log is lost, as by an election of a replica that was behind, and written anew beyond the committed
    offset: by offset alone the first of the new records would be skipped."""
    topic = own_broker.topic()
    own_broker.publish(topic, VALUES[:10])
    server, place = own_broker.server, Partition(topic, 0)
    log = server.home / "data" / f"{topic}-0"
    server.stop()
    shutil.copytree(log, server.home / "earlier")
    server.start()
    own_broker.publish(topic, VALUES[10:])
    member = own_broker.join(topic, "group")
    member.poll_until(lambda: len(member.records) == len(VALUES))
    epoch = member.records[-1].leader_epoch
    assert member.source.commit({place: Commit(15, "", epoch)}, wait=True)
    member.source.close()
    server.stop()
    shutil.rmtree(log)
    (server.home / "earlier").rename(log)
    server.start()
    own_broker.publish(topic, [b"new %d" % number for number in range(15)])
    successor = own_broker.join(topic, "group")
    with capture_logs() as lines:
        successor.poll_until(lambda: b"new 14" in successor.values())
    assert successor.owned[place] is None
    assert successor.values() == VALUES[:10] + [b"new %d" % number for number in range(15)]
    (said,) = [line for line in lines if line["event"] == "source.out_of_range"]
    assert "log truncation detected at offset 15" in said["reason"]


@pytest.mark.faults
def test_a_commit_to_a_broker_that_hangs_is_given_up(own_broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """librdkafka would wait for ever, and with it whoever hands a partition over or ends."""
    monkeypatch.setattr("earlybird.stream.adapters.offsets.COMMIT_TIMEOUT_S", 1.0)
    topic = own_broker.topic()
    own_broker.publish(topic, VALUES)
    member = own_broker.join(topic, "group")
    member.poll_until(lambda: len(member.records) == len(VALUES))
    own_broker.server.pause()
    assert member.source.commit({Partition(topic, 0): Commit(7, "")}, wait=True) is False
    assert member.source.commits_refused == 1
    own_broker.server.resume()
    monkeypatch.setattr("earlybird.stream.adapters.offsets.COMMIT_TIMEOUT_S", 60.0)
    assert member.source.commit({Partition(topic, 0): Commit(8, "")}, wait=True)


@pytest.mark.faults
def test_commits_do_not_pile_up_before_a_broker_that_hangs(own_broker: Any) -> None:
    """Heartbeats would wait behind them when it comes back, and the group would give the member up."""
    topic = own_broker.topic()
    own_broker.publish(topic, VALUES)
    member = own_broker.join(topic, "group")
    member.poll_until(lambda: len(member.records) == len(VALUES))
    own_broker.server.pause()
    for offset in range(1, len(VALUES)):
        assert not member.source.commit({Partition(topic, 0): Commit(offset, "")}, wait=False)
    own_broker.server.resume()
    last = {Partition(topic, 0): Commit(len(VALUES), "")}
    member.poll_until(lambda: member.source.commit(last, wait=False))
    assert member.source.commits_accepted <= 3


def test_topics_are_made_once_and_described(real_broker: Any) -> None:
    """A second run changes nothing and says so; signals carry the broker's append time."""
    names = [real_broker.unique(name) for name in ("news", "signals", "control", "dlq")]
    topics = stage_topics(names[:1], *names[1:], partitions=3, replication=1)
    address = real_broker.bootstrap_servers
    assert [(made.outcome, made.partitions) for made in create_topics(address, topics)] == [
        ("created", 3),
        ("created", 3),
        ("created", 1),
        ("created", 3),
    ]
    assert {made.outcome for made in create_topics(address, topics)} == {"exists"}
    resource = ConfigResource(ResourceType.TOPIC, names[1])
    admin = admin_client(address)  # named: pending answers die with their client
    config = admin.describe_configs([resource])[resource].result()
    assert config["message.timestamp.type"].value == "LogAppendTime"


def test_a_topic_that_cannot_be_made_says_why(real_broker: Any) -> None:
    """The broker's own reason reaches the user."""
    with pytest.raises(StreamError, match="INVALID_REPLICATION_FACTOR"):
        create_topics(real_broker.bootstrap_servers, [Topic(real_broker.unique("t"), 1, replication=3)])
