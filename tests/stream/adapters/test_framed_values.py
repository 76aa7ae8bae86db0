"""Values in a registry's frame, by confluent_kafka's serialisers on their mock registry."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from confluent_kafka.schema_registry import (
    Schema,
    SchemaRegistryClient,
    header_schema_id_serializer,
    topic_subject_name_strategy,
)
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from hypothesis import given
from hypothesis import strategies as st

from earlybird.schemas import release
from earlybird.schemas.codec import DecodeError, decode
from earlybird.schemas.raw import RawNews
from earlybird.schemas.signal import Signal
from earlybird.stream.adapters.framed_values import FramedValues, SignalValues
from earlybird.stream.adapters.schema_registry import URL, open_client, registry_faults
from earlybird.stream.adapters.signal_framing import SignalFraming
from earlybird.stream.errors import RegistryAway, SettingsError
from earlybird.stream.frames import UnreadableFrame
from earlybird.stream.ports import Record

MICROS = {"type": "long", "logicalType": "timestamp-micros"}
ITEM = {
    "type": "record",
    "name": "Item",
    "namespace": "house",
    "fields": [
        *({"name": name, "type": "string"} for name in ("item_key", "source", "source_item_id", "item_type")),
        {"name": "ingested_us", "type": MICROS},
        {"name": "headline", "type": ["null", "bytes"]},
        {"name": "relevance", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}},
    ],
}
AT = datetime(2026, 1, 5, 14, 30, 0, 123456, tzinfo=UTC)
NEWS: dict[str, Any] = {
    "item_key": "wire:1",
    "source": "wire",
    "source_item_id": "1",
    "item_type": "news",
    "ingested_us": AT,
    "headline": b"Norvex lifts its outlook",
    "relevance": Decimal("0.75"),
}


class Seconds:
    """A clock to set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def client() -> SchemaRegistryClient:
    return SchemaRegistryClient.new_client({"url": "mock://test"})


def written(client: SchemaRegistryClient, value: Any, schema: Any = ITEM, **options: Any) -> Record:
    """A record as their Avro serialiser writes it."""
    options |= {"subject.name.strategy": topic_subject_name_strategy}
    headers: list[Any] = []
    write = AvroSerializer(client, json.dumps(schema), conf=options)
    content = write(value, SerializationContext("news.raw", MessageField.VALUE, headers))
    return Record("news.raw", 0, 0, None, content, headers=tuple(headers))


@pytest.mark.parametrize("options", [{}, {"schema.id.serializer": header_schema_id_serializer}])
def test_an_item_in_avro_is_read(client: SchemaRegistryClient, options: dict[str, Any]) -> None:
    """By its writer's schema, with its instants as microseconds; the id stands before it or in a header."""
    values, record = FramedValues(client), written(client, NEWS, **options)
    assert (values.ready(record) and (record.value or b"")[:1] == (b"" if options else b"\0")) or options
    content = values.to_json(record)
    item = decode(RawNews, content)
    assert (item.ingested_us, item.headline) == (1767623400123456, "Norvex lifts its outlook")
    assert json.loads(content)["relevance"] == 0.75


def test_json_in_a_frame_is_read_if_its_schema_is_known(client: SchemaRegistryClient) -> None:
    """And plain JSON as it is, without a question to the registry."""
    write = JSONSerializer('{"title": "Any", "type": "object"}', client)
    framed = write({"a": 1}, SerializationContext("news.raw", MessageField.VALUE))
    values = FramedValues(client)
    assert json.loads(values.to_json(Record("news.raw", 0, 0, None, framed))) == {"a": 1}
    plain = Record("news.raw", 0, 0, None, b'{"a": 1}')
    assert values.ready(plain) and values.to_json(plain) == b'{"a": 1}'


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\0\0\0\0\x63{}", "schema id 99: Schema Not Found"),
        (b"\0\0\0", "frame: "),
        (b"\0", "frame: "),
        (b"\0\0\0\0\1", "Avro: "),
        (b"\0\0\0\0\1\xff\xff\xff\xff\xff\xff\xff\x7f", "Avro: "),
        (b"\0\0\0\0\1\x02\xff", "Avro: "),
        (b"\0\0\0\0\2\0", "schema: of type JSON or AVRO required, was PROTOBUF"),
    ],
)
def test_what_its_schema_does_not_describe_is_refused(client: SchemaRegistryClient, value: bytes, reason: str) -> None:
    """With the reason; the registry has answered."""
    client.register_schema("news.raw-value", Schema(json.dumps(ITEM), "AVRO"))
    client.register_schema("other-value", Schema("message A {}", "PROTOBUF"))
    values, record = FramedValues(client), Record("news.raw", 0, 0, None, value)
    assert values.ready(record)
    with pytest.raises(UnreadableFrame, match=reason):
        values.to_json(record)
    assert not values.awaited


@pytest.fixture(scope="module")
def known() -> FramedValues:
    """Two Avro schemas, with the ids 1 and 2."""
    client = SchemaRegistryClient.new_client({"url": "mock://test"})
    for schema in (json.dumps(ITEM), release.released("signal-1.3", "avsc")):
        client.register_schema("news.raw-value", Schema(schema, "AVRO"))
    return FramedValues(client)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\0\0\0\0\1", b"\0\0\0\0\2", b"\0\0\0\0\3"]))
def test_any_bytes_are_json_or_refused(known: FramedValues, content: bytes, frame: bytes) -> None:
    """Never an error of another type."""
    record = Record("news.raw", 0, 0, None, frame + content)
    try:
        found = known.to_json(record)
    except UnreadableFrame:
        return
    assert found == content if not frame else json.loads(found) is not None


