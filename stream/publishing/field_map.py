"""Conversion of foreign JSON to raw items by a map of fields and time formats.

Pure functions, without I/O. A map is a list of `TARGET=PATH[:TIME]` or `TARGET='constant'`. TARGET is a field of
RawNews or RawTweet. PATH is dotted; a number picks an element of a list and `*` takes all of them (`stocks.*.name`).
TIME is the format of a target ending in `_us`: s, ms, us, ns (epoch), iso (with offset), iso-utc (UTC where none is
given), rfc2822, or a strptime pattern (UTC where it has no %z or %Z). Without TIME a number is microseconds and a
string is iso. Ambiguous zones are refused, see stream.timeline.instants.
"""

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from earlybird.schemas.raw import RawNews, RawTweet
from earlybird.stream.errors import FeedError
from earlybird.stream.parsing.languages import named_language
from earlybird.stream.publishing.symbols import symbols_of
from earlybird.stream.timeline.instants import check_feed_form, feed_us

_LISTS = {"authors", "channels", "tags", "cashtags", "hashtags", "urls"}
_ACTIONS = {"created": "create", "updated": "update", "deleted": "delete", "removed": "delete", "remove": "delete"}
_NEWS_TEXT, _TWEET_TEXT = ("headline", "summary", "body"), ("text",)
_TARGETS = sorted(RawNews.model_fields.keys() | RawTweet.model_fields.keys())

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
"""Map of flat research files: one object per line with kind (news|tweet), text, published_at, symbols, source, id."""


class UnmappableError(ValueError):
    """Record that does not fit the map; the message names the field."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Origin of one target field: a path or a constant, and its time format."""

    target: str
    path: tuple[str, ...] = ()
    constant: str | None = None
    time: str | None = None

    @classmethod
    def parse(cls, spec: str) -> "Rule":
        """Parse `TARGET=PATH[:TIME]` or `TARGET='constant'`. Raises FeedError."""
        target, equals, origin = (part.strip() for part in spec.partition("="))
        if not equals or not origin:
            raise FeedError(f"map {spec!r}: TARGET=PATH or TARGET='constant' expected")
        if target not in _TARGETS:
            near = difflib.get_close_matches(target, _TARGETS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(_TARGETS)}"
            raise FeedError(f"map {spec!r}: a raw item has no field {target!r}; {hint}")
        if len(origin) >= 2 and origin[0] == origin[-1] and origin[0] in "'\"":
            return cls(target, constant=origin[1:-1])
        path, _, time = origin.partition(":")
        if time and not target.endswith("_us"):
            raise FeedError(f"map {spec!r}: only fields ending in _us are times")
        if time:
            try:
                check_feed_form(time)
            except ValueError as error:
                raise FeedError(f"map {spec!r}: {error}") from None
        return cls(target, path=tuple(path.split(".")), time=time or None)

    def value(self, record: object) -> Any:
        """Return the target's value in its own type, None if there is none."""
        found = self.constant if self.constant is not None else _follow(record, self.path)
        if found is None or found == "" or (found is False and self.target.endswith("_us")):  # Reddit: "edited": false
            return None
        try:
            return _shaped(self.target, found, self.time)
        except (ValueError, OverflowError, TypeError) as error:
            raise UnmappableError(f"{self.target}: {error}") from None


class FieldMap:
    """Map from decoded JSON objects to the fields of one raw item.

    Of several rules for a target the last one wins.
    """

    def __init__(self, specs: Sequence[str]) -> None:
        self._rules = {rule.target: rule for rule in map(Rule.parse, specs)}

    def maps(self, target: str) -> bool:
        """Return whether the map has a rule for this field."""
        return target in self._rules

    def item(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a RawNews or RawTweet, including its key.

        `ingested_us` is present only if it was mapped. Without a type the item is news if the map has a rule for the
        headline, whatever the record holds there. A news item's `text` is its headline. A missing id is replaced by a
        hash of the item's content. Raises UnmappableError.
        """
        fields = {name: value for name, rule in self._rules.items() if (value := rule.value(record)) is not None}
        kind = fields.setdefault("item_type", "news" if self.maps("headline") else "tweet")
        if kind == "news" and "text" in fields:
            text = fields.pop("text")
            fields.setdefault("headline", text)
        texts = [fields.get(name) for name in (_NEWS_TEXT if kind == "news" else _TWEET_TEXT)]
        if not any(str(part).strip() for part in texts if part is not None) and fields.get("action") in (
            None,
            "create",
        ):
            raise UnmappableError(f"no text: nothing in {', '.join(_NEWS_TEXT if kind == 'news' else _TWEET_TEXT)}")
        if "source" not in fields:
            raise UnmappableError("source: none in the record; a constant can be mapped: source='reuters'")
        if "source_item_id" not in fields:
            texts = [fields.get(name) for name in ("published_us", "headline", "summary", "body", "text")]
            fields["source_item_id"] = hashlib.sha256(repr(texts).encode("utf-8", "replace")).hexdigest()[:24]
        fields.setdefault("item_key", f"{fields['source']}:{fields['source_item_id']}")
        return fields


def _follow(node: object, path: Sequence[str]) -> Any:
    for depth, step in enumerate(path):
        if step == "*":
            parts = node if isinstance(node, list) else []
            return [found for part in parts if (found := _follow(part, path[depth + 1 :])) is not None]
        if isinstance(node, Mapping):
            node = node.get(step)
        elif isinstance(node, list) and step.isdecimal() and int(step) < len(node):
            node = node[int(step)]
        else:
            return None
    return node


def _shaped(target: str, found: Any, time: str | None) -> Any:
    if target.endswith("_us"):
        return feed_us(found, time)
    if target == "symbols":
        return symbols_of(found)
    if target in _LISTS:
        return [found] if isinstance(found, str) else found
    if target == "action":
        return _ACTIONS.get(str(found).lower(), str(found).lower())
    if target == "lang":
        return named_language(str(found))
    if target == "vendor_sentiment":
        return _number(found)
    if target == "revision":
        return int(found)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)  # ids are strings in raw items
    return found


def _number(found: Any) -> float | None:
    """Return a vendor's score as a number, else None.

    A word like positive is not a score, and no reason to lose the text.
    """
    try:
        number = float(found)
    except (ValueError, TypeError):
        return None
    return number if isfinite(number) else None
