"""The Avro schemas beside the released JSON Schemas."""

import json

import pytest

from earlybird.schemas import avro, release

NAMES = sorted(path.stem for path in release.FOLDER.glob("*.json"))


@pytest.mark.parametrize("name", NAMES)
def test_each_released_version_has_its_avro(name: str) -> None:
    """As it is made of the JSON Schema, which never changes: so neither does this."""
    assert release.released(name, "avsc") == avro.text(avro.avro(json.loads(release.released(name))))


def test_names_types_and_defaults_are_those_of_the_json_schema() -> None:
    """Optional is a union with null first, required has no default; enumerations are strings, instants longs."""
    fields = {field["name"]: field for field in json.loads(release.released("signal-1.3", "avsc"))["fields"]}
    assert fields["signal_id"] == {"name": "signal_id", "type": "string"}
    assert fields["label"] == {"name": "label", "type": ["null", "string"], "default": None}
    assert fields["run_id"] == {"name": "run_id", "type": "string", "default": "live"}
    assert fields["symbols"]["type"]["items"]["name"] == "Symbol" and fields["symbols"]["default"] == []
    times = {field["name"]: field["type"] for field in fields["ts"]["type"]["fields"]}
    assert times["emitted_us"] == "long" and times["published_us"] == ["null", "long"]
    tweet = json.loads(release.released("raw-tweet-1.1", "avsc"))["fields"]
    metrics = next(field for field in tweet if field["name"] == "metrics")
    assert metrics["type"] == ["null", {"type": "map", "values": "long"}]
