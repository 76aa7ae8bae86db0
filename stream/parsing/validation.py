"""Translation of pydantic's errors into a dead letter's reason and one plain sentence.

The sentence names fields as the sender does.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from earlybird.schemas.base import EARLIEST_US, LATEST_US
from earlybird.schemas.rejection import Reason
from earlybird.stream.observability.escape import escaped
from earlybird.stream.parsing.elements import deeper_than

LONGEST_QUOTE = 40  # characters of a refused value
_DEEPEST = 200  # pydantic's own limit; that of Python's parser depends on the stack
_FAULTS_READ = 100  # per item; more add nothing

_UNITS = (("seconds", 1_000_000, 1), ("milliseconds", 1_000, 1), ("nanoseconds", 1, 1_000))
_KINDS: Mapping[str, str] = {
    "string_type": "a string",
    "int_type": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "tuple_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_NAMES: Mapping[type, str] = {str: "a string", list: "an array", dict: "an object"}
_NOT_JSON = ("json_invalid", "model_type", "model_attributes_type", "dict_type")
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


class Fault(NamedTuple):
    """One pydantic error: its type, place, message and context."""

    type: str
    place: tuple[str | int, ...]
    message: str
    context: Mapping[str, Any]

    @property
    def is_time(self) -> bool:
        """True for a fault in one of the time fields."""
        return str(self.place[-1] if self.place else "").endswith("_us")


def explain(error: ValidationError, value: bytes, fields: Mapping[str, Any]) -> tuple[Reason, str]:
    """Return a dead letter's reason and its detail, both from the same fault.

    `value` is what failed to validate, `fields` the result of `fields_of(value)`.
    """
    errors = error.errors(include_input=False, include_url=False)[:_FAULTS_READ]
    faults = [Fault(each["type"], each["loc"], each["msg"], each.get("ctx", {})) for each in errors]
    for reason, holds in _TESTS:
        if found := [fault for fault in faults if holds(fault)]:
            return reason, _sentence(found[0], value, fields)
    return Reason.MALFORMED, _sentence(faults[0], value, fields)


_TESTS: Sequence[tuple[Reason, Callable[[Fault], bool]]] = (
    (Reason.UNSUPPORTED_SCHEMA, lambda fault: fault.place[-1:] == ("schema_version",)),
    (Reason.MALFORMED, lambda fault: fault.type in _NOT_JSON),
    (Reason.MISSING_FIELD, lambda fault: fault.type in ("missing", "union_tag_not_found")),
    (Reason.BAD_TIME, lambda fault: fault.is_time),
)


def fields_of(value: bytes) -> dict[str, Any]:
    """Return the readable fields of a JSON object that did not validate.

    Only UTF-8 is read: json.loads would take bytes for UTF-16, whose nesting is not the one measured here.
    """
    if deeper_than(value, _DEEPEST):
        return {}
    try:
        fields = json.loads(value.decode("utf-8-sig"), parse_int=_integer)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def quoted(value: object) -> str:
    """Quote a refused value on one line; only its length if it may be text.

    A value longer than a name or a number may be licensed text.
    """
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) > LONGEST_QUOTE:
        return f"{len(text):,} characters"
    return repr(value) if isinstance(value, str) else text


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 40 else float(digits)  # int() refuses thousands of digits


def _sentence(fault: Fault, value: bytes, fields: Mapping[str, Any]) -> str:
    if fault.type == "json_invalid":
        return _not_json(fault, value)
    if not fault.place and fault.type in _NOT_JSON:
        return "not a JSON object"
    if fault.type == "union_tag_not_found":
        return "item_type is missing"
    if fault.type == "union_tag_invalid":
        return f"item_type is news or tweet, was {quoted(str(fault.context.get('tag')))}"
    place, given = _place(fault.place), _value_at(fields, fault.place[1:])
    if fault.type == "missing":
        return f"{place} is missing"
    if fault.is_time:
        return _time(place, given)
    if fault.type == "string_too_long":
        length = len(given) if isinstance(given, str) else 0
        return f"{place} is longer than {fault.context['max_length']} characters, was {length:,}"
    if fault.type == "string_too_short":
        return f"{place} is empty"
    if fault.type == "too_long":
        return f"{place} has more than {fault.context['max_length']:,} elements"
    if fault.type in ("literal_error", "enum"):
        return f"{place} is {fault.context['expected']}, was {quoted(given)}"
    if fault.type in ("greater_than_equal", "less_than_equal"):
        return f"{place} is out of range, was {quoted(given)}"
    if fault.type in _KINDS:
        return f"{place} is not {_KINDS[fault.type]}, was {_kind(given)}"
    return f"{place}: {escaped(fault.message, 200)}"


def _not_json(fault: Fault, value: bytes) -> str:
    if value.lstrip().startswith(_BYTE_ORDER_MARKS):
        return "not JSON: begins with a byte order mark"
    if not value.strip():
        return "not JSON: empty"
    return f"not JSON: {escaped(fault.message.removeprefix('Invalid JSON: '), 200)}"


def _time(place: str, given: object) -> str:
    if isinstance(given, bool) or not isinstance(given, int):
        return f"{place} is not an integer of microseconds since 1970, was {_kind(given)}"
    for unit, times, per in _UNITS:
        if EARLIEST_US <= given * times // per <= LATEST_US:
            return f"{place} looks like {unit}: {given}; microseconds since 1970 expected"
    return f"{place} is outside 1973 to 2100 in microseconds since 1970, was {given}"


def _kind(value: object) -> str:
    """Describe a value by its type, without quoting text."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return quoted(value)
    return _NAMES.get(type(value), "something else")


def _place(place: Sequence[str | int]) -> str:
    """Return a fault's path without its union tag, as in symbols[3].exchange."""
    path = ""
    for part in place[1:]:
        name = escaped(str(part), LONGEST_QUOTE)
        path += f"[{name}]" if isinstance(part, int) else f".{name}" if path else name
    return path or "record"


def _value_at(fields: object, place: Sequence[str | int]) -> object:
    for part in place:
        if isinstance(fields, dict) and isinstance(part, str):
            fields = fields.get(part)
        elif isinstance(fields, list) and isinstance(part, int) and part < len(fields):
            fields = fields[part]
        else:
            return None
    return fields
