"""Topics: made once, by hand or by deployment; the stage itself never makes one."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata, NewTopic  # type: ignore[attr-defined]

from stream.adapters.clients import DENIED, QUIET_S, ClientLog
from stream.adapters.options import client_options
from stream.errors import SettingsError, StreamError
from stream.logs import get_logger

log = get_logger(__name__)

ANSWER_S = 2.0


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it should be."""

    name: str
    partitions: int = 1
    replication: int = 1
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """What became of one topic. `partitions` is what the broker has: an existing topic is never changed."""

    topic: Topic
    outcome: Literal["created", "exists"]
    partitions: int


def stage_topics(
    raw: Sequence[str], signals: str, control: str, dead_letters: str, *, partitions: int, replication: int
) -> list[Topic]:
    """The topics of one stage. `signals` carries the broker's append time, so that latency is measured on one clock;
    raw topics keep the feed's. Heartbeats need one partition and a day."""
    return [
        *(Topic(name, partitions, replication) for name in raw),
        Topic(signals, partitions, replication, {"message.timestamp.type": "LogAppendTime"}),
        Topic(control, 1, replication, {"retention.ms": "86400000"}),
        Topic(dead_letters, partitions, replication),
    ]


def create_topics(
    bootstrap_servers: str,
    topics: Sequence[Topic],
    *,
    options: Mapping[str, str | int | float | bool] | None = None,
    timeout_s: float = 30.0,
) -> list[Made]:
    """Create what is not there; says of each what became of it. Raises StreamError with the broker's reason, or when
    none has answered after `timeout_s`."""
    admin = admin_client(bootstrap_servers, options)
    wait_for_broker(admin, bootstrap_servers, timeout_s)
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


def known_topics(
    bootstrap_servers: str,
    options: Mapping[str, str | int | float | bool] | None = None,
    *,
    timeout_s: float = 10.0,
) -> dict[str, int]:
    """Every topic there is, with the number of its partitions. Raises StreamError when no broker answers in time."""
    known = wait_for_broker(admin_client(bootstrap_servers, options), bootstrap_servers, timeout_s).topics
    return {name: len(topic.partitions) for name, topic in known.items()}


def admin_client(bootstrap_servers: str, options: Mapping[str, str | int | float | bool] | None = None) -> AdminClient:
    """An admin client that logs as the others do. Raises SettingsError."""
    notes = ClientLog("admin", bootstrap_servers)
    settings = client_options(bootstrap_servers, options or {})
    try:
        return AdminClient(settings, logger=notes, error_cb=notes.error)
    except KafkaException as error:
        raise SettingsError(f"Kafka options: {error.args[0].str()}") from None


def wait_for_broker(
    admin: AdminClient, bootstrap_servers: str, timeout_s: float, monotonic: Callable[[], float] = time.monotonic
) -> ClusterMetadata:
    """What a broker knows, once one answers; says that it waits about each ten seconds. Raises StreamError when the
    broker refuses us, or when none has answered in time."""
    tries, give_up_at = 0, monotonic() + timeout_s
    while True:
        try:
            return admin.list_topics(timeout=min(ANSWER_S, timeout_s))
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
        admin.poll(0)
        if error.code() in DENIED or monotonic() >= give_up_at:
            raise StreamError(f"no Kafka at {bootstrap_servers}: {error.str()}")
        if tries % (QUIET_S // ANSWER_S) == 0:
            log.warning("broker.awaited", client="admin", brokers=bootstrap_servers, reason=error.str())
        tries += 1


def _made(admin: AdminClient, topic: Topic, answer: "Future[None]") -> Made:
    try:
        answer.result()
    except KafkaException as failure:
        error: KafkaError = failure.args[0]
        if error.code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise StreamError(f"topic {topic.name}: {error.name()}: {error.str()}") from None
        there = admin.list_topics(topic.name, timeout=ANSWER_S * 5).topics[topic.name]
        return Made(topic, "exists", len(there.partitions))
    return Made(topic, "created", topic.partitions)
