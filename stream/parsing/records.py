"""Record -> what it says: items to read, deletions, or the reason why it cannot be read. Pure functions.

A record holds one item, or a JSON array of items; every element becomes exactly one outcome. A refused element whose
item_key is known also takes back what stood before it: its source has replaced that text by one that cannot be read.
Nobody here knows what was published before, so this holds for every refusal.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from pydantic import ValidationError

from earlybird.engine.text.assembly import Text
from earlybird.schemas.base import INT64_MAX
from earlybird.schemas.raw import RAW, Action, RawNews, RawTweet, RevisionKind, Symbol
from earlybird.schemas.rejection import Reason
from earlybird.schemas.symbols import canonical_symbol
from earlybird.stream.parsing.elements import NotAnArray, TooManyElements, is_array, split
from earlybird.stream.parsing.languages import primary_language
from earlybird.stream.parsing.validation import explain, fields_of, quoted
from earlybird.stream.ports import Position, Record
from earlybird.stream.timeline.instants import plausible_us

LONGEST_ITEM_KEY = 512  # as RawItem has it


@dataclass(frozen=True, slots=True)
class Readable:
    """An item with text for the model."""

    position: Position
    item: RawNews | RawTweet
    part: bytes | None = None  # its own bytes, where it is an element of an array

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
        """What takes this item back, by its source's word or because this version of it cannot be read."""
        item = self.item
        return Deletion(
            self.position,
            item.item_key,
            item.effective_revision,
            item.ingested_us,
            item,
            self.part,
            item.revision_kind,
            _refused(item.action),
        )

    def refused(self, reason: Reason, detail: str) -> "Refusal":
        """The refusal of an item that was understood."""
        return Refusal(self.position, reason, detail, self.item.item_key, self.deletion(), self.part)


@dataclass(frozen=True, slots=True)
class Deletion:
    """What stood of an item is taken back; a bare null record says no more than the key."""

    position: Position
    item_key: str
    revision: int
    ingested_us: int | None  # None: neither the item nor the broker says when
    item: RawNews | RawTweet | None = None
    part: bytes | None = None
    kind: RevisionKind = RevisionKind.NONE
    refused: Literal["create", "update"] | None = None  # no delete: a version that cannot be read

    @property
    def item_type(self) -> str:
        """unknown for a bare null record."""
        return "unknown" if self.item is None else self.item.item_type


@dataclass(frozen=True, slots=True)
class Refusal:
    """An element that cannot become a signal, and what takes back the earlier text of its item."""

    item_type: ClassVar[str] = "unknown"
    ingested_us: ClassVar[None] = None

    position: Position
    reason: Reason
    detail: str
    item_key: str | None = None
    retraction: Deletion | None = None
    part: bytes | None = None


Element = Readable | Deletion | Refusal


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused before the model sees it. All decided on recorded values, so that a replay decides alike."""

    max_record_bytes: int = 1_048_576
    max_elements: int = 4_096  # of one array; a larger one is refused as a whole
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
        return [refused_record(record, Reason.TOO_LARGE, detail)]
    if is_array(value):
        return _read_array(value, position, limits, record)
    return [_read_element(value, position, limits, record)]


def refused_record(record: Record, reason: Reason, detail: str) -> Refusal:
    """The refusal of a record as a whole: nothing in it was read, but its key may name an item."""
    return _refusal(Position(record.topic, record.partition, record.offset), reason, detail, record, {})


def _read_array(value: bytes, position: Position, limits: Limits, record: Record) -> list[Element]:
    try:
        parts = split(value, limits.max_elements)
    except NotAnArray as error:
        return [refused_record(record, Reason.MALFORMED, f"not JSON: {error}")]
    except TooManyElements as error:
        return [refused_record(record, Reason.TOO_LARGE, f"array: {error}")]
    unkeyed = replace(record, key=None)  # its key need not be that of the element at fault
    places = (replace(position, index=index) for index in range(len(parts)))
    return [
        replace(_read_element(part, place, limits, unkeyed), part=part)
        for part, place in zip(parts, places, strict=True)
    ]


def _read_element(value: bytes, position: Position, limits: Limits, record: Record) -> Element:
    """One JSON object -> one element."""
    try:
        item = RAW.validate_json(value)
    except ValidationError as error:
        fields = fields_of(value)
        return _refusal(position, *explain(error, value, fields), record, fields)
    expected_key = f"{item.source}:{item.source_item_id}"
    readable = Readable(position, item)
    if item.item_key != expected_key:
        detail = f"item_key is source:source_item_id, {quoted(expected_key)}, was {quoted(item.item_key)}"
        return readable.refused(Reason.MALFORMED, detail)
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
    """The readable parts, most important first; the first is the headline, also where it is empty."""
    if isinstance(item, RawTweet):
        return Text((item.text or "",))
    further = tuple(part for part in (item.summary, item.body) if part)
    return Text((item.headline or "", *further), html=item.body_format == "html")


def symbols_of(item: RawNews | RawTweet) -> tuple[Symbol, ...]:
    """The provider's symbols, and a tweet's cashtags it did not list; each symbol once, the first mention wins."""
    found: dict[str, Symbol] = {}
    for symbol in item.symbols:
        found.setdefault(symbol.symbol, symbol)
    if isinstance(item, RawTweet):
        for tag in item.cashtags:
            with suppress(ValueError):  # what the author typed may name nothing
                name = canonical_symbol(tag)
                found.setdefault(name, Symbol(symbol=name, origin="cashtag"))
    return tuple(found.values())


def _tombstone(record: Record, position: Position) -> Element:
    item_key = _key_text(record.key)
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


def _key_text(key: bytes | None) -> str | None:
    """The item_key that a record's key can be."""
    try:
        text = (key or b"").decode()
    except UnicodeDecodeError:
        return None
    return text if 0 < len(text) <= LONGEST_ITEM_KEY else None


def _refusal(position: Position, reason: Reason, detail: str, record: Record, fields: Mapping[str, Any]) -> Refusal:
    """Refuse an element that did not validate, by what can still be seen of it: its key, its revision, its time."""
    item_key = _item_key(fields.get("item_key")) or _item_key(_key_text(record.key))
    if item_key is None:
        return Refusal(position, reason, detail)
    ingested_us = plausible_us(fields.get("ingested_us")) or plausible_us(record.timestamp_us)
    revision, kind = _revision(fields)
    refused = _refused(fields.get("action"))
    retraction = Deletion(position, item_key, revision, ingested_us, kind=kind, refused=refused)
    return Refusal(position, reason, detail, item_key, retraction)


def _refused(action: object) -> Literal["create", "update"] | None:
    if action == Action.DELETE:
        return None
    return "update" if action == Action.UPDATE else "create"


def _item_key(value: object) -> str | None:
    """`source:source_item_id`, if this has that form."""
    if not isinstance(value, str) or len(value) > LONGEST_ITEM_KEY or not value.isprintable():
        return None
    source, colon, item_id = value.partition(":")
    return value if source and colon and item_id else None


def _revision(fields: Mapping[str, Any]) -> tuple[int, RevisionKind]:
    """As RawItem's, of those that are valid."""
    revision = fields.get("revision")
    if type(revision) is int and 0 <= revision <= INT64_MAX:
        return revision, RevisionKind.COUNTER
    for kind in (RevisionKind.UPDATED, RevisionKind.PUBLISHED):
        if (at_us := plausible_us(fields.get(kind.value))) is not None:
            return at_us, kind
    return 0, RevisionKind.NONE
