"""Signals in a schema registry's frame, by confluent_kafka's serialisers (extra `registry`)."""

import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from earlybird.schemas import release
from earlybird.schemas.signal import Signal
from earlybird.stream.adapters.schema_registry import URL, NotRegistered, Patience, SchemaType, open_client
from earlybird.stream.errors import RegistryAway, SettingsError
from earlybird.stream.observability.logging import get_logger

log = get_logger(__name__)

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

FramedFormat = Literal["json-schema", "avro"]
KINDS: Mapping[str, tuple[SchemaType, release.Kind]] = {"json-schema": ("JSON", "json"), "avro": ("AVRO", "avsc")}
"""Format of signals -> the registry's type of schema, and the suffix of our file."""


class SignalFraming:
    """A FrameWriter for signals.

    `ready` is the consumer thread's, `framed` the publisher's; the registry is asked by the first alone.
    """

    def __init__(
        self,
        client: "SchemaRegistryClient",
        topic: str,
        wanted: FramedFormat,
        url: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        from confluent_kafka.schema_registry import Schema
        from confluent_kafka.serialization import MessageField, SerializationContext

        kind, suffix = KINDS[wanted]
        self.topic = topic
        self._client, self._subject = client, f"{topic}-value"
        self._schema = Schema(release.latest(Signal, suffix), kind)
        self._serialize = _serializer(client, self._schema)
        self._context = SerializationContext(topic, MessageField.VALUE)
        self._patience, self._registered = Patience(url, monotonic), False

    @classmethod
    def of_options(cls, options: Mapping[str, Any], topic: str, wanted: str) -> "SignalFraming | None":
        """Open the registry that the Kafka options name; None for plain JSON. Raises SettingsError."""
        if wanted not in ("json-schema", "avro"):
            return None
        client = open_client(options)
        if client is None:
            raise SettingsError(f"kafka.options.{URL}: required by topics.signals_format {wanted}; was none")
        return cls(client, topic, wanted, str(options[URL]))  # type: ignore[arg-type]

    @property
    def awaited(self) -> str:
        return self._patience.awaited

    def ready(self) -> bool:
        """Return whether the registry has the schema.

        Asks at most once per second, and never again once it has.
        """
        if not self._registered:
            try:
                self._patience.ask(lambda: self._client.lookup_schema(self._subject, self._schema))
            except RegistryAway:
                return False
            except NotRegistered as error:
                if self._patience.wait(f"schema {self._subject}"):
                    hint = "earlybird topics create --register"
                    log.warning("schema.awaited", subject=self._subject, reason=str(error), hint=hint)
                return False
            self._registered = True
        return True

    def close(self) -> None:
        self._client.close()

    def framed(self, value: bytes) -> bytes:
        framed: bytes = self._serialize(value, self._context)
        return framed


def _serializer(client: "SchemaRegistryClient", schema: "Schema") -> Any:
    """Return their serialiser of a signal's JSON, which looks the schema up and registers nothing."""
    from confluent_kafka.schema_registry import topic_subject_name_strategy
    from confluent_kafka.schema_registry.avro import AvroSerializer
    from confluent_kafka.schema_registry.json_schema import JSONSerializer

    options = {"auto.register.schemas": False, "subject.name.strategy": topic_subject_name_strategy}
    if schema.schema_type == "AVRO":
        return AvroSerializer(client, schema, lambda value, _: json.loads(value), options)
    # The value is JSON already, and what we build is valid: their check takes longer than everything else here.
    return JSONSerializer(schema, client, conf={**options, "validate": False}, json_encode=lambda value: value)
