"""Record -> what it says: items to read, deletions, or the reason why it cannot be read. Pure functions.

A record holds one item, or a JSON array of items; every element becomes exactly one outcome.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pydantic import ValidationError

from engine.text.assembly import Text
from schemas.base import EARLIEST_US, LATEST_US
from schemas.raw import RAW, Action, RawNews, RawTweet, Symbol
from schemas.rejection import Reason
from stream.elements import NotAnArray, TooManyElements, is_array, split
from stream.instants import plausible_us
from stream.languages import primary_language
from stream.ports import Position, Record
from stream.validation import explain, fields_of, quoted

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
        """What takes this item back."""
        item = self.item
        return Deletion(self.position, item.item_key, item.effective_revision, item.ingested_us, item, self.part)

    def refused(self, reason: Reason, detail: str) -> "Refusal":
        """The refusal of an item that was understood; an update's refusal retracts the earlier text."""
        update = self.item.action is Action.UPDATE
        retraction = self.deletion() if update else None
        return Refusal(self.position, reason, detail, self.item.item_key, retraction, self.part)


@dataclass(frozen=True, slots=True)
class Deletion:
    """The source took its item back; a bare null record says no more than the key."""

    position: Position
    item_key: str
    revision: int
    ingested_us: int
    item: RawNews | RawTweet | None = None
    part: bytes | None = None

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
        return [Refusal(position, Reason.TOO_LARGE, detail, _key_text(record.key))]
    return _read_array(value, position, limits) if is_array(value) else [read_element(value, position, limits)]


def _read_array(value: bytes, position: Position, limits: Limits) -> list[Element]:
    try:
        parts = split(value, limits.max_elements)
    except NotAnArray as error:
        return [Refusal(position, Reason.MALFORMED, f"not JSON: {error}")]
    except TooManyElements as error:
        return [Refusal(position, Reason.TOO_LARGE, f"array: {error}")]
    places = (replace(position, index=index) for index in range(len(parts)))
    return [replace(read_element(part, place, limits), part=part) for part, place in zip(parts, places, strict=True)]


def read_element(value: bytes, position: Position, limits: Limits) -> Element:
    """One JSON object -> one element."""
    try:
        item = RAW.validate_json(value)
    except ValidationError as error:
        return _refuse(value, position, error)
    expected_key = f"{item.source}:{item.source_item_id}"
    if item.item_key != expected_key:
        detail = f"item_key is source:source_item_id, {quoted(expected_key)}, was {quoted(item.item_key)}"
        return Refusal(position, Reason.MALFORMED, detail, item.item_key)
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


def _tombstone(record: Record, position: Position) -> Element:
    item_key = _key_text(record.key)
    if not record.key:
        return Refusal(position, Reason.MISSING_FIELD, "key: a null record is a delete and needs the item_key as key")
    if item_key is None:
        detail = f"key: not UTF-8 of at most {LONGEST_ITEM_KEY} characters, and a null record is a delete of its key"
        return Refusal(position, Reason.MALFORMED, detail)
    if record.timestamp_us is None or not EARLIEST_US <= record.timestamp_us <= LATEST_US:
        return Refusal(position, Reason.BAD_TIME, f"timestamp: not usable, was {record.timestamp_us}", item_key)
    return Deletion(position, item_key, record.timestamp_us, record.timestamp_us)


def _key_text(key: bytes | None) -> str | None:
    """The item_key that a record's key can be."""
    try:
        text = (key or b"").decode()
    except UnicodeDecodeError:
        return None
    return text if 0 < len(text) <= LONGEST_ITEM_KEY else None


def _refuse(value: bytes, position: Position, error: ValidationError) -> Refusal:
    """Refuse an element that did not validate. What can still be seen of it (its key; that it is an update, and
    which) is used, so that a strategy does not go on trading on a text that its source has replaced."""
    fields = fields_of(value)
    reason, detail = explain(error, value, fields)
    item_key = fields.get("item_key")
    if not isinstance(item_key, str) or not 0 < len(item_key) <= LONGEST_ITEM_KEY or not item_key.isprintable():
        return Refusal(position, reason, detail)
    ingested_us = plausible_us(fields.get("ingested_us"))
    revision = _count(fields.get("revision")) or plausible_us(fields.get("updated_us"))
    if fields.get("action") != Action.UPDATE or ingested_us is None or revision is None:
        return Refusal(position, reason, detail, item_key)
    return Refusal(position, reason, detail, item_key, Deletion(position, item_key, revision, ingested_us))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None
