"""Values in a schema registry's frame -> JSON, by confluent_kafka's deserialisers (extra `registry`).

The schema's type says how a value was written: JSON Schema or Avro. Its id stands in front of the value or in a header.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from earlybird.schemas.framing import unframed
from earlybird.schemas.signal import Signal
from earlybird.stream.adapters.schema_registry import URL, NotRegistered, Patience, open_client
from earlybird.stream.config.client_options import Endpoint, KafkaEndpoint
from earlybird.stream.errors import RegistryAway, SettingsError
from earlybird.stream.feeds.registry import FRAMED
from earlybird.stream.frames import UnreadableFrame
from earlybird.stream.ports import Record

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

HEADER = "__value_schema_id"
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_TURN_S = 0.1
_Key = tuple[str, int | str]  # topic, and id or GUID


class FramedValues:
    """A FrameReader on a registry. Not thread-safe."""

    def __init__(
        self,
        client: "SchemaRegistryClient",
        url: str = "",
        *,
        patient: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`patient`: `to_json` waits for a registry that is away."""
        from confluent_kafka.schema_registry import topic_subject_name_strategy
        from confluent_kafka.schema_registry.avro import AvroDeserializer

        self._patience, self._patient, self._close = Patience(url, monotonic), patient, client.close
        self._client = asked = _Asked(client, self._patience)
        self._read_avro = AvroDeserializer(asked, conf={"subject.name.strategy": topic_subject_name_strategy})
        self._schemas: dict[_Key, Schema] = {}
        self._tried: Record | None = None  # the record that was read last
        self._found: bytes | UnreadableFrame = b""  # and what it is

    @classmethod
    def of_options(cls, options: Mapping[str, Any], *, patient: bool) -> "FramedValues":
        """Open the registry that the Kafka options name. Raises SettingsError."""
        client = open_client(options)
        if client is None:
            raise SettingsError(f"kafka.options.{URL}: required by topics.raw with the format {FRAMED}; was none")
        return cls(client, str(options[URL]), patient=patient)

    @property
    def awaited(self) -> str:
        return self._patience.awaited

    def ready(self, record: Record) -> bool:
        """See FrameReader.ready. It reads the record, since Avro may refer to further schemas."""
        if record is self._tried:
            return True
        try:
            self._found = self._read(record)
        except RegistryAway:
            return False
        except UnreadableFrame as error:
            self._found = error
        self._tried = record
        return True

    def wait(self, record: Record, given_up: Callable[[], bool] = lambda: False) -> None:
        """Wait until the record is `ready`, or given up."""
        while not self.ready(record) and not given_up():
            time.sleep(_TURN_S)

    def to_json(self, record: Record) -> bytes:
        if self._patient:
            self.wait(record)
        if not self.ready(record):
            raise RegistryAway(self.awaited)
        if isinstance(self._found, UnreadableFrame):
            raise self._found
        return self._found

    def close(self) -> None:
        """Close the connection to the registry."""
        self._close()

    def name(self, record: Record) -> str:
        """Return the full name of the record's Avro schema; empty for another kind of value."""
        schema = self._schema(record)
        if schema is None or schema.schema_type != "AVRO":
            return ""
        content = json.loads(schema.schema_str or "null")
        return f"{content.get('namespace')}.{content.get('name')}" if isinstance(content, dict) else ""

    def _read(self, record: Record) -> bytes:
        value, schema = record.value or b"", self._schema(record)
        if schema is None:
            return value
        if schema.schema_type == "JSON":
            return unframed(value)
        if schema.schema_type != "AVRO":
            raise UnreadableFrame(f"schema: of type JSON or AVRO required, was {schema.schema_type}")
        try:
            content = self._read_avro(value, _context(record))
            return json.dumps(content, default=_plain, ensure_ascii=False).encode()
        except RegistryAway:
            raise
        except Exception as error:  # of many types, as of any bytes that a schema does not describe
            raise UnreadableFrame(f"Avro: {type(error).__name__}: {error}") from None

    def _schema(self, record: Record) -> "Schema | None":
        """Return the schema of a value, None without a frame; raises RegistryAway, UnreadableFrame."""
        if (key := _key(record)) is None:
            return None
        if (known := self._schemas.get(key)) is not None:
            return known
        topic, number = key
        subject = f"{topic}-value"
        try:
            by_id = isinstance(number, int)
            found = self._client.get_schema(number, subject) if by_id else self._client.get_schema_by_guid(number)
        except NotRegistered as error:
            raise UnreadableFrame(f"schema id {number}: {error}") from None
        schema: Schema = self._schemas.setdefault(key, found)
        return schema