class Away:
    """The client of a registry that is away while it has an error; it caches nothing."""

    def __init__(self, client: SchemaRegistryClient, error: Exception | None) -> None:
        self.client, self.error, self.asked = client, error, 0

    def __getattr__(self, name: str) -> Any:
        def ask(*words: Any, **more: Any) -> Any:
            self.asked += 1
            if self.error is not None:
                raise self.error
            return getattr(self.client, name)(*words, **more)

        return ask


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("refused"),
        SchemaRegistryError(503, 50003, "leader not known"),
        SchemaRegistryError(401, 40101, "who are you"),
        SchemaRegistryError(404, -1, "a page of a proxy"),
        ValueError("no JSON"),
    ],
)
def test_a_registry_that_is_away_is_waited_for(client: SchemaRegistryClient, error: Exception) -> None:
    """Asked once a second, shown meanwhile; what it once told is not asked again."""
    record, seconds = written(client, NEWS), Seconds()
    away: Any = Away(client, error)
    values = FramedValues(away, monotonic=seconds)
    assert [values.ready(record) for _ in range(5)] == [False] * 5 and away.asked == 1
    assert values.awaited == "schema registry"
    with pytest.raises(RegistryAway):
        values.to_json(record)
    seconds.now, away.error = 1.1, None
    assert values.ready(record) and not values.awaited and away.asked >= 2
    assert values.to_json(record)
    # A client that has forgotten the schema is asked again by the deserialiser: no fault of the record.
    away.error = error
    again = replace(record, offset=1)
    assert not values.ready(again) and values.to_json(record)


SIGNALS: list[dict[str, Any]] = [
    {
        "signal_id": "s1",
        "item_key": "wire:1",
        "revision": 3,
        "action": "new",
        "source": "wire",
        "item_type": "news",
        "symbols": [{"symbol": "NRVX", "origin": "provider", "relevance": 0.5}],
        "label": "positive",
        "probs": {"negative": 0.1, "neutral": 0.2, "positive": 0.7},
        "score": 0.6,
        "confidence": 0.7,
        "calibrated": True,
        "exit": {"layer": 3, "max_layers": 12, "reason": "confidence", "puzzlement": 0.25},
        "input": {"n_tokens": 12, "truncated": False, "text_sha256": "a" * 64},
        "novelty": {"cache_hit": False},
    },
    {
        "signal_id": "s2",
        "item_key": "wire:1",
        "revision": 4,
        "action": "retract",
        "refused": "update",
        "source": "wire",
    },
]
MODEL = {
    "id": "m", "sha256": "b" * 64, "profile": "natural-v1", "policy": "full", "config_hash": "c", "numerics": "n",
    "dtype": "float32", "device": "cpu", "code_version": "0",
}  # fmt: skip
TIMES = dict.fromkeys(("ingested_us", "consumed_us", "emitted_us"), 1770000000000000)


def signals() -> list[Signal]:
    rest = {"model": MODEL, "digest": "d", "raw": {"topic": "news.raw", "partition": 0, "offset": 7}, "ts": TIMES}
    return [Signal.model_validate_json(json.dumps(fields | rest)) for fields in SIGNALS]


@pytest.mark.parametrize(("wanted", "kind", "suffix"), [("json-schema", "JSON", "json"), ("avro", "AVRO", "avsc")])
def test_a_signal_comes_back_as_it_was(client: SchemaRegistryClient, wanted: Any, kind: Any, suffix: Any) -> None:
    """Once its schema is registered, which is waited for and not done by the stage."""
    seconds = Seconds()
    framing = SignalFraming(client, "signals", wanted, monotonic=seconds)
    assert not framing.ready() and framing.awaited == "schema signals-value" and client.get_subjects() == []
    client.register_schema("signals-value", Schema(release.latest(Signal, suffix), kind))
    seconds.now = 1.1
    assert framing.ready() and not framing.awaited
    reader = SignalValues(FramedValues(client))
    for signal in signals():
        content = framing.framed(signal.model_dump_json().encode())
        assert content[:5] == b"\0\0\0\0\1" and (content[5:6] == b"{") == (wanted == "json-schema")
        record = Record("signals", 0, 0, None, content)
        assert decode(Signal, reader.plain(record).value or b"") == signal
        without = SignalValues(None).plain(record).value or b""
        if wanted == "json-schema":
            assert decode(Signal, without) == signal
        else:
            with pytest.raises(DecodeError, match="in a schema registry's frame, and not JSON"):
                decode(Signal, without)


def test_records_of_others_stay_as_they_are(client: SchemaRegistryClient) -> None:
    """A house's item in Avro is no signal, and an unknown schema is left to the decoder."""
    reader = SignalValues(FramedValues(client))
    unknown = Record("signals", 0, 0, None, b"\0\0\0\0\x63\6new")
    for record in (written(client, NEWS), unknown, Record("signals", 0, 0, None, None)):
        assert reader.plain(record) is record


@pytest.mark.parametrize(
    ("options", "needed", "fault"),
    [
        (
            {},
            "topics.signals_format: avro",
            "kafka.options.schema.registry.url: required by topics.signals_format: avro",
        ),
        ({URL: "registry:8081"}, "", "kafka.options.schema.registry.*"),
        ({URL: "http://registry", "schema.registry.misspelt": "1"}, "", "misspelt"),
        ({URL: "https://registry", "schema.registry.ssl.ca.location": "/nope"}, "", "kafka.options.schema.registry.*"),
    ],
)
def test_options_that_cannot_work_are_named(options: dict[str, str], needed: str, fault: str) -> None:
    """Before anything is asked."""
    (found,) = registry_faults(options, needed)
    assert fault in found
    if options:
        with pytest.raises(SettingsError):
            open_client(options)


def test_options_without_a_registry_need_none() -> None:
    assert registry_faults({}) == [] and open_client({}) is None
