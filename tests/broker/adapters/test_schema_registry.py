"""A real Kafka and a real schema registry: what producers, the stage, every reader and outside consumers make of it."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import ConfigCompatibilityLevel as Level
from confluent_kafka.schema_registry import (
    Schema,
    SchemaRegistryClient,
    ServerConfig,
    record_subject_name_strategy,
    topic_subject_name_strategy,
)
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from apicurio import Apicurio
from earlybird.schemas import release
from earlybird.schemas.rejection import Rejection
from earlybird.schemas.signal import Signal
from earlybird.stream.adapters.schema_registry import URL, Compatibility, SchemaType, TopicSchema, register
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.client import Signals

pytestmark = pytest.mark.broker

PATIENCE_S = 150.0
NAMES = sorted(path.stem for path in release.FOLDER.glob("*.json"))
FAMILIES = sorted({name.partition("-1.")[0] for name in NAMES})
BY_TOPIC = {"subject.name.strategy": topic_subject_name_strategy}


@pytest.fixture
def client(registry: Apicurio) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": registry.url, "timeout": 20}) as client:
        yield client


def schema(name: str, kind: str) -> Schema:
    return Schema(release.released(name, "avsc" if kind == "AVRO" else "json"), kind)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_registry_takes_every_version_after_the_one_before(
    registry: Apicurio, client: SchemaRegistryClient, unique: Callable[[str], str], family: str
) -> None:
    """Readers of an older version ignore what a newer one adds (FORWARD); with Avro a newer reader reads all (FULL).

    A newer dead letter may have a reason that the older JSON Schema did not list.
    """
    versions = [name for name in NAMES if name.partition("-1.")[0] == family]
    compatibility: Compatibility = "NONE" if family == "rejection" else "FORWARD"
    kinds: tuple[SchemaType, ...] = ("JSON", "AVRO")
    for kind in kinds:
        topic = unique(family)
        for name in versions:
            text = schema(name, kind).schema_str or ""
            register({URL: registry.url}, [TopicSchema(topic, text, compatibility, kind)])
        different = {schema(name, kind).schema_str for name in versions}
        assert len(client.get_versions(f"{topic}-value")) == len(different)
    client.set_config(subject := unique(family), ServerConfig(compatibility=Level.FULL_TRANSITIVE))
    for name in versions:
        client.register_schema(subject, schema(name, "AVRO"))


@pytest.mark.parametrize("kind", ["JSON", "AVRO"])
def test_a_registry_refuses_what_would_break_a_reader(
    client: SchemaRegistryClient, unique: Callable[[str], str], kind: str
) -> None:
    """So that the test above can fail: a required field that goes away."""
    subject = unique("broken")
    client.set_config(subject, ServerConfig(compatibility=Level.FORWARD))
    client.register_schema(subject, schema("signal-1.3", kind))
    content = json.loads(release.released("signal-1.3", "avsc" if kind == "AVRO" else "json"))
    if kind == "AVRO":
        content["fields"] = [field for field in content["fields"] if field["name"] != "signal_id"]
    else:
        content["properties"]["signal_id"] = {"type": "integer"}
    with pytest.raises(SchemaRegistryError, match="ncompatib"):
        client.register_schema(subject, Schema(json.dumps(content), kind))


class Desk:
    """A stage's topics, its settings with a registry, and what producers write."""

    def __init__(
        self,
        kafka: Any,
        registry: Apicurio,
        client: SchemaRegistryClient,
        unique: Callable[[str], str],
        wanted: str,
    ) -> None:
        self.kafka, self.registry, self.client = kafka, registry, client
        self.raw, self.signals, self.dlq = unique("raw"), unique("signals"), unique("dlq")
        topics = {
            "raw": [{"name": self.raw, "format": "schema-registry"}],
            "signals": self.signals,
            "signals_format": wanted,
            "control": unique("control"),
            "dlq": self.dlq,
        }
        self.settings = {
            "TOPICS": json.dumps(topics),
            "GROUP": unique("group"),
            "KAFKA__OPTIONS__SCHEMA_REGISTRY_URL": registry.url,
            "VIEWS__GROUP": unique("views"),
            "VIEWS__TOPIC": unique("sentiment"),
        }
        self._context = SerializationContext(self.raw, MessageField.VALUE)

    def command(self, *words: str) -> str:
        names = {f"EARLYBIRD_{name}": value for name, value in self.settings.items()}
        names["EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS"] = self.kafka.bootstrap_servers
        command = [sys.executable, "-m", "earlybird.stream.cli", *words]
        ended = subprocess.run(command, env=os.environ | names, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def signals_live(self) -> Signals:
        brokers = self.kafka.bootstrap_servers
        return Signals.live(
            brokers, topic=self.signals, control_topic=None, start="beginning", options={URL: self.registry.url}
        )

    def produce(self, values: Iterator[bytes]) -> None:
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap_servers})
        for value in values:
            producer.produce(self.raw, value)
        assert producer.flush(30) == 0

    def avro(self, *items: dict[str, Any], extra: str = "extra") -> Iterator[bytes]:
        """Items as a house's own Avro, which has fewer fields than ours, and one more."""
        fields: list[dict[str, Any]] = [{"name": name, "type": "string"} for name in items[0] if name != "ingested_us"]
        fields += [{"name": "ingested_us", "type": {"type": "long", "logicalType": "timestamp-micros"}}]
        fields += [{"name": extra, "type": ["null", "string"], "default": None}]
        house = json.dumps({"type": "record", "name": "Item", "namespace": "house", "fields": fields})
        write = AvroSerializer(self.client, house, conf=BY_TOPIC)
        return (write(each, self._context) or b"" for each in items)

    def json(self, *items: dict[str, Any]) -> Iterator[bytes]:
        by_record = {"subject.name.strategy": record_subject_name_strategy}  # no registry mixes types in one subject
        write = JSONSerializer(Schema(release.released("raw-news-1.1"), "JSON"), self.client, conf=by_record)
        return (write(each, self._context) or b"" for each in items)


