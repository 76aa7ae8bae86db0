"""The continuous archive on a real broker."""

from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.topic_range import TopicHistory, TopicReader
from earlybird.stream.archive.layout import files_of
from earlybird.stream.archive.writer import Archiver, archive_on, starts
from earlybird.stream.ports import Outgoing
from earlybird.stream.timeline.merge import Window

pytest.importorskip("pyarrow")
pytestmark = pytest.mark.broker


def test_partitions_that_are_added_are_archived(
    real_broker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A topic that grows under a running archive loses nothing: new partitions are read from their first record."""
    monkeypatch.setattr("earlybird.stream.archive.writer.REFRESH_S", 0.2)
    topic, servers = real_broker.topic(), real_broker.bootstrap_servers
    real_broker.publish(topic, [b"before"])
    spans = starts({}, TopicHistory(servers).spans([topic], Window()))
    reader = TopicReader(servers, {place: span.start for place, span in spans.items()})
    admin = AdminClient({"bootstrap.servers": servers})
    for answer in admin.create_partitions([NewPartitions(topic, 4)]).values():
        answer.result()
    sink = KafkaSink(servers)
    for number in range(40):
        sink.send(Outgoing(topic, b"%d" % number, b"after"))
    real_broker.settle(sink)
    sink.close()
    with Archiver(tmp_path, []) as archiver:

        def complete() -> bool:
            archiver.flush()
            return archiver.archived == 41

        polls = iter(range(300))  # of 0.2 s
        archive_on(archiver, reader, 0.2, lambda: complete() or next(polls, None) is None)
        reader.close()
        assert archiver.archived == 41
    assert {file.partition.number for file in files_of(tmp_path, [topic])} == {0, 1, 2, 3}
