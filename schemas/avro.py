"""Avro schemas of the messages, made from their JSON Schemas.

Names, nesting, optional fields and defaults are the same. What Avro cannot say is left to the JSON Schema: bounds,
lengths and patterns. An enumeration is a string, because a reader of an Avro enum refuses values that came later. Times
are longs of epoch microseconds, as in JSON.
"""

import json
from collections.abc import Mapping
from typing import Any

NAMESPACE = "earlybird"
Schema = dict[str, Any]

_PLAIN = {"string": "string", "integer": "long", "number": "double", "boolean": "boolean", "null": "null"}


def avro(schema: Mapping[str, Any]) -> Schema:
    """Return the Avro record of a message's JSON Schema."""
    made = _Types(schema.get("$defs", {})).record(schema)
    return {"namespace": NAMESPACE, **made}


def text(schema: object) -> str:
    """Return the content of a schema file."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


class _Types:
    """Types of one schema; a named type is defined where it occurs first."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions, self._defined = definitions, set[str]()

    def record(self, schema: Mapping[str, Any]) -> Schema:
        name: str = schema["title"]
        self._defined.add(name)
        about = {"doc": schema["description"]} if "description" in schema else {}
        required = set(schema.get("required", ()))
        fields = [self._field(each, part, each in required) for each, part in schema["properties"].items()]
        return {"type": "record", "name": name, **about, "fields": fields}

    def _field(self, name: str, schema: Mapping[str, Any], required: bool) -> Schema:
        found = self._type(schema)
        if required:
            return {"name": name, "type": found}
        default = schema["default"]
        if isinstance(found, list) and default is None:
            found = ["null", *(branch for branch in found if branch != "null")]  # a default is of the first branch
        return {"name": name, "type": found, "default": default}

    def _type(self, schema: Mapping[str, Any]) -> Any:
        if "$ref" in schema:
            return self._named(schema["$ref"].removeprefix("#/$defs/"))
        if "anyOf" in schema:
            return [self._type(branch) for branch in schema["anyOf"]]
        if schema["type"] == "array":
            return {"type": "array", "items": self._type(schema["items"])}
        if schema["type"] == "object":
            return {"type": "map", "values": self._type(schema["additionalProperties"])}
        return _PLAIN[schema["type"]]

    def _named(self, name: str) -> Any:
        definition = self._definitions[name]
        if "properties" not in definition:
            return self._type(definition)
        return name if name in self._defined else self.record(definition)
