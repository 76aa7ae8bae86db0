"""Messages in the frames of a schema registry, made by confluent_kafka's own serialisers on their mock registry."""

import json
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, header_schema_id_serializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from hypothesis import given
from hypothesis import strategies as st

from earlybird.schemas import release
from earlybird.schemas.codec import decode
from earlybird.schemas.framing import unframed
from earlybird.schemas.raw import RawNews

NEWS: dict[str, Any] = {
    "item_key": "wire:1",
    "source": "wire",
    "source_item_id": "1",
    "item_type": "news",
    "ingested_us": 1_770_000_000_000_000,
    "headline": "Acme wins",
}


def framed(value: dict[str, Any], **options: Any) -> tuple[bytes, list[Any]]:
    """The value as their serialiser writes it under our released schema, and the headers."""
    registry = SchemaRegistryClient.new_client({"url": "mock://test"})
    write = JSONSerializer(Schema(release.released("raw-news-1.1"), "JSON"), registry, conf=options)
    headers: list[Any] = []
    content = write(value, SerializationContext("news.raw", MessageField.VALUE, headers))
    assert registry.get_subjects() == ["news.raw-value"] and content is not None
    return content, headers


def test_what_their_serialiser_writes_is_read() -> None:
    """With the id before the message, which the released schema has validated."""
    content, _ = framed(NEWS)
    assert content[:1] == b"\0" and json.loads(content[5:]) == NEWS
    assert decode(RawNews, content) == decode(RawNews, json.dumps(NEWS).encode())


def test_an_id_in_a_header_frames_nothing() -> None:
    """Serialisers may put the schema's id into a header; then the value is plain JSON."""
    content, headers = framed(NEWS, **{"schema.id.serializer": header_schema_id_serializer})
    assert json.loads(content) == NEWS and headers


def test_their_serialiser_refuses_what_we_refuse() -> None:
    """The released schema is one that their validation understands."""
    with pytest.raises(Exception, match="ingested_us"):
        framed({name: value for name, value in NEWS.items() if name != "ingested_us"})


@given(st.binary())
def test_only_a_frame_is_taken_off(value: bytes) -> None:
    """And once: a message in a frame may be anything."""
    assert unframed(b"\0\0\0\0\7" + value) == value
    assert unframed(value) == (value[5:] if value[:1] == b"\0" and len(value) >= 5 else value)
