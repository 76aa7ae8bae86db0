"""Interpretation of a feed's lines: the items they hold, and when these were available."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from earlybird.schemas.raw import RAW, Action, RawNews, RawTweet
from earlybird.schemas.rejection import Reason
from earlybird.stream.errors import FeedError
from earlybird.stream.feeds.base import Parsed, Refused, Skipped
from earlybird.stream.feeds.seen import FeedParser
from earlybird.stream.parsing.validation import explain, fields_of
from earlybird.stream.publishing.field_map import FieldMap
from earlybird.stream.publishing.queries import Selection, UnmappableError

TOPICS = {"news": "news.raw", "tweet": "tweets.raw"}
"""Topic by item type, unless one topic is given for all."""

AHEAD_US = 3_600_000_000
"""A record dated further ahead is refused, here and by brokers (message.timestamp.after.max.ms)."""

_NEWS_TEXT, _TWEET_TEXT = ("headline", "summary", "body"), ("text",)
_NO_INGEST_TIME = (
    "no ingest time. Map one (--map ingested_us=...), or say with --assume-delay SECONDS how long after publication a "
    "text was available to trade on; for a live feed through a pipe, --ingested now"
)


@dataclass(frozen=True, slots=True)
class FeedItem:
    """One record to publish.

    `at_us` is its item's ingested_us, `place` is FILE:LINE. `lines`: at which line to go on before it is acknowledged,
    and at which once it is; None: at its own, and at the next.
    """

    place: str
    topic: str
    key: bytes
    value: bytes
    at_us: int
    lines: tuple[int, int] | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line, or an item of one, that cannot be published, and the reason.

    `at_us` is the time of the previous line.
    """

    place: str
    why: str
    at_us: int = 0


@dataclass(frozen=True, slots=True)
class SkippedLine:
    """A line without an item that is no fault.

    It was not selected, or is a control message, or its item was seen before. `at_us` is the time of the previous line.
    """

    place: str
    at_us: int = 0


Line = FeedItem | BadLine | SkippedLine


