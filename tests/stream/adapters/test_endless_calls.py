"""A call of librdkafka that ignores its time-out."""

import threading

import pytest
from confluent_kafka import KafkaError, KafkaException

from earlybird.stream.adapters.clients import fatal
from earlybird.stream.adapters.endless_calls import end_within


def test_a_call_without_end_breaks_the_client() -> None:
    """Fatal, so that a new client takes its place."""
    never = threading.Event()

    def wait() -> None:
        never.wait()

    with pytest.raises(KafkaException, match="does not find the group's coordinator") as raised:
        end_within(0.01, wait)
    never.set()
    assert fatal(raised.value.args[0])


def test_an_answer_is_passed_on() -> None:
    """Success, and the broker's own refusal."""
    end_within(60, lambda: None)

    def refuse() -> None:
        raise KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))

    with pytest.raises(KafkaException) as raised:
        end_within(60, refuse)
    assert raised.value.args[0].code() == KafkaError.NOT_COORDINATOR and not fatal(raised.value.args[0])
