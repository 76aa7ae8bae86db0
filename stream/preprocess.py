"""Record -> what it says: items to read, deletions, or the reason why it cannot be read. Pure functions.

A record holds one item, or a JSON array of items; every element becomes exactly one outcome.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pydantic import ValidationError

from engine.text.assembly import Text
from schemas.base import EARLIEST_US, LATEST_US
from schemas.codec import describe
from schemas.raw import RAW, Action, RawNews, RawTweet, Symbol
from schemas.rejection import Reason
from stream.instants import plausible_us
from stream.ports import Position, Record

UNKNOWN_LANGUAGES = frozenset({"", "und", "qme", "zxx", "art"})  # what X and others send for "no idea"


@dataclass(frozen=True, slots=True)
class Readable:
    """An item with text for the model."""

    position: Position
    item: RawNews | RawTweet

    @property
    def item_key(self) -> str:
        """Its place in the order of outcomes."""
        return self.item.item_key

    @property
    def item_type(self) -> str:
        """news or tweet."""
        return self.item.item_type

    @property
    def ingested_us(self) -> int:
        """When our side first had it."""
        return self.item.ingested_us

    def deletion(self) -> "Deletion":
        """What takes this item back."""
        item = self.item
        return Deletion(self.position, item.item_key, item.effective_revision, item.ingested_us, item)

    def refused(self, reason: Reason, detail: str) -> "Refusal":
        """The refusal of an item that was understood; an update's refusal retracts the earlier text."""
        update = self.item.action is Action.UPDATE
        return Refusal(self.position, reason, detail, self.item.item_key, self.deletion() if update else None)


@dataclass(frozen=True, slots=True)
class Deletion:
    """The source took its item back; a bare null record says no more than the key."""

    position: Position
    item_key: str
    revision: int
    ingested_us: int
    item: RawNews | RawTweet | None = None

    @property
    def item_type(self) -> str:
        """unknown for a bare null record."""
        return "unknown" if self.item is None else self.item.item_type


@dataclass(frozen=True, slots=True)
class Refusal:
    """An element that cannot become a signal. A refused update takes back what was said of the earlier text, too."""

    item_type: ClassVar[str] = "unknown"
    ingested_us: ClassVar[None] = None

    position: Position
    reason: Reason
    detail: str
    item_key: str | None = None
    retraction: Deletion | None = None


