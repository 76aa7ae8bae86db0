"""Every released version of a message against the one before: what the older allows, the newer allows."""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from earlybird.schemas import release

NAMES = sorted(path.stem for path in release.FOLDER.glob("*.json"))
PAIRS = [(old, new) for old, new in pairwise(NAMES) if old.rpartition("-")[0] == new.rpartition("-")[0]]
LOWEST, HIGHEST = {"minLength", "minItems", "minimum", "exclusiveMinimum"}, {"maxLength", "maxItems", "maximum"}
ABOUT = {"title", "description", "default", "$defs"}
COMPARED = (
    LOWEST
    | HIGHEST
    | {"type", "properties", "required", "enum", "const", "anyOf", "items", "additionalProperties", "$ref"}
)
BOUNDED = {"raw-news-1.1": [".lang", ".revision"], "raw-tweet-1.1": [".lang", ".metrics", ".revision"]}
"""Values that got a bound which no real item reaches; beyond it they are dead letters, as they were before."""
Schema = dict[str, Any]


def refused(old: Schema, new: Schema, olds: Schema, news: Schema, place: str = "") -> Iterator[str]:
    """Places at which the newer schema may refuse what the older allows."""
    old, new = resolved(old, olds), resolved(new, news)
    unknown = (old.keys() | new.keys()) - COMPARED - ABOUT
    assert not unknown, f"this check does not know {unknown}"
    if "anyOf" in new:
        for branch in old.get("anyOf", [old]):
            if all(any(refused(branch, other, olds, news, place)) for other in new["anyOf"]):
                yield f"{place}: no branch takes {branch}"
        return
    if "anyOf" in old:
        yield f"{place}: fewer branches"
        return
    if "type" in new and new["type"] != old.get("type"):
        yield f"{place}: type {new['type']}"
    was, values = allowed(old), allowed(new)
    if values is not None and (was is None or not was <= values):
        yield f"{place}: fewer values"
    for limit in (LOWEST | HIGHEST) & new.keys():
        if limit not in old or (new[limit] > old[limit] if limit in LOWEST else new[limit] < old[limit]):
            yield f"{place}: {limit} {new[limit]}"
    for name in sorted(set(new.get("required", ())) - set(old.get("required", ()))):
        yield f"{place}.{name}: required"
    for name, property_ in old.get("properties", {}).items():
        if name not in new.get("properties", {}):
            yield f"{place}.{name}: gone"
        else:
            yield from refused(property_, new["properties"][name], olds, news, f"{place}.{name}")
    for parts in {"items", "additionalProperties"} & new.keys():
        yield from refused(old.get(parts, {}), new[parts], olds, news, f"{place}[]")


def resolved(schema: Schema, definitions: Schema) -> Schema:
    if "$ref" not in schema:
        return schema
    named: Schema = definitions[schema["$ref"].removeprefix("#/$defs/")]
    return named | {name: value for name, value in schema.items() if name != "$ref"}


def allowed(schema: Schema) -> set[str] | None:
    """The values that an enumeration or a constant allows, as JSON."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return None if values is None else {json.dumps(value) for value in values}


def faults(old: Schema, new: Schema) -> list[str]:
    return list(refused(old, new, old.get("$defs", {}), new.get("$defs", {})))


def test_there_are_pairs() -> None:
    assert len(PAIRS) >= 7 and ("signal-1.1", "signal-1.2") in PAIRS


@pytest.mark.parametrize(("older", "newer"), PAIRS)
def test_a_newer_version_takes_what_an_older_one_allows(older: str, newer: str) -> None:
    """So that today's reader reads history."""
    found = faults(json.loads(release.released(older)), json.loads(release.released(newer)))
    assert [fault.partition(":")[0] for fault in found] == BOUNDED.get(newer, [])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"properties": {}}, ".a: gone"),
        ({"required": ["a", "b"]}, ".b: required"),
        ({"properties": {"a": {"type": "integer"}}}, ".a: type integer"),
        ({"properties": {"a": {"type": "string", "maxLength": 4}}}, ".a: maxLength 4"),
        ({"properties": {"a": {"type": "string", "maxLength": 5, "minLength": 1}}}, ".a: minLength 1"),
        ({"properties": {"a": {"type": "string", "maxLength": 5, "enum": ["x"]}}}, ".a: fewer values"),
        ({"properties": {"a": {"$ref": "#/$defs/N"}}, "$defs": {"N": {"type": "null"}}}, ".a: type null"),
    ],
)
def test_the_check_finds_what_breaks(change: Schema, fault: str) -> None:
    """Each of these would refuse an old message."""
    old = {"type": "object", "required": ["a"], "properties": {"a": {"type": "string", "maxLength": 5}}}
    assert faults(old, old) == [] and faults(old, old | change)[0] == fault
    wider = old["properties"] | {"b": {"type": "string"}}  # type: ignore[operator]
    assert faults(old, old | {"properties": wider, "required": []}) == []
    choice = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert faults(choice, {"type": "string"}) and not faults({"type": "string"}, choice)
    assert faults({"enum": ["a", "b"]}, {"enum": ["a"]}) and not faults({"const": "a"}, {"enum": ["a", "b"]})
