"""Publishing of text files: read, merge by availability, pace and send.

No line is lost: each is published or reported.
"""

import heapq
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

from pydantic import ValidationError

from earlybird.schemas.raw import RAW
from earlybird.stream.errors import FeedError, RecordTooLarge, SinkError, StreamError
from earlybird.stream.parsing.validation import explain, fields_of
from earlybird.stream.ports import Outgoing, Sink
from earlybird.stream.publishing.compression import DAMAGED, unpacked
from earlybird.stream.publishing.field_map import FieldMap, UnmappableError
from earlybird.stream.publishing.lines import feed_lines
from earlybird.stream.publishing.tally import Tally

TOPICS = {"news": "news.raw", "tweet": "tweets.raw"}
"""Topic by item type, unless one topic is given for all."""

BACK_DATED_US = 3_600_000_000
"""A record older than this is history: a topic with time-based retention may delete it at once."""

AHEAD_US = 3_600_000_000
"""A record dated further ahead is refused, here and by brokers (message.timestamp.after.max.ms)."""

_LONGEST_SILENCE_S = 60.0
_LAST_SILENCE_S = 5.0  # for records in flight after a stop
_MOST_OPEN = 10_000  # well below the client's queue: with a full one, `send` blocks and ignores a stop
_NO_INGEST_TIME = (
    "no ingest time. Map one (--map ingested_us=...), or say with --assume-delay SECONDS how long after publication a "
    "text was available to trade on; for a live feed through a pipe, --arriving"
)


