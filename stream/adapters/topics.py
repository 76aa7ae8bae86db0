"""Topic creation and inspection; the stage itself never creates a topic.

Topics are created once, by hand or by deployment.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    ClusterMetadata,
    NewTopic,
    TopicMetadata,
)

from earlybird.stream.adapters.broker_requests import REQUEST_TIMEOUT_S, retried
from earlybird.stream.adapters.clients import DENIED, ClientLog
from earlybird.stream.adapters.options import client_options
from earlybird.stream.config.client_options import Endpoint
from earlybird.stream.errors import SettingsError, StreamError


@dataclass(frozen=True, slots=True)
class Topic:
    """Wanted name, partitions, replication and configuration of a topic."""

    name: str
    partitions: int = 1
    replication: int = 1
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """Result of creating one topic.

    `partitions` is the broker's number: an existing topic keeps its own.
    """

    topic: Topic
    outcome: Literal["created", "exists"]
    partitions: int


@dataclass(frozen=True, slots=True)
class Seen:
    """State of a topic on the broker.

    Hidden: without the permission to describe it, a client cannot learn whether it exists.
    """

    name: str
    state: Literal["there", "missing", "hidden"]
    partitions: int


def stage_topics(
    raw: Sequence[str], signals: str, control: str, dead_letters: str, *, partitions: int, replication: int
) -> list[Topic]:
    """Return the topics of one stage.

    `signals` carries the broker's append time, so that latency is measured on one clock; raw topics keep the feed's
    time. Heartbeats need one partition and a day of retention.
    """
    return [
        *(Topic(name, partitions, replication) for name in raw),
        Topic(signals, partitions, replication, {"message.timestamp.type": "LogAppendTime"}),
        Topic(control, 1, replication, {"retention.ms": "86400000"}),
        Topic(dead_letters, partitions, replication),
    ]


def create_topics(endpoint: Endpoint, topics: Sequence[Topic], *, timeout_s: float = 30.0) -> list[Made]:
    """Create missing topics and return the result per topic.

    Raises StreamError with the broker's reason, or when none has answered after `timeout_s`.
    """
    admin, notes = watched_admin(endpoint)
    retried(admin, notes, partial(_everything, admin), timeout_s)
    wanted = [
        NewTopic(
            topic.name, num_partitions=topic.partitions, replication_factor=topic.replication, config=dict(topic.config)
        )
        for topic in topics
    ]
    answers: dict[str, Future[None]] = admin.create_topics(
        wanted, operation_timeout=timeout_s, request_timeout=timeout_s
    )
    return [_made(admin, topic, answers[topic.name]) for topic in topics]


def known_topics(endpoint: Endpoint) -> dict[str, int]:
    """Return every visible topic with its number of partitions.

    Raises SourceError when no broker answers in time.
    """
    admin, notes = watched_admin(endpoint)
    known = retried(admin, notes, partial(_everything, admin)).topics
    return {name: len(topic.partitions) for name, topic in known.items()}


def look_at(endpoint: Endpoint, names: Sequence[str]) -> list[Seen]:
    """Return the state of these topics on the broker.

    A topic that the list of all lacks is asked for by name. Raises SourceError when no broker answers in time.
    """
    notes = ClientLog("observer", endpoint)
    consumer = Consumer(  # only a consumer can ask for a topic by name without auto-creating it
        {**client_options(endpoint), "group.id": "earlybird-observer", "logger": notes}
        | {"error_cb": notes.error, "allow.auto.create.topics": False}
    )
    known = retried(consumer, notes, lambda try_s: consumer.list_topics(timeout=try_s)).topics
    seen = []
    for name in names:
        topic = known.get(name) or retried(consumer, notes, partial(_named, consumer, name))
        seen.append(_seen(name, topic))
    consumer.close()
    return seen


def admin_client(endpoint: Endpoint) -> AdminClient:
    """Return an admin client that logs like the others; raises SettingsError."""
    return watched_admin(endpoint)[0]


def watched_admin(endpoint: Endpoint) -> tuple[AdminClient, ClientLog]:
    """Return an admin client and its log, for `retried`; raises SettingsError."""
    notes = ClientLog("admin", endpoint)
    settings = client_options(endpoint)
    try:
        return AdminClient(settings, logger=notes, error_cb=notes.error), notes
    except KafkaException as error:
        raise SettingsError(f"Kafka options: {error.args[0].str()}") from None


def _everything(admin: AdminClient, timeout_s: float) -> ClusterMetadata:
    return admin.list_topics(timeout=timeout_s)


def _named(consumer: Consumer, name: str, timeout_s: float) -> TopicMetadata:
    known: TopicMetadata = consumer.list_topics(name, timeout=timeout_s).topics[name]
    return known


def _seen(name: str, topic: TopicMetadata) -> Seen:
    if topic.error is None:
        return Seen(name, "there", len(topic.partitions))
    if topic.error.code() in DENIED:
        return Seen(name, "hidden", 0)
    return Seen(name, "missing", 0)


def _made(admin: AdminClient, topic: Topic, answer: "Future[None]") -> Made:
    try:
        answer.result()
    except KafkaException as failure:
        error: KafkaError = failure.args[0]
        if error.code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise StreamError(f"topic {topic.name}: {error.name()}: {error.str()}") from None
        there = admin.list_topics(topic.name, timeout=REQUEST_TIMEOUT_S).topics[topic.name]
        return Made(topic, "exists", len(there.partitions))
    return Made(topic, "created", topic.partitions)
