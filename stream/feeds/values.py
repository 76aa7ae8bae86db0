"""Times, symbols, names and ids as vendors write them."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from earlybird.schemas.base import INT64_MAX
from earlybird.schemas.raw import LONGEST_EXCHANGE
from earlybird.schemas.rejection import Reason
from earlybird.schemas.symbols import QUOTES, canonical_symbol
from earlybird.stream.feeds.base import Fields
from earlybird.stream.timeline.instants import feed_us

LONGEST_ID = 448
MOST_SYMBOLS = 512
_NAMES = ("symbol", "ticker", "name", "code")  # keys of an object that names an instrument, by precedence
_EXCHANGES = ("exchange", "mic")
_RELEVANCES = ("relevance", "relevance_score")
_PREFIX = re.compile(r"([A-Za-z]{2,10}|[XC]):\s*(\S.*)", re.DOTALL)
_PAIR = re.compile(rf"([A-Z0-9]{{2,10}}?)({'|'.join(sorted(QUOTES, key=len, reverse=True))})")
_LEAST_PAIR = 6  # characters; listed shares have at most five letters
_WORDS = {"positive": 1.0, "bullish": 1.0, "negative": -1.0, "bearish": -1.0, "neutral": 0.0, "mixed": 0.0}


@dataclass(frozen=True, slots=True)
class Unusable:
    """A value that refuses its item, and the reason."""

    reason: Reason
    detail: str


def instant(given: object, *forms: str | None) -> int | Unusable | None:
    """Return epoch microseconds of an instant in the first form that fits.

    None where there is no instant; the forms are those of timeline.instants.
    """
    if given is None or given == "" or given is False:
        return None
    fault = ""
    for form in forms:
        try:
            return feed_us(given, form)
        except (ValueError, ArithmeticError) as error:
            fault = str(error)
    return Unusable(Reason.BAD_TIME, fault)


def known_instant(given: object, *forms: str | None) -> int | None:
    """Return the instant, None for one that cannot be read."""
    found = instant(given, *forms)
    return None if isinstance(found, Unusable) else found


def identifier(given: object) -> str | None:
    """Return an id as a string, None where there is none.

    A long or unprintable one, such as a link, is replaced by its hash.
    """
    if isinstance(given, bool) or not isinstance(given, str | int) or given == "":
        return None
    text = str(given) if isinstance(given, str) or abs(given) <= INT64_MAX else hex(given)
    if len(text) <= LONGEST_ID and text.isprintable():
        return text
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def content_id(*parts: object) -> str:
    """Return an id for an item whose source gave none, from what distinguishes it."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:24]


def text(given: object) -> object:
    """Return a text, None for a blank one.

    A value of another type is kept, for the refusal that it causes.
    """
    return None if isinstance(given, str) and not given.strip() else given


def names(given: object) -> list[str]:
    """Return the names in a list of strings or of objects with a name."""
    if isinstance(given, str):
        given = [given]
    found = [each.get("name") if isinstance(each, Mapping) else each for each in _sequence(given)]
    return [name for name in found if isinstance(name, str) and name.strip()]


def sentiment(given: Iterable[object]) -> float | None:
    """Return the mean of a vendor's scores or words, None without any.

    Words count -1, 0 or 1; an unknown one does not count.
    """
    scores = [score for each in given if (score := _score(each)) is not None]
    return sum(scores) / len(scores) if scores else None


def symbols(given: object, origin: str = "provider", *, pairs: bool = False) -> list[dict[str, Any]]:
    """Return the fields of each distinct Symbol: names, or objects with name, exchange and relevance.

    A list in one text is separated by commas. `NYSE:BRK/B` gives symbol and exchange. `X:` (crypto) and `C:` (currency)
    prefix a pair; `pairs`: names of six characters or more that end in a currency are pairs as well. What can name
    nothing is left out, and so is everything after the 512th: neither is a reason to lose the text.
    """
    found: dict[str, dict[str, Any]] = {}
    for each in given.split(",") if isinstance(given, str) else _sequence(given):
        symbol = _symbol(each, pairs)
        if symbol is not None and len(found) < MOST_SYMBOLS:
            found.setdefault(symbol["symbol"], symbol | {"origin": origin})
    return list(found.values())


def whole(given: object) -> int | None:
    """Return an integer that a message can hold, else None."""
    return given if type(given) is int and abs(given) <= INT64_MAX else None


def mapping(given: object) -> Fields:
    """Return an object, an empty one for anything else."""
    return given if isinstance(given, Mapping) else {}


def _sequence(given: object) -> Sequence[Any]:
    return given if isinstance(given, list | tuple) else []


def _symbol(given: object, pairs: bool) -> dict[str, Any] | None:
    fields = mapping(given)
    name = next((fields[key] for key in _NAMES if isinstance(fields.get(key), str)), given)
    if not isinstance(name, str) or len(name) > 200:
        return None
    exchange = next((fields[key] for key in _EXCHANGES if isinstance(fields.get(key), str) and fields[key]), None)
    prefix = _PREFIX.fullmatch(name.strip())
    if prefix is not None:
        name = prefix[2]
        pairs = pairs or prefix[1] in "XC"
        exchange = exchange or (None if len(prefix[1]) == 1 else prefix[1].upper())
    if pairs and len(name) >= _LEAST_PAIR and (pair := _PAIR.fullmatch(name.upper())):
        name = f"{pair[1]}/{pair[2]}"
    try:
        symbol: dict[str, Any] = {"symbol": canonical_symbol(name)}
    except ValueError:
        return None
    if exchange is not None and len(exchange) <= LONGEST_EXCHANGE:
        symbol["exchange"] = exchange
    relevance = next((score for key in _RELEVANCES if (score := _score(fields.get(key))) is not None), None)
    if relevance is not None and 0.0 <= relevance <= 1.0:
        symbol["relevance"] = relevance
    return symbol


def _score(given: object) -> float | None:
    if isinstance(given, str) and given.strip().lower() in _WORDS:
        return _WORDS[given.strip().lower()]
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        return None
    try:
        number = float(given)
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) else None
