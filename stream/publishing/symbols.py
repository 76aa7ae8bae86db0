"""Symbols of a foreign record.

Names, lists of names in one text, or objects that hold a name and perhaps its exchange and relevance (0 to 1). Blanks
separate names only in a text that is the whole list: in an array or object, `BRK B` and `AAPL US Equity` are one name.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from earlybird.schemas.symbols import canonical_symbol

_NAMES = ("symbol", "ticker", "name", "code")  # keys of an object, by precedence
_EXCHANGES = ("exchange", "mic")
_SEPARATORS = re.compile(r"[\s,;|]+")
_MARKS = re.compile(r"[,;|]")

Fields = dict[str, Any]


def symbols_of(found: object) -> list[Fields]:
    """Return each distinct symbol as the fields of a Symbol.

    Raises ValueError if a value holds no recognisable symbol.
    """
    if isinstance(found, str):
        found = _SEPARATORS.split(found)
    parts = [found] if isinstance(found, int | Mapping) or not isinstance(found, Iterable) else found
    named: dict[str, Fields] = {}
    for part in parts:
        for symbol in _symbols(part):
            named.setdefault(symbol["symbol"], symbol)
    return list(named.values())


def _symbols(part: object) -> list[Fields]:
    if part is None or part == "":
        return []
    if isinstance(part, Mapping):
        return _of_object({str(name).lower(): value for name, value in part.items()})
    if isinstance(part, bool) or not isinstance(part, str | int):
        raise ValueError(f"a name or an object that holds one expected, was {type(part).__name__}")
    return [{"symbol": name, "origin": "provider"} for text in _MARKS.split(str(part)) if (name := _name(text))]


def _of_object(part: Mapping[str, Any]) -> list[Fields]:
    name = next((str(part[key]) for key in _NAMES if part.get(key) not in (None, "")), None)
    if name is None:
        raise ValueError(
            f"an object with {', '.join(_NAMES)} expected, was one with {', '.join(sorted(part)) or 'nothing'}"
        )
    exchange = next((str(part[key]) for key in _EXCHANGES if isinstance(part.get(key), str) and part[key]), None)
    known = {"exchange": exchange, "relevance": _relevance(part.get("relevance"))}
    known = {field: value for field, value in known.items() if value is not None}
    return [symbol | known for symbol in _symbols(name)]


def _relevance(given: object) -> float | None:
    if given is None or given == "":
        return None
    try:
        relevance = float(given) if isinstance(given, int | float | str) and not isinstance(given, bool) else math.nan
    except ValueError:
        relevance = math.nan
    if not 0 <= relevance <= 1:
        raise ValueError(f"relevance: 0 to 1 expected, was {given!r}")
    return relevance


def _name(text: str) -> str:
    return canonical_symbol(text) if text.strip("$-./_ \t\r\n") else ""
