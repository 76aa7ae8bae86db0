"""One live source from start to stop: connections, gaps, and frames as records."""

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import structlog

from earlybird.stream.feeds.registry import feed_parser
from earlybird.stream.publishing.line_format import FeedItem, Line, LineFormat, SkippedLine
from earlybird.stream.pull.source import Disconnected, Frame, Source

log = structlog.get_logger(__name__)

ORIGIN_HEADER = "pull-origin"
"""Header of records that were not live: gap or backlog."""

_OVERLAP_US = 120_000_000  # of a gap with what was received before it: clocks differ, and a dead connection takes time
_TICK_S = 0.5


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between tries.

    They double from `first_s` to `most_s`, and each is shortened by up to a half at random. A connection that lasted
    `steady_s` begins anew.
    """

    first_s: float = 1.0
    most_s: float = 60.0
    steady_s: float = 30.0

    def wait_s(self, tries: int) -> float:
        """Return the wait after so many tries that failed soon."""
        longest = min(self.most_s, self.first_s * 2.0 ** min(max(tries - 1, 0), 30))
        return longest * random.uniform(0.5, 1.0)


class Session:
    """Records of one live source.

    Items are known by the parser's bounded memory, so that what history repeats is skipped and an edit is an update.
    """

    def __init__(
        self,
        source: Source,
        *,
        since_us: int | None = None,
        topic: str | None = None,
        backoff: Backoff = Backoff(),
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Items of the backlog that are older than `since_us` are left out.

        None: the backlog is not asked for.
        """
        self._source, self._backoff, self._now_us, self._wait = source, backoff, now_us, wait
        self._since_us, self._backlog_us = since_us, now_us() if since_us is None else since_us
        self._began = self._connected = False  # there was a connection, with its backlog; there is one
        self._heard_us = self._received_us = now_us()
        self._frames = 0
        self._named = {"source": source.name, "address": source.address}
        self._format = LineFormat(
            parser=feed_parser(source.name), ingested_now=True, topic=topic, now_us=lambda: self._received_us
        )

    def lines(self) -> Iterator[Line | None]:
        """Yield records, bad and skipped lines as they come; None while there is nothing.

        Does not end. Raises PullError.
        """
        tries = 0
        while True:
            began_s, self._connected = time.monotonic(), False
            try:
                yield from self._connection()
            except Disconnected as error:
                steady = self._connected and time.monotonic() - began_s >= self._backoff.steady_s
                tries = 0 if steady else tries + 1
                wait_s = max(self._backoff.wait_s(tries), error.retry_after_s)
                log.warning("pull.disconnected", **self._named, why=str(error), retry_in_s=round(wait_s, 1))
                if self._connected:
                    self._since_us = self._heard_us - _OVERLAP_US
                yield from self._pause(wait_s)

    def _connection(self) -> Iterator[Line | None]:
        late = 0
        for frame in self._source.frames(self._since_us):
            if frame is not None and frame.origin != "live":
                found = self._of(frame)
                late += sum(isinstance(line, FeedItem) for line in found)
                yield from found
                continue
            self._heard_us = self._now_us()
            if not self._connected and self._source.answering:
                self._connected = self._began = True
                log.info("pull.connected", **self._named)
            if late:
                log.info("pull.gap_filled", **self._named, items=late)
                late = 0
            if frame is None:
                yield None
            else:
                yield from self._of(frame)

    def _of(self, frame: Frame) -> list[Line]:
        self._frames, self._received_us = self._frames + 1, frame.received_us
        found = self._format.lines(frame.content, f"{self._source.name}:{self._frames}")
        if frame.follows and not any(isinstance(line, SkippedLine) for line in found):
            log.warning("pull.gap_open", **self._named, hint="all entries are new: some may have come and gone unseen")
        if frame.origin == "live":
            return found
        origin = frame.origin if self._began else "backlog"
        headers = ((ORIGIN_HEADER, origin.encode()),)
        return [
            replace(line, headers=headers) if isinstance(line, FeedItem) else line
            for line in found
            if origin == "gap" or self._wanted(line)
        ]

    def _wanted(self, line: Line) -> bool:
        """Return whether a line of the backlog is late enough, which needs a time."""
        if not isinstance(line, FeedItem):
            return True
        fields = json.loads(line.value)
        latest_us: int = max(fields.get("published_us", 0), fields.get("updated_us", 0))
        return latest_us >= self._backlog_us

    def _pause(self, wait_s: float) -> Iterator[None]:
        until_s = time.monotonic() + wait_s
        while (left_s := until_s - time.monotonic()) > 0:
            yield None
            self._wait(min(left_s, _TICK_S))
