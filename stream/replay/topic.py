"""Output and control topics of a replay, and the announcement of its end.

Signals carry their sender's time and are kept for ever.
"""

import time
from collections.abc import Iterator

from earlybird.schemas.codec import encode
from earlybird.schemas.control import ReplayComplete, TopicEnd
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.retention import deletes_by_record_time
from earlybird.stream.adapters.topic_range import TopicHistory
from earlybird.stream.adapters.topics import Topic, create_topics, known_topics
from earlybird.stream.config.client_options import Endpoint
from earlybird.stream.errors import SettingsError
from earlybird.stream.ports import Outgoing
from earlybird.stream.replay.outputs import ReplaySummary
from earlybird.stream.timeline.merge import Window


def refuse_used(endpoint: Endpoint, topic: str) -> None:
    """Raise SettingsError where `topic` or its control topic holds records.

    A reader would get two replays.
    """
    known = known_topics(endpoint)
    there = [name for name in (topic, control_of(topic)) if name in known]
    spans = TopicHistory(endpoint).spans(there, Window())
    used = sorted({place.topic for place, span in spans.items() if span.start < span.end})
    if used:
        raise SettingsError(f"--topic: {used[0]} has records, a replay is there already; --resume it, or name another")


def open_topic(endpoint: Endpoint, topic: str) -> KafkaSink:
    """Return a sink for `topic`; create it and its control topic where missing.

    A created `topic` has a single partition, so that its order is the replay's. Raises SettingsError for an existing
    one that would delete history by age.
    """
    known = known_topics(endpoint)
    wanted = [
        Topic(topic, 1, -1, {"message.timestamp.type": "CreateTime", "retention.ms": "-1"}),
        Topic(control_of(topic), 1, -1),
    ]
    if missing := [each for each in wanted if each.name not in known]:
        create_topics(endpoint, missing)
    if topic in known and deletes_by_record_time(endpoint, [topic])[topic]:
        raise SettingsError(f"--topic: {topic} deletes records by age; set retention.ms=-1 on it, or name another")
    return KafkaSink(endpoint)


def control_of(topic: str) -> str:
    """Return the control topic that belongs to a replay's topic."""
    return f"{topic}.control"


def announce_end(endpoint: Endpoint, topic: str, run_id: str, summary: ReplaySummary) -> None:
    """Announce on the control topic that all signals of this run are published.

    On return the broker has the announcement.
    """
    spans = TopicHistory(endpoint).spans([topic], Window())
    complete = ReplayComplete(
        run_id=run_id,
        topic=topic,
        ends=tuple(TopicEnd(partition=place.number, offset=span.end) for place, span in spans.items()),
        signals=summary.signals,
        content_sha256=summary.content_sha256,
        sent_us=time.time_ns() // 1000,
    )
    sink = KafkaSink(endpoint)
    sink.send(Outgoing(control_of(topic), run_id.encode(), encode(complete), (("schema", complete.SCHEMA.encode()),)))
    while sink.unacknowledged():
        sink.receipts(200)
    sink.close()


def published_ids(endpoint: Endpoint, topic: str, run_id: str) -> Iterator[str]:
    """Yield the ids of signals that a run has already published there."""
    history = TopicHistory(endpoint)
    for rows in history.read(history.spans([topic], Window()), Window()):
        for stamped in rows:
            headers = dict(stamped.record.headers)
            if headers.get("run") == run_id.encode():
                yield (headers.get("signal-id") or b"").decode("utf-8", "replace")
