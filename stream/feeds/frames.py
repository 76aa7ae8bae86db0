"""Records of JSON vendors: one object, a frame (an array of objects) or a page (an object that holds an array)."""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic_core import from_json, to_json

from earlybird.schemas.rejection import Reason
from earlybird.stream.feeds.base import Fields, Parsed, Parser, Refused, Result, Skipped
from earlybird.stream.observability.escape import escaped
from earlybird.stream.parsing.elements import NotAnArray, TooManyElements, is_array, split

MOST_ELEMENTS = 4_096  # of a frame or page, as in our own format
_WORDS = (b"ping", b"pong")  # keep-alives that are no JSON


def json_parser(read: Callable[[Fields, int], Result], pages: Sequence[str] = ()) -> Parser:
    """Return the parser of a vendor whose objects `read` reads.

    `pages` are the names under which a page holds its array, the first that holds one counts.
    """

    def parse(value: bytes, received_us: int) -> list[Parsed]:
        bare = value.strip()
        if not bare or bare.lower() in _WORDS:
            return [Parsed(Skipped("keep_alive"))]
        if is_array(bare):
            return _frame(bare, received_us, read)
        fields = _object(bare)
        if isinstance(fields, Refused):
            return [Parsed(fields)]
        for name in pages:
            if isinstance(fields.get(name), list):
                return _page(fields[name], received_us, read)
        return [Parsed(read(fields, received_us))]

    return parse


def _frame(value: bytes, received_us: int, read: Callable[[Fields, int], Result]) -> list[Parsed]:
    if not value[1:-1].strip() and value.endswith(b"]"):
        return [Parsed(Skipped("empty"))]
    try:
        parts = split(value, MOST_ELEMENTS)
    except NotAnArray as error:
        return [Parsed(Refused(Reason.MALFORMED, f"not JSON: {error}"))]
    except TooManyElements as error:
        return [Parsed(Refused(Reason.TOO_LARGE, f"array: {error}"))]
    decoded = ((part, _object(part)) for part in parts)
    return [Parsed(got if isinstance(got, Refused) else read(got, received_us), part) for part, got in decoded]


def _page(elements: list[Any], received_us: int, read: Callable[[Fields, int], Result]) -> list[Parsed]:
    if not elements:
        return [Parsed(Skipped("empty"))]
    if len(elements) > MOST_ELEMENTS:
        return [Parsed(Refused(Reason.TOO_LARGE, f"page: at most {MOST_ELEMENTS:,} elements allowed"))]
    return [
        Parsed(read(each, received_us) if isinstance(each, dict) else _NO_OBJECT, to_json(each)) for each in elements
    ]


def _object(value: bytes) -> dict[str, Any] | Refused:
    try:
        fields = from_json(value)
    except ValueError as error:
        return Refused(Reason.MALFORMED, f"not JSON: {escaped(str(error), 200)}")
    return fields if isinstance(fields, dict) else _NO_OBJECT


_NO_OBJECT = Refused(Reason.MALFORMED, "not a JSON object")
