"""A topic that is deleted and made again under its name is another topic: nothing of it is skipped, and it is said."""

from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from structlog.testing import capture_logs

from earlybird.stream.adapters.topic_ids import TopicIds
from earlybird.stream.adapters.topics import Topic, admin_client, create_topics
from earlybird.stream.ports import Commit, Partition

pytestmark = pytest.mark.broker

PROTOCOLS = ("classic", "consumer")
OLD = [b"old %d" % number for number in range(50)]
NEW = [b"new %d" % number for number in range(300)]


def make_again(broker: Any, topic: str) -> None:
    """Delete the topic and make it anew, with more records than it had."""
    admin = admin_client(broker.bootstrap_servers)
    admin.delete_topics([topic])[topic].result()
    broker.until(lambda: create_topics(broker.bootstrap_servers, [Topic(topic)])[0].outcome == "created")
    broker.publish(topic, NEW)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_under_a_running_member_it_is_read_from_its_beginning(real_broker: Any, protocol: str) -> None:
    """The client alone would go on at the old offset and never read what lies below it."""
    topic, group = real_broker.topic(), real_broker.unique("group")
    real_broker.publish(topic, OLD)
    member = real_broker.join(topic, group, protocol=protocol)
    member.poll_until(lambda: len(member.records) == len(OLD))
    place = Partition(topic, 0)
    assert member.source.commit({place: Commit(50, "", 0)}, wait=True)
    member.source.pause([place])  # as slow as to find the old offset in the new topic
    make_again(real_broker, topic)
    member.source.resume([place])
    with capture_logs() as lines:
        member.poll_until(lambda: member.source.topics_recreated and set(NEW) <= set(member.values()))
    said = [line for line in lines if line["event"] == "topic.recreated"]
    assert {(line["topic"], line["log_level"]) for line in said} == {(topic, "warning")}
    read = [value for value in member.values() if value in NEW]
    assert read[-len(NEW) :] == NEW


def test_a_commit_for_the_former_topic_does_not_count(real_broker: Any) -> None:
    """A worker that had not noticed committed for the topic that was gone: its successor begins anew."""
    topic, group, place = real_broker.topic(), real_broker.unique("group"), TopicPartition
    real_broker.publish(topic, OLD)
    member = real_broker.join(topic, group)
    member.poll_until(lambda: len(member.records) == len(OLD))
    assert member.source.commit({Partition(topic, 0): Commit(50, "map", 0)}, wait=True)
    reader = Consumer({"bootstrap.servers": real_broker.bootstrap_servers, "group.id": group})
    (stored,) = reader.committed([place(topic, 0)], timeout=10)
    member.source.close()
    make_again(real_broker, topic)
    reader.commit(offsets=[place(topic, 0, 50, stored.metadata)], asynchronous=False)
    reader.close()
    successor = real_broker.join(topic, group)
    with capture_logs() as lines:
        successor.poll_until(lambda: len(successor.records) >= len(NEW))
    assert successor.owned[Partition(topic, 0)] is None
    assert successor.values() == NEW
    assert [line["event"] for line in lines].count("topic.recreated") == 1


def test_a_commit_by_hand_counts_without_a_map(real_broker: Any) -> None:
    """`kafka-consumer-groups --reset-offsets` stores no note; a map that names no topic is not trusted."""
    topic, group = real_broker.topic(), real_broker.unique("group")
    real_broker.publish(topic, OLD)
    reader = Consumer({"bootstrap.servers": real_broker.bootstrap_servers, "group.id": group})
    reader.commit(offsets=[TopicPartition(topic, 0, 7, "eb1 of some topic")], asynchronous=False)
    reader.close()
    member = real_broker.join(topic, group)
    member.poll_until(lambda: len(member.records) == len(OLD) - 7)
    assert member.owned[Partition(topic, 0)] == Commit(7)


def test_looking_for_the_id_of_a_topic_makes_no_topic(real_broker: Any) -> None:
    """Brokers make topics that are asked for by name, with defaults of their own."""
    topic = real_broker.unique("missing")
    ids = TopicIds(real_broker.bootstrap_servers, [topic])
    assert ids.fetch() == {} == ids.fetch()
    ids.close()
    assert topic not in admin_client(real_broker.bootstrap_servers).list_topics(timeout=10).topics
