"""Registration of JSON Schemas with a registry over HTTP."""

from collections.abc import Iterator

import pytest

from earlybird.stream.adapters.schema_registry import URL, TopicSchema, register
from earlybird.stream.errors import StreamError
from registry import Registry, serving

SCHEMAS = [TopicSchema("raw", '{"title": "Raw"}'), TopicSchema("signals", '{"title": "Signal"}', "FORWARD")]


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving() as running:
        yield running


def test_subjects_are_named_after_topics(registry: Registry) -> None:
    """Those of our own messages are forward compatible before they are registered; the others are not ours to set."""
    assert register({URL: registry.url}, SCHEMAS) == {"raw-value": 1, "signals-value": 3}
    assert [(method, path) for method, path, _ in registry.requests] == [
        ("POST", "/subjects/raw-value/versions"),
        ("PUT", "/config/signals-value"),
        ("POST", "/subjects/signals-value/versions"),
    ]
    (_, _, raw), (_, _, config), _ = registry.requests
    assert (raw["schemaType"], raw["schema"]) == ("JSON", '{"title": "Raw"}')
    assert config["compatibility"] == "FORWARD"


def test_a_refusal_names_the_subject(registry: Registry) -> None:
    """With the registry's own words."""
    registry.refused = "raw-value"
    with pytest.raises(StreamError, match=r"raw-value.*incompatible with an earlier schema"):
        register({URL: registry.url}, SCHEMAS)
