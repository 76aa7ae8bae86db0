"""The loop of a strategy over any feed: iteration, handlers, tasks or tables."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from threading import Lock, get_ident
from time import monotonic
from typing import TYPE_CHECKING, Self

from earlybird.stream.errors import SourceEnded
from earlybird.stream.observability.logging import get_logger
from earlybird.stream.subscription.batches import joined, pandas_frame
from earlybird.stream.subscription.received import Received
from earlybird.stream.subscription.source import CaughtUp, Counts, Feed
from earlybird.stream.subscription.stage_monitor import Condition, HealthChange

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

log = get_logger(__name__)

Handler = Callable[[Received], object]
HealthHandler = Callable[[HealthChange], object]
LiveHandler = Callable[[CaughtUp], object]

_WAIT_S = 0.1
_SLICE_S = 0.002  # longest time before other tasks of the event loop get a turn
_ROWS = 4_096  # most rows taken per call


def in_event_loop() -> bool:
    """Return whether this thread runs an event loop, which must not be blocked."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Iteration(Iterator[Received], AsyncIterator[Received]):
    """Base of stream.client.Signals; see there."""

    def __init__(self, feed: Feed) -> None:
        """Use `Signals.live` or `Signals.replay`."""
        self._feed = feed
        self._handlers: list[Handler] = []
        self._health_handlers: list[HealthHandler] = []
        self._live_handlers: list[LiveHandler] = []
        self._iterating = Lock()
        self._thread: int | None = None  # the thread inside the iteration now
        self._running = False  # handlers are at work, and `done` will be called
        self._slice_end_s = 0.0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Received:
        self._begin()
        try:
            while (received := self._take_next()) is None:
                self._feed.wait(_WAIT_S)
        except SourceEnded:
            raise StopIteration from None
        finally:
            self._end()
        return received

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Received:
        """Return the next signal; a cancelled task loses none.

        Nothing is awaited between taking a signal and returning it.
        """
        self._begin()
        try:
            if monotonic() >= self._slice_end_s:
                await asyncio.sleep(0)
                self._slice_end_s = monotonic() + _SLICE_S
            while (received := self._take_next()) is None:
                await self._feed.wait_async(_WAIT_S)
                self._slice_end_s = monotonic() + _SLICE_S
        except SourceEnded:
            raise StopAsyncIteration from None
        finally:
            self._end()
        return received

    def on(self, handler: Handler) -> Self:
        """Call this with every signal, in `run`."""
        self._handlers.append(handler)
        return self

    def on_health(self, handler: HealthHandler) -> Self:
        """Call this when the stage goes quiet, lags, stops, dies or recovers."""
        self._health_handlers.append(handler)
        return self

    def on_live(self, handler: LiveHandler) -> Self:
        """Call this once all history at the start was delivered and live signals follow.

        Raises ValueError in a group, whose members share the history.
        """
        if not self._feed.ordered:
            raise ValueError("on_live: a group has no common end of catching up; read without a group")
        self._live_handlers.append(handler)
        return self

    def run(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Pass every signal to the handlers until the end or until `stop()`.

        `stop` is asked ten times per second; it may be an Event's `is_set`. A signal is done, and may be committed,
        when its handlers have returned. What they raise ends the run, and another `run` goes on with the next signal.
        """
        self._begin()
        self._running = True
        try:
            while not stop():
                if (received := self._take_next()) is None:
                    self._feed.wait(_WAIT_S)
                    continue
                for handler in self._handlers:
                    handler(received)
                self._feed.done()
        except SourceEnded:
            pass
        finally:
            self._running = False
            self._end()

    def to_arrow(self, n: int, timeout_s: float | None = None) -> "pa.Table":
        """Return the next `n` signals as a table, one row each.

        Columns: stream.adapters.columns.FRAME. There are fewer rows at the end or when `timeout_s` is over. Of archives
        only the columns are read, no messages.
        """
        deadline_s = float("inf") if timeout_s is None else monotonic() + timeout_s
        tables: list[pa.Table] = []
        missing = n
        self._begin()
        try:
            while missing > 0:
                self._deliver_events()
                table = self._feed.take_table(min(missing, _ROWS))
                if table is not None:
                    tables.append(table)
                    missing -= table.num_rows
                if (left_s := deadline_s - monotonic()) <= 0:
                    break
                if table is None:
                    self._feed.wait(min(_WAIT_S, left_s))
        except SourceEnded:
            pass
        finally:
            self._end()
        return joined(tables)

    def to_pandas(self, n: int, timeout_s: float | None = None) -> "pd.DataFrame":
        """Return the table of `to_arrow` as a DataFrame, indexed by availability in UTC."""
        return pandas_frame(self.to_arrow(n, timeout_s))

    @property
    def counts(self) -> Counts:
        """Record counts so far, by result."""
        return self._feed.counts()

    @property
    def condition(self) -> Condition:
        """The condition of the stage, from its heartbeats."""
        return self._feed.condition()

    @property
    def caught_up(self) -> bool:
        """Whether all history at the start was delivered; False in groups and replays."""
        return self._feed.caught_up

    @property
    def ordered(self) -> bool:
        """Whether history at the start comes in availability order; False in a group."""
        return self._feed.ordered

    @property
    def latencies_us(self) -> list[int]:
        """Latencies from broker append to this strategy, of the last 10,000 live signals."""
        return self._feed.latencies_us()

    def close(self) -> None:
        """End the iteration at once; waiting signals are not delivered.

        May be called twice, by any thread, in a handler and in a signal handler. In a group, commits what was handled:
        `run` on another thread ends with the signal that its handlers have, and `close` waits for it. Called inside the
        iteration itself it only marks the end; the iteration does the rest.
        """
        self._feed.stop(settle=self._running)
        if self._thread != get_ident():
            self._feed.close()

    async def aclose(self) -> None:
        """Close like `close`, without blocking the event loop."""
        self._feed.stop(settle=self._running)
        await asyncio.to_thread(self._feed.close)

    def __enter__(self) -> Self:
        self._feed.wait_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        await self._feed.opened()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if feed := getattr(self, "_feed", None):  # its thread outlives this object and would read on
            feed.stop()

    def _take_next(self) -> Received | None:
        self._deliver_events()
        return self._feed.take()

    def _deliver_events(self) -> None:
        while self._feed.events and not self._feed.stopped:
            event = self._feed.events.popleft()
            if isinstance(event, CaughtUp):
                for live_handler in self._live_handlers:
                    live_handler(event)
                continue
            for handler in self._health_handlers:
                handler(event)
            if not self._health_handlers:
                log.warning("stage.condition", condition=event.condition.value, text=str(event))

    def _begin(self) -> None:
        if not self._iterating.acquire(blocking=False):
            raise RuntimeError("these signals are being iterated already: one thread (or task) at a time")
        self._thread = get_ident()

    def _end(self) -> None:
        """Release the iteration, and finish a `close` that was called inside it."""
        self._thread = None
        self._iterating.release()
        if self._feed.stopped and not in_event_loop():
            self._feed.stop()  # no handler is at work any more: do not settle
            self._feed.close()
