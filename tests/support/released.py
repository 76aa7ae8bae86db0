"""The released JSON Schemas as a check of published bytes. Knows the keywords that they use, and refuses others."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from earlybird.schemas import release

Check = Callable[[Any, str], Iterator[str]]

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "null": lambda value: value is None,
}
_LIMITS: dict[str, Callable[[Any, Any], bool]] = {
    "const": lambda value, limit: value == limit,
    "enum": lambda value, limit: value in limit,
    "minLength": lambda value, limit: len(value) >= limit,
    "maxLength": lambda value, limit: len(value) <= limit,
    "maxItems": lambda value, limit: len(value) <= limit,
    "minimum": lambda value, limit: value >= limit,
    "maximum": lambda value, limit: value <= limit,
}
_ABOUT = {"title", "description", "default", "$defs"}


def faults(kind: str, content: bytes) -> list[str]:
    """What is wrong with a message of this kind (`signal/1`, as in the `schema` header): by every released schema
    whose readers are promised to understand its `schema_version`."""
    name, major = kind.split("/")
    try:
        message = json.loads(content)
    except ValueError as error:
        return [f"{name}: {error}"]
    found = [] if isinstance(message, dict) else [f"{name}: an object expected, was {message!r:.80}"]
    if found or "schema_version" not in message:
        return found or [f"{name}: schema_version required"]
    for file in sorted(path.stem for path in release.FOLDER.glob(f"{name}-{major}.*.json")):
        if file.rpartition("-")[2] >= message["schema_version"]:
            found += [f"{file}: {fault}" for fault in _checks(file)(message, name)]
    return found


@lru_cache
def _checks(file: str) -> Check:
    schema = json.loads(release.released(file))
    return _check(schema, schema.get("$defs", {}), {})


def _check(schema: Mapping[str, Any], known: Mapping[str, Any], made: dict[str, Check]) -> Check:
    checks: list[Check] = []
    for keyword, limit in schema.items():
        if keyword == "$ref":
            name = limit.rpartition("/")[2]
            made.setdefault(name, _check(known[name], known, made))
            checks.append(made[name])
        elif keyword == "anyOf":
            checks.append(_any_of([_check(each, known, made) for each in limit]))
        elif keyword == "properties":
            checks.append(_properties({name: _check(each, known, made) for name, each in limit.items()}))
        elif keyword == "required":
            checks.append(_required(limit))
        elif keyword == "items":
            checks.append(_items(_check(limit, known, made)))
        elif keyword == "additionalProperties":
            checks.append(_others(_check(limit, known, made)))
        elif keyword in _LIMITS:
            checks.append(_limited(keyword, limit))
        else:
            assert keyword == "type" or keyword in _ABOUT, f"{keyword}: no check for this keyword"
    return _typed(schema["type"], checks) if "type" in schema else _all_of(checks)


def _all_of(checks: list[Check]) -> Check:
    return lambda value, place: (fault for check in checks for fault in check(value, place))


def _typed(kind: str, checks: list[Check]) -> Check:
    """The other keywords mean something for this type only."""
    known, rest = _TYPES[kind], _all_of(checks)

    def check(value: Any, place: str) -> Iterator[str]:
        if known(value):
            yield from rest(value, place)
        else:
            yield f"{place}: {kind} expected, was {value!r:.80}"

    return check


def _limited(keyword: str, limit: Any) -> Check:
    holds = _LIMITS[keyword]
    return lambda value, place: iter(() if holds(value, limit) else (f"{place}: {keyword} {limit}, was {value!r:.80}",))


def _any_of(choices: list[Check]) -> Check:
    def check(value: Any, place: str) -> Iterator[str]:
        if all(any(choice(value, place)) for choice in choices):
            yield from choices[0](value, place)

    return check


def _properties(checks: Mapping[str, Check]) -> Check:
    return lambda value, place: (
        fault for name, each in value.items() if name in checks for fault in checks[name](each, f"{place}.{name}")
    )


def _required(names: list[str]) -> Check:
    return lambda value, place: (f"{place}: {name} required" for name in names if name not in value)


def _items(check: Check) -> Check:
    return lambda value, place: (
        fault for number, each in enumerate(value) for fault in check(each, f"{place}.{number}")
    )


def _others(check: Check) -> Check:
    return lambda value, place: (fault for name, each in value.items() for fault in check(each, f"{place}.{name}"))