@dataclass(frozen=True, slots=True)
class FeedItem:
    """One record to publish.

    `at_us` is its item's ingested_us, `place` is FILE:LINE.
    """

    place: str
    topic: str
    key: bytes
    value: bytes
    at_us: int


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be published, and the reason.

    `at_us` is the time of the previous line.
    """

    place: str
    why: str
    at_us: int = 0


@dataclass(frozen=True, slots=True)
class LineFormat:
    """Interpretation of a line.

    Without `fields` a line is a raw item already. A missing ingest time is replaced by published + `assume_delay_us`
    (marked as assumed), or by the present if the line `arrives` as it is read (marked as observed). `topic` overrides
    TOPICS. Raises FeedError if no line could have an ingest time.
    """

    fields: FieldMap | None = None
    assume_delay_us: int | None = None
    topic: str | None = None
    arrives: bool = False
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000

    def __post_init__(self) -> None:
        if self.fields is not None and not (self._stamps or self.fields.maps("ingested_us")):
            raise FeedError(_NO_INGEST_TIME)

    def item(self, content: bytes, place: str, *, first: bool = False) -> FeedItem | BadLine:
        """Return the item of one line, or a bad line.

        Raises FeedError if the `first` line of an unmapped file has no ingest time: most likely no line has one.
        """
        try:
            record = json.loads(content)
        except (ValueError, RecursionError) as error:
            return BadLine(place, f"no JSON: {error}")
        if not isinstance(record, dict):
            return BadLine(place, f"an object expected, was {type(record).__name__}")
        try:
            fields = record if self.fields is None else self.fields.item(record)
            changed = self.fields is not None
            if fields.get("ingested_us") is None:
                if first and self.fields is None and not self._stamps:
                    raise FeedError(f"{place}: {_NO_INGEST_TIME}")
                fields, changed = self._with_ingest(fields), True
            value = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() if changed else content
            item = RAW.validate_json(value)
        except ValidationError as error:
            return BadLine(place, explain(error, value, fields_of(value))[1])
        except (UnmappableError, ValueError, RecursionError) as error:  # also values that Python cannot write as JSON
            return BadLine(place, str(error))
        if item.ingested_us > self.now_us() + AHEAD_US:
            return BadLine(place, f"ingested_us: more than an hour ahead of now, was {item.ingested_us}")
        topic = self.topic or TOPICS[item.item_type]
        return FeedItem(place, topic, item.item_key.encode(), value, item.ingested_us)

    @property
    def _stamps(self) -> bool:
        return self.arrives or self.assume_delay_us is not None

    def _with_ingest(self, fields: dict[str, object]) -> dict[str, object]:
        if self.arrives:
            return {**fields, "ingested_us": self.now_us(), "ingested_origin": "observed"}
        if self.assume_delay_us is None:
            raise UnmappableError("ingested_us: none, and no --assume-delay for lines without one")
        published_us = fields.get("published_us")
        if not isinstance(published_us, int):
            raise UnmappableError("published_us: none, so no ingest time can be assumed")
        return {**fields, "ingested_us": published_us + self.assume_delay_us, "ingested_origin": "assumed"}


class FeedFile:
    """Lines of one file: plain, .gz, .zst, or `-` for stdin.

    Iterate only once.
    """

    def __init__(self, path: Path) -> None:
        """Open the file. Raises FeedError when it cannot be opened."""
        self.path = path
        self.name = str(path)  # the whole path: files in several folders may share a name
        self.finished = False  # every line was yielded
        try:
            self._raw: IO[bytes] = sys.stdin.buffer if str(path) == "-" else path.open("rb")
            self.size = 0 if str(path) == "-" else path.stat().st_size
        except OSError as error:
            raise FeedError(f"{path}: {error.strerror}") from None

    @property
    def position(self) -> int:
        """Bytes of the file (as stored) read so far; at most `size`."""
        return self._raw.tell() if self.size and not self._raw.closed else self.size

    def close(self) -> None:
        """Close the file, read to its end or not."""
        self._raw.close()

    def items(self, form: LineFormat) -> Iterator[FeedItem | BadLine]:
        """Yield the item of every line, without empty lines."""
        at_us, first = 0, True
        try:
            with self._raw, unpacked(self._raw, self.path.suffix) as lines:
                for number, content in feed_lines(lines):
                    item = form.item(content, f"{self.name}:{number}", first=first)
                    if isinstance(item, BadLine):
                        item = BadLine(item.place, item.why, at_us)
                    at_us, first = item.at_us, False
                    yield item
        except DAMAGED as error:
            raise FeedError(f"{self.path}: {error}") from None
        self.finished = True


def merged(files: Sequence[FeedFile], form: LineFormat) -> Iterator[FeedItem | BadLine]:
    """Merge the lines of all files by the time their items became available.

    Each file keeps its own order.
    """
    return heapq.merge(*(file.items(form) for file in files), key=lambda line: line.at_us)


@dataclass(frozen=True, slots=True)
class Pace:
    """Due times of items, in seconds after the first.

    `speed` divides the recorded intervals, `rate` is items per second; with neither, all are due at once.
    """

    speed: float | None = None
    rate: float | None = None

    def due_s(self, index: int, since_first_us: int) -> float:
        """Return when item `index`, recorded `since_first_us` after the first, is due."""
        if self.rate is not None:
            return index / self.rate
        return 0.0 if self.speed is None else since_first_us / 1e6 / self.speed


def publish(
    lines: Iterable[FeedItem | BadLine],
    sink: Sink,
    *,
    pace: Pace = Pace(),
    timestamps: Literal["recorded", "now"] = "recorded",
    limit: int | None = None,
    on_line: Callable[[FeedItem | BadLine], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    now_s: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
    tally: Tally | None = None,
) -> Tally:
    """Publish every item and wait until the broker has acknowledged all.

    Returns early when `stop` returns True. `on_line` is called with each line just before it is sent; an item that is
    too large for a message is passed to it again, as a bad line.

    Raises SinkError when a record cannot be delivered, FeedError when the broker has acknowledged nothing for a minute.
    In every case the given `tally` is right: records in flight are awaited, for up to 5 s without an acknowledgement.
    """
    tally, start_s, first_us = Tally() if tally is None else tally, now_s(), None
    try:
        for line in lines:
            if stop() or (limit is not None and tally.texts >= limit):
                break
            if isinstance(line, BadLine):
                on_line(line)
                tally.bad_lines += 1
                continue
            first_us = line.at_us if first_us is None else first_us
            _await(start_s + pace.due_s(tally.texts, line.at_us - first_us), sink, tally, now_s, wait, stop)
            if stop():
                break
            on_line(line)
            stamp_us = line.at_us if timestamps == "recorded" else None
            try:
                sink.send(Outgoing(line.topic, line.key, line.value, timestamp_us=stamp_us), receipt=tally.texts)
            except RecordTooLarge as error:
                on_line(BadLine(line.place, str(error), line.at_us))
                tally.bad_lines += 1
                continue
            tally.send(line.topic, line.place)
            if tally.texts % 256 == 0:
                tally.settle(sink.receipts())
            while len(tally.open) >= _MOST_OPEN and not stop():
                tally.settle(sink.receipts(timeout_ms=100))
        _settle(sink, tally, now_s, stop)
    except StreamError as error:
        with suppress(StreamError):
            _settle(sink, tally, now_s, stop=lambda: True)
        if isinstance(error, SinkError) and (there := tally.open.get(cast(int, error.receipt))):
            raise SinkError(f"{there[1]}: {error}", error.receipt) from error
        raise
    finally:
        tally.seconds = now_s() - start_s
    return tally


def _await(
    due_s: float,
    sink: Sink,
    tally: Tally,
    now_s: Callable[[], float],
    wait: Callable[[float], None],
    stop: Callable[[], bool],
) -> None:
    while (left_s := due_s - now_s()) > 0 and not stop():
        tally.settle(sink.receipts())
        wait(min(left_s, 0.05))


def _settle(sink: Sink, tally: Tally, now_s: Callable[[], float], stop: Callable[[], bool]) -> None:
    heard_s = now_s()
    while tally.open:
        if tally.settle(sink.receipts(timeout_ms=100)):
            heard_s = now_s()
            continue
        silent_s = now_s() - heard_s
        if stop() and silent_s > _LAST_SILENCE_S:
            return
        if silent_s > _LONGEST_SILENCE_S:
            left = len(tally.open)
            raise FeedError(f"the broker acknowledged nothing for {_LONGEST_SILENCE_S:.0f} s, {left} records are open")
