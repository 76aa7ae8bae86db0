"""Publishing of a feed's items: paced, sent, and awaited until the broker has acknowledged each.

No line is lost: each is published or reported.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, cast

from earlybird.stream.errors import FeedError, RecordTooLarge, SinkError, StreamError
from earlybird.stream.ports import Outgoing, Sink
from earlybird.stream.publishing.line_format import BadLine, FeedItem, Line
from earlybird.stream.publishing.tally import Tally

BACK_DATED_US = 3_600_000_000
"""A record older than this is history: a topic with time-based retention may delete it at once."""

_LONGEST_SILENCE_S = 60.0
_LAST_SILENCE_S = 5.0  # for records in flight after a stop
_MOST_OPEN = 10_000  # well below the client's queue: with a full one, `send` blocks and ignores a stop


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
    lines: Iterable[Line | None],
    sink: Sink,
    *,
    pace: Pace = Pace(),
    timestamps: Literal["recorded", "now"] = "recorded",
    limit: int | None = None,
    on_line: Callable[[Line], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    now_s: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
    tally: Tally | None = None,
) -> Tally:
    """Publish every item and wait until the broker has acknowledged all.

    Returns early when `stop` returns True. `on_line` is called with each line just before it is sent; an item that is
    too large for a message or its topic is passed to it again, as a bad line. A live source gives None when there is
    nothing to send right now.

    Raises SinkError when a record cannot be delivered, FeedError when the broker has acknowledged nothing for a minute.
    In every case the given `tally` is right: records in flight are awaited, for up to 5 s without an acknowledgement.
    """
    tally, start_s, first_us = Tally() if tally is None else tally, now_s(), None
    delivery = _Delivery(sink, tally, on_line, now_s)
    try:
        for line in lines:
            if stop():
                break
            if line is None:
                delivery.settle()
                continue
            if isinstance(line, FeedItem):
                first_us = line.at_us if first_us is None else first_us
                delivery.wait_until(start_s + pace.due_s(tally.texts, line.at_us - first_us), wait, stop)
                if stop():
                    break
            on_line(line)
            delivery.send(line, line.at_us if timestamps == "recorded" else None)
            if limit is not None and tally.texts >= limit:
                break
            while len(tally.open) >= _MOST_OPEN and not stop():
                delivery.settle(timeout_ms=100)
        delivery.finish(stop)
    except StreamError as error:
        with suppress(StreamError):
            delivery.finish(stop=lambda: True)
        if isinstance(error, SinkError) and (there := tally.open.get(cast(int, error.receipt))):
            raise SinkError(f"{there[1]}: {error}", error.receipt) from error
        raise
    finally:
        tally.seconds = now_s() - start_s
    return tally


class _Delivery:
    """Records on their way to the broker, and their account."""

    def __init__(self, sink: Sink, tally: Tally, on_line: Callable[[Line], None], now_s: Callable[[], float]) -> None:
        self._sink, self._tally, self._on_line, self._now_s = sink, tally, on_line, now_s

    def send(self, line: Line, timestamp_us: int | None) -> None:
        tally = self._tally
        if not isinstance(line, FeedItem):
            tally.bad_lines += isinstance(line, BadLine)
            tally.skipped_lines += not isinstance(line, BadLine)
            return
        record = Outgoing(line.topic, line.key, line.value, line.headers, timestamp_us)
        try:
            self._sink.send(record, receipt=tally.texts)
        except RecordTooLarge as error:
            self._too_large(line.place, error)
            return
        tally.send(line.topic, line.place, line.lines)
        if tally.texts % 256 == 0:
            self.settle()

    def settle(self, timeout_ms: int = 0) -> int:
        """Take acknowledgements and return how many records they settled."""
        try:
            return self._tally.settle(self._sink.receipts(timeout_ms))
        except RecordTooLarge as error:
            place = self._tally.refuse(error.receipt)
            if place is None:
                raise
            self._too_large(place, error)
            return 1

    def wait_until(self, due_s: float, wait: Callable[[float], None], stop: Callable[[], bool]) -> None:
        while (left_s := due_s - self._now_s()) > 0 and not stop():
            self.settle()
            wait(min(left_s, 0.05))

    def finish(self, stop: Callable[[], bool]) -> None:
        """Wait for all acknowledgements."""
        heard_s = self._now_s()
        while self._tally.open:
            if self.settle(timeout_ms=100):
                heard_s = self._now_s()
                continue
            silent_s = self._now_s() - heard_s
            if stop() and silent_s > _LAST_SILENCE_S:
                return
            if silent_s > _LONGEST_SILENCE_S:
                left = len(self._tally.open)
                why = f"the broker acknowledged nothing for {_LONGEST_SILENCE_S:.0f} s, {left} records are open"
                raise FeedError(why)

    def _too_large(self, place: str, error: RecordTooLarge) -> None:
        self._on_line(BadLine(place, str(error)))
        self._tally.bad_lines += 1
