"""Conversion of foreign JSON to raw items by a map of JMESPath expressions.

Pure functions, without I/O. A map is a list of `TARGET=EXPRESSION[:FORM]`. TARGET is a field of RawNews or RawTweet,
EXPRESSION is JMESPath (`stocks[*].name`, `long.text || text`, `'constant'`). FORM is, for a target ending in `_us`, the
format of its time: s, ms, us, ns (epoch), iso (with offset), iso-utc (UTC where none is given), rfc2822, or a strptime
pattern (UTC where it has no %z or %Z); without one a number is microseconds and a string is iso. Ambiguous zones are
refused, see stream.timeline.instants. For any other target FORM is a table `VALUE=NEW,...` in which `*` stands for the
values that it does not name.
"""

import difflib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from jmespath.parser import ParsedResult

from earlybird.schemas.raw import RawNews, RawTweet
from earlybird.stream.errors import FeedError
from earlybird.stream.parsing.languages import named_language
from earlybird.stream.publishing.queries import Queries, UnmappableError, suffixed
from earlybird.stream.publishing.symbols import symbols_of
from earlybird.stream.timeline.instants import check_feed_form, feed_us

_LISTS = {"authors", "channels", "tags", "cashtags", "hashtags", "urls"}
_ACTIONS = {"created": "create", "updated": "update", "deleted": "delete", "removed": "delete", "remove": "delete"}
_TARGETS = sorted(RawNews.model_fields.keys() | RawTweet.model_fields.keys())
_LONGEST_ID = 400  # a longer one, such as a link, is hashed: it has to fit into the key beside the source

FLAT = (
    "item_type=kind",
    "text=text",
    "summary=summary",
    "source=source",
    "source_item_id=id",
    "published_us=published_at:iso-utc",
    "symbols=symbols",
    "lang=lang",
)
"""Map of flat research files, one object per line; kind is news or tweet."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Origin of one target field: an expression, and its time format or table of values."""

    target: str
    query: ParsedResult
    time: str | None = None
    table: Mapping[str, str] | None = None

    @classmethod
    def parse(cls, spec: str, queries: Queries) -> "Rule":
        """Parse `TARGET=EXPRESSION[:FORM]`. Raises FeedError."""
        target, equals, origin = spec.partition("=")
        target = target.strip()
        if not equals or not origin.strip():
            raise FeedError(f"map {spec!r}: TARGET=EXPRESSION expected")
        if target not in _TARGETS:
            near = difflib.get_close_matches(target, _TARGETS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(_TARGETS)}"
            raise FeedError(f"map {spec!r}: a raw item has no field {target!r}; {hint}")
        expression, form = suffixed(origin)
        query = queries.compiled(expression, spec)
        if form is None:
            return cls(target, query)
        try:
            if target.endswith("_us"):
                check_feed_form(form.strip())
                return cls(target, query, time=form.strip())
            return cls(target, query, table=_table(form))
        except ValueError as error:
            raise FeedError(f"map {spec!r}: {error}") from None

    def shaped(self, found: Any) -> Any:
        """Return a found value in the target's own type, None if there is none.

        Raises UnmappableError.
        """
        if found is None or found == "" or (found is False and self.target.endswith("_us")):  # Reddit: "edited": false
            return None
        if self.table is not None:
            text = found if isinstance(found, str) else json.dumps(found)
            found = self.table.get(text, self.table.get("*", found))
        try:
            return feed_us(found, self.time) if self.target.endswith("_us") else _shape(self.target)(found)
        except (ValueError, OverflowError, TypeError) as error:
            raise UnmappableError(f"{self.target}: {error}") from None


class FieldMap:
    """Map from decoded JSON objects to the fields of one raw item.

    Of several rules for a target the last one wins.
    """

    def __init__(self, specs: Sequence[str], queries: Queries | None = None) -> None:
        self._queries = queries or Queries()
        self._rules = {rule.target: rule for rule in (Rule.parse(spec, self._queries) for spec in specs)}

    @property
    def targets(self) -> set[str]:
        """Fields that have a rule."""
        return set(self._rules)

    def values(self, record: object) -> dict[str, Any]:
        """Return the mapped fields that the record has. Raises UnmappableError."""
        fields = {}
        for name, rule in self._rules.items():
            try:
                found = self._queries.value(rule.query, record)
            except UnmappableError as error:
                raise UnmappableError(f"{name}: {error}") from None
            if (value := rule.shaped(found)) is not None:
                fields[name] = value
        return fields

    def item(self, record: object) -> dict[str, Any]:
        """Return the fields of a RawNews or RawTweet, including its key.

        `ingested_us` is present only if it was mapped. Without a type the item is news if the map has a rule for the
        headline, whatever the record holds there. A news item's `text` is its headline. A missing id is replaced by a
        hash of the item's content, a long one by its own hash. Raises UnmappableError.
        """
        fields = self.values(record)
        kind = fields.setdefault("item_type", "news" if "headline" in self._rules else "tweet")
        if kind == "news" and "text" in fields:
            text = fields.pop("text")
            fields.setdefault("headline", text)
        if "source" not in fields:
            raise UnmappableError("source: none in the record; a constant can be mapped: source='reuters'")
        fields["source_item_id"] = _id(fields)
        fields.setdefault("item_key", f"{fields['source']}:{fields['source_item_id']}")
        return fields


def _id(fields: Mapping[str, Any]) -> object:
    given = fields.get("source_item_id")
    if given is None:
        content = [fields.get(name) for name in ("published_us", "headline", "summary", "body", "text")]
        return _hash(repr(content))
    return _hash(given) if isinstance(given, str) and len(given) > _LONGEST_ID else given


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:24]


def _table(text: str) -> dict[str, str]:
    table = {}
    for entry in text.split(","):
        value, equals, new = entry.rpartition("=")
        if not equals or not value.strip() or not new.strip():
            raise ValueError(f"a time format is for fields ending in _us; a table VALUE=NEW,... expected, was {text!r}")
        table[value.strip()] = new.strip()
    return table


def _text(found: Any) -> Any:
    """Return a whole number as text, since ids are strings in raw items."""
    return str(found) if isinstance(found, int) and not isinstance(found, bool) else found


def _list(found: Any) -> Any:
    return [found] if isinstance(found, str) else found


def _action(found: Any) -> str:
    return _ACTIONS.get(str(found).lower(), str(found).lower())


def _number(found: Any) -> float | None:
    """Return a vendor's score as a number, else None.

    A word like positive is not a score, and no reason to lose the text.
    """
    try:
        number = float(found)
    except (ValueError, TypeError):
        return None
    return number if isfinite(number) else None


_SHAPES: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_LISTS, _list),
    "symbols": symbols_of,
    "action": _action,
    "lang": lambda found: named_language(str(found)),
    "vendor_sentiment": _number,
    "revision": int,
}


def _shape(target: str) -> Callable[[Any], Any]:
    return _SHAPES.get(target, _text)