@dataclass(frozen=True, slots=True)
class LineFormat:
    """Interpretation of a line.

    With `fields` an item is mapped, with `parser` a vendor's record; with neither it is a raw item already. A missing
    ingest time is replaced by the time of publication or, if later, of the edit, plus `assume_delay_us` (marked as
    assumed), or by the present if items are `ingested_now`, as they are read (marked as observed). `topic` overrides
    TOPICS. Raises FeedError if no line could have an ingest time.
    """

    fields: FieldMap | None = None
    assume_delay_us: int | None = None
    topic: str | None = None
    ingested_now: bool = False
    selection: Selection | None = None
    parser: FeedParser | None = None
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000

    def __post_init__(self) -> None:
        if self.parser is not None and self.fields is not None and self.fields.targets != {"ingested_us"}:
            raise FeedError("--preset: a vendor's preset knows its fields; beside it only ingested_us can be mapped")
        mapped = self.fields is not None and "ingested_us" in self.fields.targets
        if (self.fields is not None or self.parser is not None) and not (self._stamps or mapped):
            raise FeedError(_NO_INGEST_TIME)

    @property
    def held(self) -> int:
        """Number of lines whose content waits for a later line."""
        return 0 if self.parser is None else self.parser.held

    def lines(self, content: bytes, place: str, *, first: bool = False) -> list[Line]:
        """Return what one line holds, at least one element.

        An array is as many lines as it has elements. Raises FeedError if the `first` line of an unmapped file has no
        ingest time: most likely no line has one.
        """
        if self.parser is not None and self.selection is None:
            return list(self._vendor(self._parsed(content), content, place))
        try:
            record = json.loads(content)
        except (ValueError, RecursionError) as error:
            return [BadLine(place, f"no JSON: {error}")]
        if not isinstance(record, list):
            return list(self._selected(record, content, place, first))
        return [line for part in record for line in self._selected(part, None, place, first)] or [SkippedLine(place)]

    def rest(self, place: str) -> list[Line]:
        """Return a bad line for each story that the feed never completed."""
        return [] if self.parser is None else list(self._vendor(self.parser.rest(), b"", place))

    def _selected(self, line: object, content: bytes | None, place: str, first: bool) -> Iterator[Line]:
        """Yield the items of a decoded line.

        `content` is what it was decoded from, unless that held more.
        """
        if not isinstance(line, dict):
            yield BadLine(place, f"an object expected, was {type(line).__name__}")
            return
        try:
            items = [line] if self.selection is None else self.selection.items(line)
        except UnmappableError as error:
            yield BadLine(place, str(error))
            return
        if not items:
            yield SkippedLine(place)
        for item in items:
            if not isinstance(item, dict):
                yield BadLine(place, f"--each: objects expected, was {type(item).__name__}")
            elif self.parser is not None:
                value = _json(item)
                yield from self._vendor(self._parsed(value), value, place)
            else:
                yield self._item(item, content if item is line else None, place, first)

    def _item(self, record: dict[str, Any], content: bytes | None, place: str, first: bool) -> FeedItem | BadLine:
        value = b""
        try:
            fields = record if self.fields is None else self.fields.item(record)
            if fields.get("ingested_us") is None:
                if first and self.fields is None and not self._stamps:
                    raise FeedError(f"{place}: {_NO_INGEST_TIME}")
                fields = fields | self._ingest(fields.get("published_us"), fields.get("updated_us"))
            value = content if content is not None and fields is record else _json(fields)
            item = RAW.validate_json(value)
        except ValidationError as error:
            return BadLine(place, explain(error, value, fields_of(value))[1])
        except (UnmappableError, ValueError, RecursionError) as error:  # also values that Python cannot write as JSON
            return BadLine(place, str(error))
        return self._outgoing(item, value, place)

    def _parsed(self, content: bytes) -> list[Parsed]:
        assert self.parser is not None, "no parser. This is a bug."
        try:
            return list(self.parser(content, self.now_us()))
        except Exception as error:  # a house's own parser: no record of it stops the feed
            return [Parsed(Refused(Reason.POISON, f"the parser failed: {type(error).__name__}"))]

    def _vendor(self, results: list[Parsed], content: bytes, place: str) -> Iterator[Line]:
        for parsed in results:
            match parsed.result:
                case Skipped():
                    yield SkippedLine(place)
                case Refused(detail=detail):
                    yield BadLine(place, detail)
                case RawNews() | RawTweet() as item:
                    try:
                        stamped = self._stamped(item, parsed.part or content)
                    except (UnmappableError, ValueError) as error:
                        yield BadLine(place, str(error))
                    else:
                        yield self._outgoing(stamped, stamped.model_dump_json(exclude_none=True).encode(), place)

    def _stamped(self, item: RawNews | RawTweet, content: bytes) -> RawNews | RawTweet:
        if self.fields is not None:
            found = self.fields.values(json.loads(content)).get("ingested_us")
            if found is not None:
                return item.model_copy(update={"ingested_us": found})
        return item if self.ingested_now else item.model_copy(update=self._ingest(item.published_us, item.updated_us))

    def _outgoing(self, item: RawNews | RawTweet, value: bytes, place: str) -> FeedItem | BadLine:
        names = _NEWS_TEXT if isinstance(item, RawNews) else _TWEET_TEXT
        if item.action is Action.CREATE and not any((getattr(item, name) or "").strip() for name in names):
            return BadLine(place, f"no text: nothing in {', '.join(names)}")
        if item.ingested_us > self.now_us() + AHEAD_US:
            return BadLine(place, f"ingested_us: more than an hour ahead of now, was {item.ingested_us}")
        topic = self.topic or TOPICS[item.item_type]
        return FeedItem(place, topic, item.item_key.encode(), value, item.ingested_us)

    @property
    def _stamps(self) -> bool:
        return self.ingested_now or self.assume_delay_us is not None

    def _ingest(self, published_us: object, updated_us: object) -> dict[str, Any]:
        """Return ingest time and origin of an item that has none.

        An edit was not available before it was made.
        """
        if self.ingested_now:
            return {"ingested_us": self.now_us(), "ingested_origin": "observed"}
        if self.assume_delay_us is None:
            raise UnmappableError("ingested_us: none, and no --assume-delay for lines without one")
        known = [at_us for at_us in (published_us, updated_us) if isinstance(at_us, int)]
        if not known:
            raise UnmappableError("published_us: none, so no ingest time can be assumed")
        return {"ingested_us": max(known) + self.assume_delay_us, "ingested_origin": "assumed"}


def _json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
