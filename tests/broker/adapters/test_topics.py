"""A broker that makes topics when asked for one, and lets not everybody see all of them."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from structlog.testing import capture_logs

from earlybird.stream.adapters.kafka import KafkaSource
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.rate_limit import QUIET_S
from earlybird.stream.adapters.topics import Topic, create_topics, known_topics
from earlybird.stream.ports import Outgoing

pytestmark = pytest.mark.broker

PATIENCE_S = 150.0
THERE = ("signals", "signals.control", "raw.dlq")
LISTENERS = {
    "listeners": "PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controller_port},GUARDED://127.0.0.1:%d",
    "advertised.listeners": "PLAINTEXT://127.0.0.1:${port},GUARDED://127.0.0.1:%d",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,GUARDED:SASL_PLAINTEXT",
    "listener.name.guarded.sasl.enabled.mechanisms": "PLAIN",
    "listener.name.guarded.plain.sasl.jaas.config": (
        'org.apache.kafka.common.security.plain.PlainLoginModule required user_earlybird="secret";'
    ),
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
    "auto.create.topics.enable": "true",
}
LOGIN = {
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanism": "PLAIN",
    "sasl.username": "earlybird",
    "sasl.password": "secret",
}


class Nobody:
    """A listener that is told nothing of interest."""

    def assigned(self, committed: object) -> None: ...

    def revoked(self, partitions: object) -> None: ...

    def lost(self, partitions: object) -> None: ...

    def read_to(self, ends: object) -> None: ...

    def waiting(self) -> None: ...


class Guarded(NamedTuple):
    """Two doors of one broker."""

    open: str  # who comes here may do everything
    guarded: str  # `earlybird` may write to signals and signals.control, and knows of nothing else


@pytest.fixture(scope="module")
def doors(new_kafka: Callable[..., Any]) -> Guarded:
    """With the topics of a stage."""
    from kafka_node import free_port

    port = free_port()
    kafka = new_kafka(**{name: value.replace("%d", str(port)) for name, value in LISTENERS.items()})
    create_topics(kafka.bootstrap_servers, [Topic(name) for name in THERE])
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    who, allow = ("User:earlybird", "*"), (AclOperation.WRITE, AclPermissionType.ALLOW)
    allowed = AclBinding(ResourceType.TOPIC, "signals", ResourcePatternType.PREFIXED, *who, *allow)
    for answer in admin.create_acls([allowed]).values():
        answer.result()
    return Guarded(kafka.bootstrap_servers, f"127.0.0.1:{port}")


def looked(sink: KafkaSink, awaited: tuple[str, ...]) -> list[dict[str, Any]]:
    """What it said of topics by the time that it awaits just these and has said so."""
    deadline = time.monotonic() + PATIENCE_S
    with capture_logs() as lines:
        while sink.awaited != awaited or not (said := [line for line in lines if line["event"] == "topic.awaited"]):
            assert time.monotonic() < deadline, f"awaits {sink.awaited}, said {lines}"
            sink.receipts()
            time.sleep(0.01)
    sink.close()
    return [dict(line) for line in said]


def test_looking_for_a_topic_does_not_make_it(doors: Guarded) -> None:
    """It would have the broker's own number of partitions and no append time, and the stage would look ready."""
    (said,) = looked(KafkaSink(doors.open, topics=["signals", "later"]), ("later",))
    assert said["topic"] == "later"
    assert "later" not in known_topics(doors.open)


def test_a_raw_topic_that_is_missing_is_named_until_it_is_there(real_broker: Any) -> None:
    """The others are read meanwhile; looking for it does not make it."""
    there, later = real_broker.topic(), real_broker.unique("later")
    member = real_broker.join(
        [there, later], real_broker.unique("group"), **{"topic.metadata.refresh.interval.ms": 100}
    )
    member.poll_until(lambda: member.source.missing_topics == {later} and member.owned)
    assert {partition.topic for partition in member.owned} == {there}
    create_topics(real_broker.bootstrap_servers, [Topic(later)])
    member.poll_until(lambda: not member.source.missing_topics)
    assert {partition.topic for partition in member.owned} == {there, later}


def test_a_topic_that_we_may_not_see_is_named(doors: Guarded) -> None:
    """To us it is as if it were not there; the line says that it may be either."""
    (said,) = looked(KafkaSink(doors.guarded, topics=THERE, options=LOGIN), ("raw.dlq",))
    assert (said["topic"], said["reason"]) == ("raw.dlq", "not there, or not ours to see")
    assert "permission" in said["hint"]


def test_a_raw_topic_that_stays_away_is_said_again(doors: Guarded) -> None:
    """librdkafka says it once; an operator who looks an hour later must see it."""
    now_s = [0.0]
    source = KafkaSource(doors.open, ["absent.raw"], "awaiting", monotonic=lambda: now_s[0])
    deadline = time.monotonic() + PATIENCE_S
    source.subscribe(Nobody())
    with capture_logs() as lines:
        while len(said := [line for line in lines if line["event"] == "topic.awaited"]) < 3:
            assert time.monotonic() < deadline, lines
            source.poll(50, 10)
            if len(said) == round(now_s[0] / QUIET_S) + 1:
                now_s[0] += QUIET_S
    source.close()
    assert {line["topic"] for line in said} == {"absent.raw"}


@pytest.mark.parametrize(("config", "warned"), [({}, True), ({"message.timestamp.type": "LogAppendTime"}, False)])
def test_signals_with_their_senders_time_are_warned_of(doors: Guarded, config: dict[str, str], warned: bool) -> None:
    """At the first that is acknowledged, and once: what is available is told by the broker's clock or by many."""
    topic = f"dated-{warned}"
    create_topics(doors.open, [Topic(topic, config=config)])
    sink = KafkaSink(doors.open, append_dated=topic)
    with capture_logs() as lines:
        for _ in range(2):
            sink.send(Outgoing(topic, b"k", b"v"))
        while sink.unacknowledged():
            sink.receipts(50)
    sink.close()
    assert [line["topic"] for line in lines if line["event"] == "topic.sender_dated"] == [topic] * warned
