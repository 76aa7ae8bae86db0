"""Raw record -> items, deletions, or the reason why it cannot be read. Pure functions.

A record holds one item or a JSON array of items; every element becomes exactly one outcome. A refused element with a
known item_key also retracts the item's earlier text, because its source has replaced that by one that cannot be read.
This module does not know what was published before, so it does this for every refusal.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from pydantic import ValidationError

from earlybird.engine.text.assembly import Text
from earlybird.schemas.framing import unframed
from earlybird.schemas.raw import RAW, Action, RawNews, RawTweet, RevisionKind, Symbol
from earlybird.schemas.rejection import Reason
from earlybird.schemas.symbols import canonical_symbol
from earlybird.stream.parsing.elements import NotAnArray, TooManyElements, is_array, split
from earlybird.stream.parsing.languages import primary_language
from earlybird.stream.parsing.recovery import LONGEST_ITEM_KEY, item_key_of, key_text, refused_action, revision_of
from earlybird.stream.parsing.validation import explain, fields_of, quoted
from earlybird.stream.ports import Position, Record
from earlybird.stream.timeline.instants import plausible_us

Link = Callable[[RawNews | RawTweet], RawNews | RawTweet]
"""Adds to an item the symbols that its text names."""


@dataclass(frozen=True, slots=True)
class Readable:
    """An item with text for the model."""

    position: Position
    item: RawNews | RawTweet
    part: bytes | None = None  # bytes of the element, where it is part of an array

    @property
    def item_key(self) -> str:
        """Key of the item, by which outcomes are ordered."""
        return self.item.item_key

    @property
    def item_type(self) -> str:
        """Type of the item: news or tweet."""
        return self.item.item_type

    @property
    def ingested_us(self) -> int:
        """Time at which our side first had the item."""
        return self.item.ingested_us

    def deletion(self) -> "Deletion":
        """Return the deletion of this item.

        Its source deleted it, or this version of it cannot be read.
        """
        item = self.item
        return Deletion(
            self.position,
            item.item_key,
            item.effective_revision,
            item.ingested_us,
            item,
            self.part,
            item.revision_kind,
            refused_action(item.action),
        )

    def refused(self, reason: Reason, detail: str) -> "Refusal":
        """Return the refusal of an item that was parsed."""
        return Refusal(self.position, reason, detail, self.item.item_key, self.deletion(), self.part)


@dataclass(frozen=True, slots=True)
class Deletion:
    """Retraction of an item's earlier text: a delete, or an unreadable version.

    A bare null record (tombstone) gives only the item_key.
    """

    position: Position
    item_key: str
    revision: int
    ingested_us: int | None  # None: neither the item nor the broker has a time
    item: RawNews | RawTweet | None = None
    part: bytes | None = None
    kind: RevisionKind = RevisionKind.NONE
    refused: Literal["create", "update"] | None = None  # action of a version that cannot be read; None: a delete

    @property
    def item_type(self) -> str:
        """Type of the item; unknown for a bare null record."""
        return "unknown" if self.item is None else self.item.item_type


@dataclass(frozen=True, slots=True)
class Refusal:
    """An element that cannot become a signal, with its item's retraction if any."""

    item_type: ClassVar[str] = "unknown"
    ingested_us: ClassVar[None] = None

    position: Position
    reason: Reason
    detail: str
    item_key: str | None = None
    retraction: Deletion | None = None
    part: bytes | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """An element of a vendor's record that concerns no item: it has no outcome."""

    position: Position
    reason: str


Element = Readable | Deletion | Refusal
"""An element with an outcome."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for refusing elements before the model.

    All are decided on recorded values, so that a replay decides alike.
    """

    max_record_bytes: int = 1_048_576
    max_elements: int = 4_096  # per array; a larger array is refused as a whole
    max_age_us: int | None = None  # ingested - published beyond this is STALE; None: no limit
    languages: tuple[str, ...] = ("en",)  # primary subtags the model was trained on; empty: any


def unlinked(item: RawNews | RawTweet) -> RawNews | RawTweet:
    """Return the item as it is; the Link without a table of names."""
    return item


def read(record: Record, limits: Limits, link: Link = unlinked) -> list[Element]:
    """Parse one raw record in the `earlybird` format into elements, at least one, in order.

    The JSON may be in a schema registry's frame. Every outcome of an item, a refusal's retraction as well, has the
    symbols that `link` gave it.
    """
    position = Position(record.topic, record.partition, record.offset)
    value = record.value
    if value is None:
        return [_tombstone(record, position)]
    if (refused := too_large(record, limits)) is not None:
        return [refused]
    value = unframed(value)
    if is_array(value):
        return _read_array(value, position, limits, record, link)
    return [_read_element(value, position, limits, record, link)]


def too_large(record: Record, limits: Limits) -> Refusal | None:
    """Return the refusal of a record that is larger than allowed, else None."""
    size = len(record.value or b"")
    if size <= limits.max_record_bytes:
        return None
    return refused_record(record, Reason.TOO_LARGE, f"at most {limits.max_record_bytes} bytes allowed, was {size}")


