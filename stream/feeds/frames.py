"""Records of JSON vendors: one object, a frame or a page.

A frame is an array of objects, a page an object that holds such an array.
"""

from collections.abc import Callable
from typing import Any

from pydantic_core import from_json, to_json

from earlybird.schemas.rejection import Reason
from earlybird.stream.feeds.base import Fields, Parsed, Parser, Refused, Result, Skipped
from earlybird.stream.observability.escape import escaped
from earlybird.stream.parsing.elements import NotAnArray, TooManyElements, is_array, split

MOST_ELEMENTS = 4_096  # of a frame or page, as in our own format
_WORDS = (b"ping", b"pong")  # keep-alive frames that are no JSON

Read = Callable[[Fields, int], Result]
"""Function of one object of a vendor and `received_us`."""

Page = Callable[[Fields], list[Any] | None]
"""Function that returns the elements of a page, and None for an object that is no page."""


def under(*names: str, unless: str = "") -> Page:
    """Return the function for pages that hold their array under one of these names.

    An object that has the field `unless` is no page.
    """

    def page(fields: Fields) -> list[Any] | None:
        found = (fields[name] for name in names if isinstance(fields.get(name), list))
        return None if unless in fields else next(found, None)

    return page


def json_parser(read: Read, page: Page | None = None) -> Parser:
    """Return the parser of a vendor whose objects `read` reads."""

    def parse(value: bytes, received_us: int) -> list[Parsed]:
        bare = value.strip()
        if not bare or bare.lower() in _WORDS:
            return [Parsed(Skipped("keep_alive"))]
        if is_array(bare):
            return _frame(bare, received_us, read)
        fields = decoded(bare)
        if isinstance(fields, Refused):
            return [Parsed(fields)]
        elements = None if page is None else page(fields)
        return [Parsed(read(fields, received_us))] if elements is None else _page(elements, received_us, read)

    return parse


def decoded(value: bytes) -> dict[str, Any] | Refused:
    """Return the JSON object in these bytes, or why there is none."""
    try:
        fields = from_json(value, allow_inf_nan=False)
    except ValueError as error:
        return Refused(Reason.MALFORMED, f"not JSON: {escaped(str(error), 200)}")
    return fields if isinstance(fields, dict) else _NO_OBJECT


def _frame(value: bytes, received_us: int, read: Read) -> list[Parsed]:
    if value.endswith(b"]") and not value[1:-1].strip():
        return [Parsed(Skipped("empty"))]
    try:
        parts = split(value, MOST_ELEMENTS)
    except NotAnArray as error:
        return [Parsed(Refused(Reason.MALFORMED, f"not JSON: {error}"))]
    except TooManyElements as error:
        return [Parsed(Refused(Reason.TOO_LARGE, f"array: {error}"))]
    objects = ((part, decoded(part)) for part in parts)
    return [Parsed(got if isinstance(got, Refused) else read(got, received_us), part) for part, got in objects]


def _page(elements: list[Any], received_us: int, read: Read) -> list[Parsed]:
    if not elements:
        return [Parsed(Skipped("empty"))]
    if len(elements) > MOST_ELEMENTS:
        return [Parsed(Refused(Reason.TOO_LARGE, f"page: at most {MOST_ELEMENTS:,} elements allowed"))]
    return [
        Parsed(read(each, received_us) if isinstance(each, dict) else _NO_OBJECT, to_json(each)) for each in elements
    ]


_NO_OBJECT = Refused(Reason.MALFORMED, "not a JSON object")