class _Asked:
    """A client each of whose answers is asked for with patience."""

    def __init__(self, client: "SchemaRegistryClient", patience: Patience) -> None:
        self._client, self._patience = client, patience

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return lambda *words, **more: self._patience.ask(partial(method, *words, **more))


class SignalValues:
    """Reader of signals in any of their formats: returns each record with plain JSON.

    Records of other messages, and what cannot be read, stay as they are. Waits for a registry that is away.
    """

    def __init__(self, values: FramedValues | None, given_up: Callable[[], bool] = lambda: False) -> None:
        """`values`: None without a registry. `given_up`: whether to wait no longer."""
        self._values, self._given_up = values, given_up

    @classmethod
    def of(cls, endpoint: Endpoint, given_up: Callable[[], bool] = lambda: False) -> "SignalValues":
        """Open the registry that the endpoint's options name, if they do. Raises SettingsError."""
        options = KafkaEndpoint.of(endpoint).options
        return cls(FramedValues.of_options(options, patient=False) if URL in options else None, given_up)

    def close(self) -> None:
        """Close the connection to the registry."""
        if self._values is not None:
            self._values.close()

    def plain(self, record: Record) -> Record:
        """Return the record, with JSON if it is a signal in Avro."""
        value = record.value
        # Most values are JSON, in a frame or without one, and need no registry.
        if self._values is None or not value or value[:1] == b"{" or value[5:6] == b"{":
            return record
        self._values.wait(record, self._given_up)
        try:
            ours = self._values.name(record) == f"earlybird.{Signal.__name__}"
            return replace(record, value=self._values.to_json(record)) if ours else record
        except (UnreadableFrame, RegistryAway):
            return record


def framed_topics(
    formats: Mapping[str, str], options: Mapping[str, Any], *, patient: bool = False
) -> tuple[frozenset[str], FramedValues | None]:
    """Return the raw topics in a registry's frame, and the reader of their values.

    `formats`: by topic. Raises SettingsError for options that cannot work.
    """
    topics = frozenset(topic for topic, name in formats.items() if name == FRAMED)
    return topics, FramedValues.of_options(options, patient=patient) if topics else None


def _key(record: Record) -> _Key | None:
    from confluent_kafka.schema_registry import dual_schema_id_deserializer
    from confluent_kafka.schema_registry.serde import SchemaId

    value = record.value or b""
    if not value.startswith(b"\0") and not any(name == HEADER for name, _ in record.headers):
        return None
    found = SchemaId("JSON")
    try:
        dual_schema_id_deserializer(value, _context(record), found)
    except Exception as error:  # theirs, and struct.error of a short value
        raise UnreadableFrame(f"frame: {error}") from None
    return record.topic, str(found.guid) if found.id is None else found.id


def _context(record: Record) -> Any:
    from confluent_kafka.serialization import MessageField, SerializationContext

    return SerializationContext(record.topic, MessageField.VALUE, list(record.headers))


def _plain(value: object) -> object:
    """Return what JSON has no type for as one that it has.

    An instant becomes epoch microseconds, bytes text, a decimal a number.
    """
    if isinstance(value, datetime):
        return (value - _EPOCH) // _EPOCH.resolution
    if isinstance(value, bytes):
        return value.decode()
    return float(value)  # type: ignore[arg-type]
