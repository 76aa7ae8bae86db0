"""The topic of a replay: made for it, dated by its sender, kept for ever."""

from collections.abc import Iterator, Mapping

from stream.adapters.kafka_sink import KafkaSink
from stream.adapters.retention import deletes_by_record_time
from stream.adapters.topic_range import TopicHistory
from stream.adapters.topics import Topic, admin_client, create_topics
from stream.errors import SettingsError
from stream.history.timeline import Window

_ANSWER_S = 10.0
_Options = Mapping[str, str | int | float | bool]


def open_topic(bootstrap_servers: str, topic: str, options: _Options | None = None) -> KafkaSink:
    """A sink whose topic is there; one that is not is made with a single partition, so that its order is the replay's.
    Raises SettingsError for a topic that would delete history for its age."""
    known = admin_client(bootstrap_servers, options).list_topics(timeout=_ANSWER_S).topics
    if topic not in known:
        made = Topic(topic, 1, -1, {"message.timestamp.type": "CreateTime", "retention.ms": "-1"})
        create_topics(bootstrap_servers, [made], options=options)
    elif deletes_by_record_time(bootstrap_servers, [topic], options)[topic]:
        raise SettingsError(f"--topic: {topic} deletes records by age; set retention.ms=-1 on it, or name another")
    return KafkaSink(bootstrap_servers, options=options)


def published_ids(bootstrap_servers: str, topic: str, run_id: str, options: _Options | None = None) -> Iterator[str]:
    """The ids of the signals that a run has published there already."""
    history = TopicHistory(bootstrap_servers, options)
    for rows in history.read(history.spans([topic], Window()), Window()):
        for stamped in rows:
            headers = dict(stamped.record.headers)
            if headers.get("run") == run_id.encode():
                yield (headers.get("signal-id") or b"").decode()