def item(number: int) -> dict[str, Any]:
    return {
        "item_key": f"wire:{number}", "source": "wire", "source_item_id": str(number), "item_type": "news",
        "lang": "en", "ingested_us": time.time_ns() // 1000, "headline": f"Norvex wins order number {number}",
    }  # fmt: skip


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def until(condition: Callable[[], object], told: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, told()
        time.sleep(0.1)


@pytest.fixture(params=["avro", "json-schema"])
def desk(
    request: pytest.FixtureRequest,
    kafka: Any,
    registry: Apicurio,
    client: SchemaRegistryClient,
    unique: Callable[[str], str],
) -> Desk:
    return Desk(kafka, registry, client, unique, request.param)


def test_framed_items_become_framed_signals_that_all_can_read(
    desk: Desk, start_stage: Callable[..., Any], tmp_path: Path
) -> None:
    """Schemas that are missing and a registry that is away are waited for; unknown ids and damage are dead letters.

    Replays of what was archived, and of the topic, give the same digests.
    """
    # 1. Nothing is registered yet: the stage serves, says what it waits for, and reads nothing.
    made = json.loads(desk.command("topics", "create", "--partitions", "1", "--json"))
    assert len(made["topics"]) == 4
    stage = start_stage(desk.kafka.bootstrap_servers, **desk.settings)
    health = stage.wait_for("service.started", PATIENCE_S)["health"]
    desk.produce(desk.avro(item(0), item(1)))
    waiting = f"schema {desk.signals}-value"
    until(lambda: waiting in get(f"{health}/readyz")[1], lambda: get(f"{health}/readyz"))
    assert get(f"{health}/readyz")[0] == 503 and get(f"{health}/healthz")[0] == 200
    # 2. It goes on by itself once they are, also after an upgrade from the first release.
    kind = "AVRO" if "avro" in desk.settings["TOPICS"] else "JSON"
    desk.client.register_schema(f"{desk.signals}-value", schema("signal-1.0", kind))
    desk.client.register_schema(f"{desk.dlq}-value", schema("rejection-1.0", "JSON"))
    desk.command("topics", "create", "--register")
    subject = desk.client.get_latest_version(f"{desk.signals}-value").schema
    assert subject.schema_type == kind and subject.schema_str is not None and "symbol_table" in subject.schema_str
    until(lambda: get(f"{health}/readyz")[0] == 200, lambda: get(f"{health}/readyz"))
    # 3. Other frames, plain JSON, and what cannot be read. The last has bytes of a schema that they are not.
    number = int.from_bytes(next(desk.avro(item(2)))[1:5], "big")
    bad = [b"\0\x7f\xff\xff\xff\2", b"\0" + number.to_bytes(4, "big") + b"\xff" * 8, b"\0\0"]
    desk.produce(iter([*desk.json(item(2)), json.dumps(item(3)).encode(), *bad, *desk.avro(item(4))]))
    metrics = f"{health}/metrics"
    until(lambda: 'earlybird_dlq_total{reason="malformed"} 3.0' in get(metrics)[1], stage.log.read_text)
    # 4. A registry that hangs: a new schema is waited for, what is known goes on until it comes.
    new = next(desk.avro(item(5), extra="unheard"))
    desk.registry.pause()
    try:
        desk.produce(iter([new]))
        until(lambda: "schema registry" in get(f"{health}/readyz")[1], lambda: get(f"{health}/readyz"))
        time.sleep(3)
        assert get(f"{health}/healthz")[0] == 200 and stage.process.poll() is None
    finally:
        desk.registry.resume()
    stage.wait_for("registry.back", PATIENCE_S)
    until(lambda: get(f"{health}/readyz")[0] == 200, lambda: get(f"{health}/readyz"))

    # Every reader: the client, audit, `signals`, the archive and its replay, the views.
    expected = [f"wire:{number}" for number in range(6)]
    with desk.signals_live() as signals:
        found = [next(signals) for _ in expected]
    assert sorted(received.item_key for received in found) == expected
    assert all(received.score is not None for received in found)
    audit = json.loads(desk.command("audit", "--json"))
    assert audit["missing"] == 0 and audit["unreadable"] == 0, audit
    lines = desk.command("signals", "--from", "beginning", "--limit", "9", "--json").splitlines()  # 3 dead letters
    shown = [json.loads(line) for line in lines]
    assert sorted(line["item_key"] for line in shown if "signal_id" in line) == expected
    folder = str(tmp_path / "archive")
    desk.command("archive", folder, "--once")
    with Signals.replay(folder, strict=False) as replayed:
        assert sorted(received.item_key for received in replayed) == expected
    for name, source in (("again", ["--archive", folder]), ("anew", [])):  # raw frames, from files and from the topic
        desk.command("replay", "recompute", "--compare", "--output", str(tmp_path / name), *source)
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        found = manifest["comparison"]
        assert (found["expected"], found["equal_digests"], found["differing"]) == ("equal digests", 6, 0), found
        assert found["only_recorded"] == found["only_recomputed"] == 0
        assert manifest["counts"]["rejections"] == {"malformed": 3}
    views = start_stage(desk.kafka.bootstrap_servers, ("-m", "earlybird.stream.cli", "views"), **desk.settings)
    url = views.wait_for("views.started", PATIENCE_S)["url"]

    def counted() -> bool:
        return "earlybird_views_signals_total 6" in get(f"{url}/metrics")[1]

    until(counted, lambda: get(f"{url}/metrics")[1] + views.log.read_text()[-2000:])
    assert "earlybird_views_unreadable_total 0" in get(f"{url}/metrics")[1]
    assert views.end() == 0

    # And a consumer that knows nothing of us: confluent_kafka's deserialiser, in an interpreter's own types.
    context = SerializationContext(desk.signals, MessageField.VALUE)
    tail = Tail(desk.kafka.bootstrap_servers, [desk.signals, desk.dlq], start="beginning")  # without a registry
    read: Any = AvroDeserializer(desk.client, conf=BY_TOPIC)
    if subject.schema_type == "JSON":
        read = JSONDeserializer(release.released("signal-1.3"), schema_registry_client=desk.client, conf=BY_TOPIC)
    outside: list[str] = []
    letters: list[Rejection] = []

    def taken() -> bool:
        for record in tail.poll(100):
            if record.topic == desk.signals:
                content = read(record.value, context)
                outside.append(Signal.model_validate_json(json.dumps(content)).item_key)
            else:
                letters.append(Rejection.model_validate_json(record.value or b""))
        return len(outside) == 6 and len(letters) == 3

    until(taken, lambda: (outside, letters))
    tail.close()
    assert sorted(outside) == expected
    assert sorted(letter.original_value() or b"" for letter in letters) == sorted(bad)
    assert any("schema id 2147483647" in letter.detail for letter in letters)
    assert stage.end() == 0


@pytest.mark.parametrize("desk", ["avro"], indirect=True)
def test_an_archive_that_waits_for_the_registry_can_be_ended(
    desk: Desk, start_stage: Callable[..., Any], tmp_path: Path
) -> None:
    """By SIGTERM; what it has not archived, the next one does."""
    desk.command("topics", "create", "--partitions", "1", "--register")
    stage = start_stage(desk.kafka.bootstrap_servers, **desk.settings)
    desk.produce(desk.avro(item(0), item(1)))
    with desk.signals_live() as signals:
        keys = sorted(next(signals).item_key for _ in range(2))
    assert stage.end() == 0
    folder = str(tmp_path / "archive")
    desk.registry.pause()
    try:
        command = ("-m", "earlybird.stream.cli", "archive", folder)
        archive = start_stage(desk.kafka.bootstrap_servers, command, **desk.settings)
        archive.wait_for("registry.awaited", PATIENCE_S)
        assert archive.end() == 0
    finally:
        desk.registry.resume()
    desk.command("archive", folder, "--once")
    with Signals.replay(folder, strict=False) as replayed:
        assert sorted(received.item_key for received in replayed) == keys == ["wire:0", "wire:1"]


def test_released_versions_come_in_pairs() -> None:
    """The parameters above are not empty."""
    assert ("signal-1.2", "signal-1.3") in [*pairwise(NAMES)] and len(FAMILIES) >= 6