Element = Readable | Deletion | Refusal


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused before the model sees it. All decided on recorded values, so that a replay decides alike."""

    max_record_bytes: int = 1_048_576
    max_age_us: int | None = None  # ingested - published beyond this is STALE; None: no limit
    languages: tuple[str, ...] = ("en",)  # primary subtags the model was trained on; empty: any


def read(record: Record, limits: Limits) -> list[Element]:
    """The elements of one raw record in the `earlybird` format, at least one, in order."""
    position = Position(record.topic, record.partition, record.offset)
    value = record.value
    if value is None:
        return [_tombstone(record, position)]
    if len(value) > limits.max_record_bytes:
        detail = f"at most {limits.max_record_bytes} bytes allowed, was {len(value)}"
        return [Refusal(position, Reason.TOO_LARGE, detail, _key_text(record.key))]
    if value.lstrip()[:1] != b"[":
        return [read_element(value, position, limits)]
    return _read_array(value, position, limits)


def _read_array(value: bytes, position: Position, limits: Limits) -> list[Element]:
    try:
        parts = json.loads(value)
    except (ValueError, RecursionError) as error:
        return [Refusal(position, Reason.MALFORMED, f"record: not JSON ({type(error).__name__})")]
    if not parts:
        return [Refusal(position, Reason.MALFORMED, "record: an array without elements")]
    # Lone surrogates come back as escapes, so each element is judged by the same parser as a record of its own.
    return [
        read_element(json.dumps(part).encode(), replace(position, index=index), limits)
        for index, part in enumerate(parts)
    ]


def read_element(value: bytes, position: Position, limits: Limits) -> Element:
    """One JSON object -> one element."""
    try:
        item = RAW.validate_json(value)
    except ValidationError as error:
        return _refuse(value, position, _reason(error), describe(error))
    expected_key = f"{item.source}:{item.source_item_id}"
    if item.item_key != expected_key:
        detail = f"item_key: source:source_item_id is {expected_key!r}, was {item.item_key!r}"
        return Refusal(position, Reason.MALFORMED, detail, item.item_key)
    readable = Readable(position, item)
    if item.action is Action.DELETE:
        return readable.deletion()
    if (language := _primary_language(item.lang)) and limits.languages and language not in limits.languages:
        return readable.refused(Reason.LANGUAGE, f"lang: one of {', '.join(limits.languages)} read, was {item.lang}")
    if limits.max_age_us is not None and item.published_us is not None:
        age_us = item.ingested_us - item.published_us
        if age_us > limits.max_age_us:
            return readable.refused(Reason.STALE, f"at most {limits.max_age_us} us old allowed, was {age_us}")
    return readable


def text_of(item: RawNews | RawTweet) -> Text:
    """The readable parts, most important first; the first is the headline, also where it is empty."""
    if isinstance(item, RawTweet):
        return Text((item.text or "",))
    further = tuple(part for part in (item.summary, item.body) if part)
    return Text((item.headline or "", *further), html=item.body_format == "html")


def symbols_of(item: RawNews | RawTweet) -> tuple[Symbol, ...]:
    """The provider's symbols, and a tweet's cashtags it did not list. Upper case, '-' and '/' written '.', each
    symbol once, the first mention wins."""
    found: dict[str, Symbol] = {}
    for symbol in item.symbols:
        name = _canonical_symbol(symbol.symbol)
        found.setdefault(name, symbol if name == symbol.symbol else symbol.model_copy(update={"symbol": name}))
    if isinstance(item, RawTweet):
        for tag in item.cashtags:
            name = _canonical_symbol(tag.removeprefix("$"))
            if name and len(name) <= 32:
                found.setdefault(name, Symbol(symbol=name, origin="cashtag"))
    return tuple(found.values())


def _canonical_symbol(symbol: str) -> str:
    return symbol.strip().upper().replace("-", ".").replace("/", ".")


def _primary_language(lang: str | None) -> str | None:
    """The primary subtag in lower case; None when the source did not know."""
    if lang is None:
        return None
    primary = lang.lower().replace("_", "-").split("-")[0].strip()
    return None if primary in UNKNOWN_LANGUAGES else primary


def _tombstone(record: Record, position: Position) -> Element:
    item_key = _key_text(record.key)
    if not item_key:
        return Refusal(position, Reason.MISSING_FIELD, "key: a null record is a delete and needs the item_key as key")
    if record.timestamp_us is None or not EARLIEST_US <= record.timestamp_us <= LATEST_US:
        return Refusal(position, Reason.BAD_TIME, f"timestamp: not usable, was {record.timestamp_us}", item_key)
    return Deletion(position, item_key, record.timestamp_us, record.timestamp_us)


def _key_text(key: bytes | None) -> str | None:
    return None if key is None else key.decode("utf-8", "replace")[:512]


def _reason(error: ValidationError) -> Reason:
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    tests: Sequence[tuple[Reason, Callable[[Any], bool]]] = (
        (Reason.UNSUPPORTED_SCHEMA, lambda fault: fault["loc"][-1:] == ("schema_version",)),
        (
            Reason.MALFORMED,
            lambda fault: fault["type"] in ("json_invalid", "model_type", "model_attributes_type"),
        ),
        (Reason.MISSING_FIELD, lambda fault: fault["type"] in ("missing", "union_tag_not_found")),
        (Reason.BAD_TIME, lambda fault: str(fault["loc"][-1:]).endswith("_us',)")),
    )
    for reason, holds in tests:
        if any(holds(fault) for fault in faults):
            return reason
    return Reason.MALFORMED


def _refuse(value: bytes, position: Position, reason: Reason, detail: str) -> Refusal:
    """Refuse an element that did not validate. What can still be seen of it (its key; that it is an update, and
    which) is used, so that a strategy does not go on trading on a text that its source has replaced."""
    try:
        fields = json.loads(value)
    except (ValueError, RecursionError):
        return Refusal(position, reason, detail)
    item_key = fields.get("item_key") if isinstance(fields, dict) else None
    if not isinstance(item_key, str) or not 0 < len(item_key) <= 512 or not item_key.isprintable():
        return Refusal(position, reason, detail)
    ingested_us = plausible_us(fields.get("ingested_us"))
    revision = _count(fields.get("revision")) or plausible_us(fields.get("updated_us"))
    if fields.get("action") != Action.UPDATE or ingested_us is None or revision is None:
        return Refusal(position, reason, detail, item_key)
    return Refusal(position, reason, detail, item_key, Deletion(position, item_key, revision, ingested_us))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None
