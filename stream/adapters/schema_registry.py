"""Registration of JSON Schemas in a schema registry, by confluent_kafka's client (extra `registry`)."""

from collections.abc import Sequence
from typing import NamedTuple

from earlybird.stream.errors import StreamError


class TopicSchema(NamedTuple):
    """A topic with the JSON Schema of its values."""

    topic: str
    schema: str
    ours: bool = False  # only we write to it


def register(url: str, schemas: Sequence[TopicSchema]) -> dict[str, int]:
    """Register the schemas as TOPIC-value; return the id of each subject.

    Subjects of our own messages are set to FORWARD first: a version adds optional fields, which readers of older ones
    ignore. A schema that is already registered keeps its id. Raises StreamError where the registry refuses or does not
    answer.
    """
    from confluent_kafka.schema_registry import (
        ConfigCompatibilityLevel,
        Schema,
        SchemaRegistryClient,
        ServerConfig,
    )

    ids: dict[str, int] = {}
    subject = ""
    try:
        with SchemaRegistryClient.new_client({"url": url}) as client:
            for topic, schema, ours in schemas:
                subject = f"{topic}-value"
                if ours:
                    client.set_config(subject, ServerConfig(compatibility=ConfigCompatibilityLevel.FORWARD))
                ids[subject] = client.register_schema(subject, Schema(schema, "JSON"))
    except Exception as error:  # theirs, and those of the HTTP client below
        raise StreamError(f"schema registry: {subject}: {type(error).__name__}: {error}") from error
    return ids
