"""How long topics keep back-dated records, as far as the broker tells."""

from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]

from stream.adapters.clients import MISSING
from stream.adapters.topics import admin_client
from stream.errors import FeedError

_ANSWER_S = 3.0


def deletes_by_record_time(
    bootstrap_servers: str, topics: Sequence[str], options: Mapping[str, str | int | float | bool] | None = None
) -> dict[str, bool | None]:
    """Per topic: whether it deletes records by the time their sender gave them. None where the broker does not say
    (librdkafka's mock cluster has no topic administration). Raises FeedError for a topic that does not exist."""
    admin = admin_client(bootstrap_servers, options)
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
    answers = admin.describe_configs(resources, request_timeout=_ANSWER_S)
    found: dict[str, bool | None] = {}
    for resource, answer in answers.items():
        try:
            entries = answer.result()
        except KafkaException as error:
            fault: KafkaError = error.args[0]
            if fault.code() in MISSING:
                raise FeedError(f"there is no topic {resource.name}: earlybird topics create") from None
            found[resource.name] = None
            continue
        kept_for_ever = entries["retention.ms"].value == "-1" or "delete" not in entries["cleanup.policy"].value
        sender_dates = entries["message.timestamp.type"].value == "CreateTime"
        found[resource.name] = sender_dates and not kept_for_ever
    return found
