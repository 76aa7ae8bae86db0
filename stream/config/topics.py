"""Settings of the topics: names, and the format of the raw ones."""

from typing import Literal, Self

from pydantic import Field, model_validator

from earlybird.stream.config.types import FormatName, Group, TopicName


class RawTopic(Group):
    """A raw topic to consume."""

    name: TopicName
    format: FormatName = "earlybird"


class Topics(Group):
    """Names of the topics."""

    raw: tuple[RawTopic, ...] = Field(
        default=(RawTopic(name="news.raw"), RawTopic(name="tweets.raw")),
        min_length=1,
        description="raw topics to consume, each with the format of its records: earlybird, "
        "schema-registry (ours in a registry's frame, as JSON or Avro), or a vendor's (alpaca, benzinga, ...)",
    )
    signals: TopicName = Field(default="signals", description="topic of the signals")
    signals_format: Literal["json", "json-schema", "avro"] = Field(
        default="json",
        description="json, or in a schema registry's frame: json-schema, avro; "
        "kafka.options.schema.registry.url names it",
    )
    control: TopicName = Field(default="signals.control", description="topic of the heartbeats")
    dlq: TopicName = Field(default="raw.dlq", description="topic of the dead letters")

    @model_validator(mode="after")
    def _no_topic_twice(self) -> Self:
        names = [topic.name for topic in self.raw] + [self.signals, self.control, self.dlq]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:  # a stage that reads its own output never ends
            raise ValueError(f"each topic has one use, used twice: {', '.join(repeated)}")
        return self
