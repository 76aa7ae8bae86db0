"""`earlybird topics` on a real broker: what it made, as JSON."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from earlybird.schemas import release
from earlybird.stream import cli
from earlybird.stream.adapters.retention import sender_dated
from earlybird.stream.adapters.topics import Topic, create_topics
from registry import serving

pytestmark = pytest.mark.broker


@pytest.fixture
def topics(kafka: Any, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings' own topics, one raw among them, by what they are for; not created yet."""
    topics = {name: unique(name) for name in ("raw", "signals", "control", "dlq")}
    monkeypatch.setenv("EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("EARLYBIRD_TOPICS__RAW", json.dumps([{"name": topics["raw"]}]))
    for name in ("signals", "control", "dlq"):
        monkeypatch.setenv(f"EARLYBIRD_TOPICS__{name.upper()}", topics[name])
    return topics


def test_topics_are_created_and_shown_as_json(
    kafka: Any, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second time they exist, with the broker's number of partitions; `show` finds them."""
    names = {name: unique(name) for name in ("signals", "control", "dlq")}
    raw, vendor = unique("raw"), unique("vendor")
    monkeypatch.setenv("EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("EARLYBIRD_TOPICS__RAW", json.dumps([{"name": raw}, {"name": vendor, "format": "alpaca"}]))
    for name, topic in names.items():
        monkeypatch.setenv(f"EARLYBIRD_TOPICS__{name.upper()}", topic)

    def told(*words: str) -> dict[str, Any]:
        assert cli.main(["topics", *words, "--json"]) == 0
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    expected = {raw: 2, vendor: 2, names["signals"]: 2, names["control"]: 1, names["dlq"]: 2}
    for partitions, outcome in (("2", "created"), ("3", "exists")):
        made = told("create", "--partitions", partitions)["topics"]
        assert {each["name"]: each["partitions"] for each in made} == expected
        assert {each["outcome"] for each in made} == {outcome}
    shown = told("show")
    assert {each["name"]: each["partitions"] for each in shown["topics"]} == expected
    assert {each["state"] for each in shown["topics"]} == {"there"}
    assert shown["signals_sender_dated"] is False
    dated = {name: sender_dated(kafka.bootstrap_servers, name) for name in (raw, vendor)}
    assert dated == {raw: True, vendor: False}  # where the broker's time is the items' ingest time


def test_existing_raw_topics_are_made_to_keep_their_records(
    kafka: Any, topics: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With --keep-raw alone, which says so; another setting of theirs and other topics stay as they are."""
    create_topics(kafka.bootstrap_servers, [Topic(topics["raw"], 1, 1, {"max.message.bytes": "12345"})])

    def configured(name: str) -> tuple[str, str]:
        (answer,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topics[name])]).values()
        found = answer.result()
        return found["retention.ms"].value, found["max.message.bytes"].value

    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    assert cli.main(["topics", "create"]) == 0
    before = {name: configured(name) for name in topics}
    assert before["raw"][0] != "-1" and "set" not in capsys.readouterr().out
    assert cli.main(["topics", "create", "--keep-raw"]) == 0
    assert f"exists   {topics['raw']}  1 partition, retention.ms=-1 set\n" in capsys.readouterr().out
    assert {name: configured(name) for name in topics} == before | {"raw": ("-1", "12345")}
    assert cli.main(["topics", "create", "--keep-raw", "--json"]) == 0
    told = {each["name"]: each.get("set") for each in json.loads(capsys.readouterr().out)["topics"]}
    assert told == dict.fromkeys(topics.values()) | {topics["raw"]: {"retention.ms": "-1"}}


def test_released_schemas_are_registered(topics: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Each topic's own, once the topics are there; a raw topic takes both kinds of items."""
    with serving() as registry:
        assert cli.main(["topics", "create", "--partitions", "1", "--register", registry.url, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schemas"].keys() == {f"{topic}-value" for topic in topics.values()} and len(told["topics"]) == 4
    sent = {path.split("/")[2]: json.loads(body["schema"]) for _, path, body in registry.requests if "schema" in body}
    assert sent[f"{topics['signals']}-value"] == json.loads(release.released("signal-1.3"))
    assert sent[f"{topics['dlq']}-value"] == json.loads(release.released("rejection-1.2"))
    for name, kinds in (("raw", ("RawNews", "RawTweet")), ("control", ("Heartbeat", "ReplayComplete"))):
        assert sent[f"{topics[name]}-value"]["oneOf"] == [{"$ref": f"#/$defs/{kind}"} for kind in kinds]