def refused_record(record: Record, reason: Reason, detail: str) -> Refusal:
    """Refuse a record as a whole.

    Nothing in it was read, but its key may name an item.
    """
    return refusal(Position(record.topic, record.partition, record.offset), reason, detail, record, {})


def _read_array(value: bytes, position: Position, limits: Limits, record: Record, link: Link) -> list[Element]:
    try:
        parts = split(value, limits.max_elements)
    except NotAnArray as error:
        return [refused_record(record, Reason.MALFORMED, f"not JSON: {error}")]
    except TooManyElements as error:
        return [refused_record(record, Reason.TOO_LARGE, f"array: {error}")]
    unkeyed = replace(record, key=None)  # the record's key need not be that of a faulty element
    places = (replace(position, index=index) for index in range(len(parts)))
    return [
        replace(_read_element(part, place, limits, unkeyed, link), part=part)
        for part, place in zip(parts, places, strict=True)
    ]


def _read_element(value: bytes, position: Position, limits: Limits, record: Record, link: Link) -> Element:
    """Parse one JSON object into one element."""
    try:
        item = link(RAW.validate_json(value))
    except ValidationError as error:
        fields = fields_of(value)
        return refusal(position, *explain(error, value, fields), record, fields)
    expected_key = f"{item.source}:{item.source_item_id}"
    readable = Readable(position, item)
    if item.item_key != expected_key:
        detail = f"item_key is source:source_item_id, {quoted(expected_key)}, was {quoted(item.item_key)}"
        return readable.refused(Reason.MALFORMED, detail)
    return element_of(item, position, limits)


def element_of(item: RawNews | RawTweet, position: Position, limits: Limits) -> Element:
    """Return the element of a valid item: readable, deleted or refused."""
    readable = Readable(position, item)
    if item.action is Action.DELETE:
        return readable.deletion()
    if (language := primary_language(item.lang)) and limits.languages and language not in limits.languages:
        return readable.refused(
            Reason.LANGUAGE, f"lang: one of {', '.join(limits.languages)} read, was {quoted(item.lang)}"
        )
    if limits.max_age_us is not None and item.published_us is not None:
        age_us = item.ingested_us - item.published_us
        if age_us > limits.max_age_us:
            return readable.refused(Reason.STALE, f"at most {limits.max_age_us} us old allowed, was {age_us}")
    return readable


def text_of(item: RawNews | RawTweet) -> Text:
    """Return the item's texts, most important first.

    The first is the headline, even where it is empty.
    """
    if isinstance(item, RawTweet):
        return Text((item.text or "",))
    further = tuple(part for part in (item.summary, item.body) if part)
    return Text((item.headline or "", *further), html=item.body_format == "html")


def symbols_of(item: RawNews | RawTweet) -> tuple[Symbol, ...]:
    """Return the provider's symbols, and a tweet's cashtags missing among them.

    Each symbol comes once; its first mention wins.
    """
    found: dict[str, Symbol] = {}
    for symbol in item.symbols:
        found.setdefault(symbol.symbol, symbol)
    if isinstance(item, RawTweet):
        for tag in item.cashtags:
            with suppress(ValueError):  # a typed cashtag need not be a valid symbol
                name = canonical_symbol(tag)
                found.setdefault(name, Symbol(symbol=name, origin="cashtag"))
    return tuple(found.values())


def _tombstone(record: Record, position: Position) -> Element:
    item_key = key_text(record.key)
    if not record.key:
        return Refusal(position, Reason.MISSING_FIELD, "key: a null record is a delete and needs the item_key as key")
    if item_key is None:
        detail = f"key: not UTF-8 of at most {LONGEST_ITEM_KEY} characters, and a null record is a delete of its key"
        return Refusal(position, Reason.MALFORMED, detail)
    at_us = plausible_us(record.timestamp_us)
    if at_us is None:
        detail = f"timestamp: not usable, was {record.timestamp_us}"
        return Refusal(position, Reason.BAD_TIME, detail, item_key, Deletion(position, item_key, 0, None))
    return Deletion(position, item_key, at_us, at_us)


def refusal(position: Position, reason: Reason, detail: str, record: Record, fields: Mapping[str, Any]) -> Refusal:
    """Refuse an invalid element, recovering its key, revision and time if possible."""
    item_key = item_key_of(fields.get("item_key")) or item_key_of(key_text(record.key))
    if item_key is None:
        return Refusal(position, reason, detail)
    ingested_us = plausible_us(fields.get("ingested_us")) or plausible_us(record.timestamp_us)
    revision, kind = revision_of(fields)
    refused = refused_action(fields.get("action"))
    retraction = Deletion(position, item_key, revision, ingested_us, kind=kind, refused=refused)
    return Refusal(position, reason, detail, item_key, retraction)
