"""Recorded signals again, when they could have been known."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

from schemas.signal import Signal
from stream.errors import SourceEnded, StreamError
from stream.history.knowledge import InSampleCheck
from stream.history.novelty import in_view
from stream.logs import get_logger
from stream.subscription.delay import Latency, delayed
from stream.subscription.feed import Counts
from stream.subscription.received import Received
from stream.subscription.selection import Facts, Gate
from stream.subscription.watch import Condition, Silence

log = get_logger(__name__)

Speed = float | Literal["max"]


class InSample(StreamError):
    """A backtest of a model over what it has learned from."""


def between(
    recorded: str | Path | Iterable[tuple[Signal, int]], start_us: int | None, end_us: int | None
) -> Iterator[tuple[Signal, int]]:
    """What became available from `start_us` on and before `end_us`; of a path, what its archive files hold."""
    if isinstance(recorded, str | Path):
        from stream.history.archive import read_signals  # a strategy that reads no files needs nothing for it

        pairs: Iterable[tuple[Signal, int]] = read_signals(Path(recorded), start_us, end_us)
    else:
        pairs = recorded
    for signal, available_us in pairs:
        if end_us is not None and available_us >= end_us:
            return
        if start_us is None or available_us >= start_us:
            yield signal, available_us


class Recording:
    """A Feed over a recording. `speed` plays availability so many times faster than it was; "max" does not wait.

    Where a text is not younger than its model's training data, or nobody knows when that ends, a backtest tests
    nothing: that is logged once per model, and with `strict` it is an InSample (see stream.history.knowledge).
    """

    def __init__(
        self,
        recorded: Iterable[tuple[Signal, int]],
        gate: Gate,
        latency: Latency,
        speed: Speed = "max",
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        *,
        strict: bool = False,
    ) -> None:
        if speed != "max" and not speed > 0:
            raise ValueError(f"speed: above 0 or max, was {speed}")
        self.events: deque[Silence] = deque()
        self._gate, self._speed, self._now_s, self._sleep = gate, speed, now_s, sleep
        self._in_sample = InSampleCheck(InSample if strict else None)
        self._seen = delayed(recorded, latency)
        self._ahead: Received | None = None
        self._start: tuple[float, int] | None = None  # when the first was played, and when it was available
        self._delivered = 0
        self._closed = False

    def take(self) -> Received | None:
        """As Feed.take; None while the next is not due."""
        if self._closed:
            self._seen.close()
            raise SourceEnded("closed")
        if self._ahead is None:
            self._ahead = self._next()
        if self._due_in_s() > 0:
            return None
        received, self._ahead = self._ahead, None
        self._delivered += 1
        return received

    def wait(self, timeout_s: float) -> None:
        """As Feed.wait."""
        self._sleep(max(0.0, min(timeout_s, self._due_in_s())))

    def done(self) -> None:
        """Nothing is owed to anybody."""

    def counts(self) -> Counts:
        """As Feed.counts."""
        return Counts(self._delivered, self._gate.filtered, self._gate.repeated)

    def latencies_us(self) -> list[int]:
        """None is measured."""
        return []

    def condition(self) -> Condition:
        """A recording does not die."""
        return Condition.ALIVE

    def close(self) -> None:
        """As Feed.close."""
        self._closed = True

    def _next(self) -> Received:
        for signal, available_us in self._seen:
            if self._gate.admits(Facts.of_signal(signal)):
                self._in_sample.meet(signal, available_us)
                return Received.of(in_view(signal, available_us), available_us)
        raise SourceEnded("everything was played")

    def _due_in_s(self) -> float:
        if self._speed == "max" or self._ahead is None:
            return 0.0
        if self._start is None:
            self._start = (self._now_s(), self._ahead.available_us)
        played_s, first_us = self._start
        return (self._ahead.available_us - first_us) / 1e6 / self._speed - (self._now_s() - played_s)
