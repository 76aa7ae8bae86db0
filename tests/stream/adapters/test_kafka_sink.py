"""The sink's look for its topics: no cause is silent, on a client that answers as a test tells it."""

from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ClusterMetadata, TopicMetadata
from structlog.testing import capture_logs

from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.errors import SinkError

Answer = Callable[[], ClusterMetadata]


class Client:
    """A Producer that has nothing to deliver."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def list_topics(self, *, timeout: float) -> ClusterMetadata:
        return self._answer()

    def poll(self, timeout_s: float) -> int:
        return 0


@pytest.fixture
def sink_on(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], KafkaSink]:
    """A sink that writes to `signals`."""

    def make(answer: Answer) -> KafkaSink:
        monkeypatch.setattr("earlybird.stream.adapters.kafka_sink.Producer", lambda _: Client(answer))
        return KafkaSink("nowhere:1", topics=["signals"])

    return make


def knows(code: int | None) -> Answer:
    """A broker that lists `signals`, with this against it."""
    topic = TopicMetadata()
    topic.topic, topic.error = "signals", None if code is None else KafkaError(code)

    def answer() -> ClusterMetadata:
        cluster = ClusterMetadata()
        cluster.topics = {"signals": topic}
        return cluster

    return answer


def fails(code: int) -> Answer:
    """No answer, for this reason."""

    def answer() -> ClusterMetadata:
        raise KafkaException(KafkaError(code))

    return answer


def test_a_topic_that_is_there_is_not_awaited(sink_on: Callable[[Answer], KafkaSink]) -> None:
    """From the first look on."""
    sink = sink_on(knows(None))
    before, receipts, after = sink.awaited, sink.receipts(), sink.awaited
    assert (before, receipts, after) == (("signals",), [], ())


@pytest.mark.parametrize(
    ("answer", "event"),
    [
        (ClusterMetadata, "topic.awaited"),
        (knows(KafkaError.LEADER_NOT_AVAILABLE), "topic.awaited"),
        (knows(KafkaError.INVALID_REPLICATION_FACTOR), "topic.awaited"),
        (fails(KafkaError._TIMED_OUT), "client.error"),
        (fails(KafkaError._TRANSPORT), "broker.awaited"),
    ],
)
def test_whatever_keeps_a_topic_from_us_is_said(
    sink_on: Callable[[Answer], KafkaSink], answer: Answer, event: str
) -> None:
    """A stage that is not ready for a reason that nobody is told is a riddle."""
    sink = sink_on(answer)
    with capture_logs() as lines:
        assert sink.receipts() == [] and sink.awaited == ("signals",)
    assert [(line["event"], bool(line["reason"])) for line in lines] == [(event, True)]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (knows(KafkaError.TOPIC_AUTHORIZATION_FAILED), "signals: TOPIC_AUTHORIZATION_FAILED"),
        (fails(KafkaError.CLUSTER_AUTHORIZATION_FAILED), "CLUSTER_AUTHORIZATION_FAILED"),
    ],
)
def test_a_refusal_is_final(sink_on: Callable[[Answer], KafkaSink], answer: Answer, reason: str) -> None:
    """As it is for a record: waiting mends no permission."""
    with pytest.raises(SinkError, match=reason):
        sink_on(answer).receipts()
