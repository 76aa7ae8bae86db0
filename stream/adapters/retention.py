"""Timestamp type and retention of topics, as far as the broker reports them."""

import time
from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from earlybird.stream.adapters.clients import MISSING
from earlybird.stream.adapters.topics import watched_admin
from earlybird.stream.config.client_options import Endpoint
from earlybird.stream.errors import FeedError, StreamError

KEPT = {"retention.ms": "-1"}
"""Configuration of a topic that deletes no record for its age."""

_ANSWER_S = 3.0
_CHANGED_S = 30.0
_AGAIN_S = 0.1


def deletes_by_record_time(endpoint: Endpoint, topics: Sequence[str]) -> dict[str, bool | None]:
    """Return per topic whether retention deletes records by their sender's time.

    None where the broker does not report it (librdkafka's mock cluster has no topic administration). Raises
    FeedError for a topic that does not exist, SourceError where the broker refuses us.
    """
    return {
        name: None if config is None else _sender_dates(config) and _deletes_by_age(config)
        for name, config in _configs(endpoint, topics).items()
    }


def sender_dated(endpoint: Endpoint, topic: str) -> bool | None:
    """Return whether the topic's records carry the sender's time, not the broker's.

    None where the broker does not report it. Raises like deletes_by_record_time.
    """
    config = _configs(endpoint, [topic])[topic]
    return None if config is None else _sender_dates(config)


def keep_records(endpoint: Endpoint, topics: Sequence[str]) -> None:
    """Let existing topics delete no record for its age; all else of them stays.

    Raises StreamError with the broker's reason.
    """
    if not topics:
        return
    admin, _ = watched_admin(endpoint)
    kept = [ConfigEntry(*entry, incremental_operation=AlterConfigOpType.SET) for entry in KEPT.items()]
    resources = [ConfigResource(ResourceType.TOPIC, topic, incremental_configs=kept) for topic in topics]
    for resource, answer in admin.incremental_alter_configs(resources, request_timeout=_CHANGED_S).items():
        try:
            answer.result()
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
            reason = f"{error.name()}: {error.str()}"
            raise StreamError(f"topic {resource.name}: retention.ms stays as it was: {reason}") from None
    give_up_at = time.monotonic() + _CHANGED_S
    while any(map(_still_deletes, _configs(endpoint, topics).values())) and time.monotonic() < give_up_at:
        time.sleep(_AGAIN_S)  # a broker takes a change up a moment after it has agreed


def _configs(endpoint: Endpoint, topics: Sequence[str]) -> dict[str, Mapping[str, str] | None]:
    admin, notes = watched_admin(endpoint)
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
    answers = admin.describe_configs(resources, request_timeout=_ANSWER_S)
    found: dict[str, Mapping[str, str] | None] = {}
    for resource, answer in answers.items():
        try:
            found[resource.name] = {name: entry.value for name, entry in answer.result().items()}
        except KafkaException as error:
            fault: KafkaError = error.args[0]
            admin.poll(0)
            notes.raise_failure()
            if fault.code() in MISSING:
                raise FeedError(f"there is no topic {resource.name}: earlybird topics create") from None
            found[resource.name] = None
    return found


def _still_deletes(config: Mapping[str, str] | None) -> bool:
    return config is not None and _deletes_by_age(config)


def _sender_dates(config: Mapping[str, str]) -> bool:
    return config["message.timestamp.type"] == "CreateTime"


def _deletes_by_age(config: Mapping[str, str]) -> bool:
    return config["retention.ms"] != "-1" and "delete" in config["cleanup.policy"]
