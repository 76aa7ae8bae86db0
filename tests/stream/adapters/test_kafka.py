"""The Kafka source where only the client's order of events matters, so that a scripted client will do."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, Message, TopicPartition

from earlybird.stream.adapters import kafka
from earlybird.stream.adapters.clients import ClientLog
from earlybird.stream.adapters.kafka import KafkaSource
from earlybird.stream.adapters.offsets import Offsets
from earlybird.stream.ports import Commit, Partition

PLACE = Partition("news.raw", 0)


class Scripted:
    """A consumer with these messages."""

    def __init__(self, messages: list[Message]) -> None:
        self.messages = messages

    def poll(self, _timeout_s: float) -> Message | None:
        return self.messages.pop(0) if self.messages else None

    def consume(self, number: int, _timeout_s: float) -> list[Message]:
        taken, self.messages = self.messages[:number], self.messages[number:]
        return taken

    def consumer_group_metadata(self) -> bytes:
        return bytes(16)

    def __getattr__(self, _name: str) -> Any:
        return lambda *_args, **_named: None


class Told:
    """A listener that writes down what it is told."""

    def __init__(self) -> None:
        self.begun: list[object] = []

    def assigned(self, committed: object) -> None:
        self.begun.append(committed)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """scripted(messages) is a source that owns PLACE, and its listener."""

    def make(messages: list[Message]) -> tuple[KafkaSource, Told]:
        monkeypatch.setattr(kafka, "open_consumer", lambda *_: Scripted(messages))
        source, told = KafkaSource("localhost:1", [PLACE.topic], "group"), Told()
        source.subscribe(told)  # type: ignore[arg-type]
        source._starts[PLACE] = 100
        return source, told

    yield make


def message(offset: int, error: int | None = None) -> Message:
    fault = None if error is None else KafkaError(error)
    return Message(topic=PLACE.topic, partition=PLACE.number, offset=offset, value=b"text", error=fault)


def test_records_before_an_offset_out_of_range_belong_to_the_old_offsets(scripted: Any) -> None:
    """Told of the new beginning first, the stage would take them for its first records and refuse all lower ones."""
    cut = KafkaError._AUTO_OFFSET_RESET
    source, told = scripted([message(100), message(101), message(102, cut)])
    assert [record.offset for record in source.poll(0, 500)] == [100, 101]
    assert told.begun == []
    source.poll(0, 500)
    assert told.begun == [{PLACE: None}]
    assert source.out_of_range == 1


def test_an_answer_for_a_topic_that_is_gone_stores_nothing() -> None:
    """Taken for the new topic's, it would keep the same offset from being committed there."""
    sent: list[TopicPartition] = []
    client = SimpleNamespace(
        committed=lambda places, timeout: [TopicPartition(*PLACE, -1001)],  # noqa: ARG005
        commit=lambda offsets, asynchronous: sent.extend(offsets),  # noqa: ARG005
    )
    old, new = "A" * 21 + "B", "A" * 21 + "C"
    ids = SimpleNamespace(latest={}, fetch=lambda: {PLACE.topic: old})
    offsets = Offsets(client, ids, ClientLog("source", ""), 1.0)  # type: ignore[arg-type]
    offsets.begin([TopicPartition(*PLACE)], lambda: None)
    offsets.store({PLACE: Commit(50)}, wait=False, inside=False)
    ids.latest = {PLACE.topic: new}
    assert offsets.recreated_partitions() == [PLACE]
    offsets.answered(None, sent)
    offsets.store({PLACE: Commit(50)}, wait=False, inside=False)
    assert [place.metadata for place in sent] == [f"topic={old} ", f"topic={new} "]
