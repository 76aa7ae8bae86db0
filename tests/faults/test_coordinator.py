"""The broker dies that coordinates the group, between outcomes and the offsets of their transaction."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from earlybird.stream.adapters.clients import call_with_timeout
from earlybird.stream.adapters.kafka_transactions import KafkaTransactions
from earlybird.stream.adapters.topics import Topic, create_topics
from earlybird.stream.config.client_options import KafkaEndpoint
from earlybird.stream.ports import Outgoing

pytestmark = [pytest.mark.faults, pytest.mark.broker, pytest.mark.timeout(300)]

PATIENCE_S = 60.0


def test_a_commit_is_given_up_while_the_coordinator_is_away(new_kafka: Callable[..., Any]) -> None:
    """librdkafka's call waits until it is back, whatever its time-out (issue 5456); a new client looks for another."""
    kafka = new_kafka()
    create_topics(kafka.bootstrap_servers, [Topic("raw", 1, 1), Topic("signals", 1, 1)])
    member = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "group", "log_level": 0})
    sink = KafkaTransactions(
        KafkaEndpoint(kafka.bootstrap_servers, {"transaction.timeout.ms": 2_000}), "one", interval_ms=0
    )
    sink.send(Outgoing("signals", b"k", b"v"), "receipt")
    deadline = time.monotonic() + PATIENCE_S
    while not sink.settled:
        assert time.monotonic() < deadline, "never came"
        sink.receipts(50)
        sink.hold()
    kafka.kill()
    offsets = [TopicPartition("raw", 0, 1)], member.consumer_group_metadata()
    assert not call_with_timeout(PATIENCE_S, lambda: sink.commit(offsets))
    member.close()
