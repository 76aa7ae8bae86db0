"""Files of texts to raw topics: read, merge by the instant each became available, pace, publish; no line is lost."""

import gzip
import heapq
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, cast

from pydantic import ValidationError

from schemas.codec import describe
from schemas.raw import RAW
from stream.errors import FeedError
from stream.field_map import FieldMap, UnmappableError
from stream.ports import Outgoing, Sink

TOPICS = {"news": "news.raw", "tweet": "tweets.raw"}
"""Where an item goes by its type, unless one topic is named for all."""

BACK_DATED_US = 3_600_000_000
"""A record dated longer ago than this is history; a topic that deletes by time may delete it at once."""

_LONGEST_SILENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class FeedItem:
    """One record to publish; `at_us` is its item's ingested_us, `place` is FILE:LINE."""

    place: str
    topic: str
    key: bytes
    value: bytes
    at_us: int


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be published, and why. `at_us` is the time of the line before it."""

    place: str
    why: str
    at_us: int = 0


@dataclass(frozen=True, slots=True)
class LineFormat:
    """What a line means. Without `fields` it is a raw item already; `assume_delay_us` stands in for a missing ingest
    time (published + delay, marked as assumed); `topic` overrides TOPICS."""

    fields: FieldMap | None = None
    assume_delay_us: int | None = None
    topic: str | None = None

    def item(self, content: bytes, place: str) -> FeedItem | BadLine:
        """One line. Raises FeedError when the whole file lacks ingest times and no delay was given for them."""
        try:
            record = json.loads(content)
        except ValueError as error:
            return BadLine(place, f"no JSON: {error}")
        if not isinstance(record, dict):
            return BadLine(place, f"an object expected, was {type(record).__name__}")
        try:
            fields = record if self.fields is None else self.fields.item(record)
            changed = self.fields is not None
            if fields.get("ingested_us") is None:
                fields, changed = self._with_assumed_ingest(fields, place), True
            value = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() if changed else content
            item = RAW.validate_json(value)
        except (UnmappableError, UnicodeEncodeError) as error:
            return BadLine(place, str(error))
        except ValidationError as error:
            return BadLine(place, describe(error))
        topic = self.topic or TOPICS[item.item_type]
        return FeedItem(place, topic, item.item_key.encode(), value, item.ingested_us)

    def _with_assumed_ingest(self, fields: dict[str, object], place: str) -> dict[str, object]:
        if self.assume_delay_us is None:
            raise FeedError(
                f"{place}: no ingest time. Map one (--map ingested_us=...), or say with --assume-delay SECONDS "
                "how long after publication a text was available to trade on"
            )
        published_us = fields.get("published_us")
        if not isinstance(published_us, int):
            raise UnmappableError("published_us: none, so no ingest time can be assumed")
        return {**fields, "ingested_us": published_us + self.assume_delay_us, "ingested_origin": "assumed"}


class FeedFile:
    """Lines of one file: plain, .gz, .zst, or `-` for stdin. Iterate once."""

    def __init__(self, path: Path) -> None:
        """Raises FeedError when it cannot be opened."""
        self.path = path
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
        """Let go of the file, read to its end or not."""
        self._raw.close()

    def items(self, form: LineFormat) -> Iterator[FeedItem | BadLine]:
        """Every line's item, empty lines aside."""
        name, at_us = self.path.name, 0
        try:
            with self._raw, self._unpacked() as lines:
                for number, content in enumerate(lines, 1):
                    if content.strip():
                        item = form.item(content.strip(), f"{name}:{number}")
                        if isinstance(item, BadLine):
                            item = BadLine(item.place, item.why, at_us)
                        at_us = item.at_us
                        yield item
        except (OSError, EOFError) as error:  # a cut or damaged archive
            raise FeedError(f"{self.path}: {error}") from None

    def _unpacked(self) -> IO[bytes]:
        if self.path.suffix == ".gz":
            return cast(IO[bytes], gzip.open(self._raw))
        if self.path.suffix == ".zst":
            import io

            import zstandard

            return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(self._raw, read_across_frames=True))
        return self._raw


def merged(files: Sequence[FeedFile], form: LineFormat) -> Iterator[FeedItem | BadLine]:
    """All lines of all files by the instant their items became available; each file in its own order."""
    return heapq.merge(*(file.items(form) for file in files), key=lambda line: line.at_us)


@dataclass(frozen=True, slots=True)
class Pace:
    """When an item is due, in seconds after the first. `speed` plays recorded times so much faster, `rate` is items a
    second, neither means at once."""

    speed: float | None = None
    rate: float | None = None

    def due_s(self, index: int, since_first_us: int) -> float:
        """The due time of item `index`, recorded `since_first_us` after the first one."""
        if self.rate is not None:
            return index / self.rate
        return 0.0 if self.speed is None else since_first_us / 1e6 / self.speed


@dataclass(slots=True)
class Tally:
    """What became of the lines."""

    topics: Counter[str] = field(default_factory=Counter)
    bad_lines: int = 0
    acknowledged: int = 0
    seconds: float = 0.0

    @property
    def texts(self) -> int:
        """Records handed to the broker."""
        return sum(self.topics.values())


def publish(
    lines: Iterable[FeedItem | BadLine],
    sink: Sink,
    *,
    pace: Pace = Pace(),
    timestamps: Literal["recorded", "now"] = "recorded",
    limit: int | None = None,
    on_line: Callable[[FeedItem | BadLine], None] = lambda _: None,
    now_s: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> Tally:
    """Publish every item and return when the broker has acknowledged all. `on_line` sees each line just before.

    Raises SinkError when a record cannot be delivered, FeedError when the broker has been silent for a minute.
    """
    tally, start_s, first_us = Tally(), now_s(), None
    for line in lines:
        if limit is not None and tally.texts >= limit:
            break
        if isinstance(line, BadLine):
            on_line(line)
            tally.bad_lines += 1
            continue
        first_us = line.at_us if first_us is None else first_us
        _await(start_s + pace.due_s(tally.texts, line.at_us - first_us), sink, tally, now_s, wait)
        on_line(line)
        stamp_us = line.at_us if timestamps == "recorded" else None
        sink.send(Outgoing(line.topic, line.key, line.value, timestamp_us=stamp_us), receipt=line.place)
        tally.topics[line.topic] += 1
        if tally.texts % 256 == 0:
            tally.acknowledged += len(sink.receipts())
    _settle(sink, tally, now_s)
    tally.seconds = now_s() - start_s
    return tally


def _await(due_s: float, sink: Sink, tally: Tally, now_s: Callable[[], float], wait: Callable[[float], None]) -> None:
    while (left_s := due_s - now_s()) > 0:
        tally.acknowledged += len(sink.receipts())
        wait(min(left_s, 0.05))


def _settle(sink: Sink, tally: Tally, now_s: Callable[[], float]) -> None:
    heard_s = now_s()
    while tally.acknowledged < tally.texts:
        news = len(sink.receipts(timeout_ms=100))
        tally.acknowledged += news
        if news:
            heard_s = now_s()
        elif now_s() - heard_s > _LONGEST_SILENCE_S:
            left = tally.texts - tally.acknowledged
            raise FeedError(f"the broker acknowledged nothing for {_LONGEST_SILENCE_S:.0f} s, {left} records are open")
