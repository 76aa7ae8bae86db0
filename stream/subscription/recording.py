"""Replays recorded signals in availability order."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import TYPE_CHECKING, Literal

from earlybird.schemas.codec import DecodeError
from earlybird.schemas.signal import Signal
from earlybird.stream.errors import SourceEnded, StreamError
from earlybird.stream.observability.logging import get_logger
from earlybird.stream.subscription.batches import archived_table, arrow_table, joined
from earlybird.stream.subscription.delay import Latency, delayed, in_order
from earlybird.stream.subscription.received import Received
from earlybird.stream.subscription.recorded_items import Archived, FileItem, Item, items_of
from earlybird.stream.subscription.selection import SignalFilter
from earlybird.stream.subscription.source import CaughtUp, Counts
from earlybird.stream.subscription.stage_monitor import Condition, HealthChange
from earlybird.stream.timeline.knowledge import InSampleCheck
from earlybird.stream.timeline.novelty import in_view

if TYPE_CHECKING:
    import pyarrow as pa

log = get_logger(__name__)

Speed = float | Literal["max"]


class InSample(StreamError):
    """A backtest of a model over texts that it may have learned from."""


class Recording:
    """A Feed over a recording, replayed at `speed` times the recorded pace.

    `speed` "max" does not wait. Where a text is not younger than its model's training data, or the end of that data is
    unknown, a backtest tests nothing: that is logged once per model, and with `strict` it is an InSample (see
    stream.timeline.knowledge).
    """

    def __init__(
        self,
        recorded: Archived | Iterable[tuple[Signal, int]],
        signal_filter: SignalFilter,
        latency: Latency,
        speed: Speed = "max",
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        *,
        strict: bool = False,
    ) -> None:
        if speed != "max" and not speed > 0:
            raise ValueError(f"speed: above 0 or max, was {speed}")
        self.events: deque[HealthChange | CaughtUp] = deque()
        self._recorded, self._signal_filter, self._latency = recorded, signal_filter, latency
        self._speed, self._now_s, self._sleep = speed, now_s, sleep
        self._in_sample = InSampleCheck(InSample if strict else None)
        self._seen: Generator[tuple[Item, int], None, None] | None = None
        self._ahead: Received | None = None
        self._start: tuple[float, int] | None = None  # when the first signal was played, and when it was available
        self._delivered = self._unreadable = 0
        self.stopped = False

    def take(self) -> Received | None:
        """See Feed.take; returns None while the next signal is not due."""
        if self.stopped:
            self._release()
            raise SourceEnded("closed")
        if self._ahead is None:
            self._ahead = self._next()
        if self._due_in_s() > 0:
            return None
        received, self._ahead = self._ahead, None
        self._delivered += 1
        return received

    def take_table(self, limit: int) -> "pa.Table | None":
        if self._speed != "max" or self._ahead is not None:
            received = self.take()
            return None if received is None else arrow_table([received])
        if self.stopped:
            self._release()
            raise SourceEnded("closed")
        if isinstance(self._recorded, Archived) and self._seen is None:
            self._recorded.whole = True
        taken = list(islice(self._items(), limit))
        if not taken:
            raise SourceEnded("everything was played")
        self._delivered += len(taken)
        runs = [list(run) for _, run in groupby(taken, lambda each: id(getattr(each[0], "rows", None)))]
        return joined([self._table(run) for run in runs])

    def wait(self, timeout_s: float) -> None:
        self._sleep(max(0.0, min(timeout_s, self._due_in_s())))

    async def wait_async(self, timeout_s: float) -> None:
        await asyncio.sleep(max(0.0, min(timeout_s, self._due_in_s())))

    def wait_open(self) -> None:
        """Return at once: a recording is always open."""

    async def opened(self) -> None:
        """Return at once: a recording is always open."""

    def done(self) -> None:
        """Do nothing: a recording commits nothing."""

    def counts(self) -> Counts:
        return Counts(
            self._delivered, self._signal_filter.filtered, self._signal_filter.repeated, unreadable=self._unreadable
        )

    def latencies_us(self) -> list[int]:
        """Return no latencies: a recording measures none."""
        return []

    def condition(self) -> Condition:
        """Return ALIVE: a recording does not fail."""
        return Condition.ALIVE

    @property
    def caught_up(self) -> bool:
        """Always False, since no part of a recording is live."""
        return False

    @property
    def ordered(self) -> bool:
        return True

    def stop(self, *, settle: bool = False) -> None:  # noqa: ARG002
        self.stopped = True

    def close(self) -> None:
        """See Feed.close; the taking thread releases the files that it reads."""
        self.stopped = True

    def _items(self) -> Iterator[tuple[Item, int]]:
        if self._seen is None:
            if isinstance(self._recorded, Archived):
                items = self._recorded.items(self._signal_filter)  # in order, as files are
            else:
                items = in_order(items_of(self._recorded, self._signal_filter))
            self._seen = delayed(items, self._latency)
        return self._seen

    def _next(self) -> Received:
        for item, seen_us in self._items():
            if (received := self._read(item, seen_us)) is not None:
                return received
        raise SourceEnded("everything was played")

    def _read(self, item: Item, seen_us: int) -> Received | None:
        try:
            signal = item.signal()
        except DecodeError as error:
            self._unreadable += 1
            log.warning("signal.unreadable", item_key=item.item_key, reason=str(error))
            return None
        self._in_sample.check(signal, seen_us)
        return Received.of(in_view(signal, seen_us), seen_us)

    def _table(self, run: Sequence[tuple[Item, int]]) -> "pa.Table":
        """Return a run of items as a table, from archived columns where they suffice.

        Where the columns do not hold everything, the messages are decoded.
        """
        first = run[0][0]
        if (
            isinstance(first, FileItem)
            and (columns := first.rows.whole([_number(item) for item, _ in run])) is not None
        ):
            self._in_sample.check_rows(columns, [seen_us for _, seen_us in run], lambda number: run[number][0].signal())
            return archived_table(columns, [seen_us for _, seen_us in run])
        read = (self._read(item, seen_us) for item, seen_us in run)
        return arrow_table([received for received in read if received is not None])

    def _release(self) -> None:
        for generator in (self._seen, self._recorded):
            if isinstance(generator, Generator):
                generator.close()

    def _due_in_s(self) -> float:
        if self._speed == "max" or self._ahead is None:
            return 0.0
        if self._start is None:
            self._start = (self._now_s(), self._ahead.available_us)
        played_s, first_us = self._start
        return (self._ahead.available_us - first_us) / 1e6 / self._speed - (self._now_s() - played_s)


def _number(item: Item) -> int:
    assert isinstance(item, FileItem), "a run of rows. This is a bug."
    return item.number
