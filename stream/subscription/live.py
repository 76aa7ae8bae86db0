"""Live signals on the strategy's thread; stream.subscription.reader has the reading thread."""

import asyncio
import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from earlybird.schemas.codec import DecodeError, decode
from earlybird.schemas.signal import Signal
from earlybird.stream.errors import SourceEnded, SourceError, StreamError
from earlybird.stream.observability.logging import get_logger
from earlybird.stream.ports import Clock, Record
from earlybird.stream.subscription.batches import arrow_table
from earlybird.stream.subscription.buffer import Buffer
from earlybird.stream.subscription.lru import LruSet
from earlybird.stream.subscription.reader import Reader, log_unreadable
from earlybird.stream.subscription.received import Received
from earlybird.stream.subscription.selection import REMEMBERED
from earlybird.stream.subscription.source import CaughtUp, Counts
from earlybird.stream.subscription.stage_monitor import Condition
from earlybird.stream.timeline.availability import available_us

if TYPE_CHECKING:
    import pyarrow as pa

log = get_logger(__name__)

_MEASURED = 10_000
_CLOSING_S = 20.0
_TURN_S = 0.1


class StaleSignal(StreamError):
    """A signal too old to act on, raised where the strategy asked for it."""

    def __init__(self, received: Received, age_us: int, limit_us: int) -> None:
        super().__init__(f"{received.item_key}: at most {limit_us} us old when delivered, was {age_us} us")
        self.received, self.age_us, self.limit_us = received, age_us, limit_us


@dataclass(frozen=True, slots=True)
class Freshness:
    """The highest age of a signal on delivery, and what happens above it.

    Age is measured by the broker's append time and this machine's clock. Corrections and retractions of a delivered
    item are never too old.
    """

    max_age_us: int | None
    policy: Literal["skip", "raise"] = "skip"

    def __post_init__(self) -> None:
        if self.max_age_us is not None and self.max_age_us <= 0:
            raise ValueError(f"max_age_us: above 0 or None, was {self.max_age_us}")
        if self.policy not in ("skip", "raise"):
            raise ValueError(f"stale: skip or raise, was {self.policy!r}")


class Live:
    """A Feed from Kafka; the reading thread selects records, the strategy's decodes them."""

    def __init__(
        self,
        reader: Reader,
        buffer: Buffer,
        freshness: Freshness,
        clock: Clock,
        held: LruSet | None = None,
        *,
        read_committed: bool = True,
    ) -> None:
        """The reader fills this buffer. `read_committed`: it waits for the commits of transactions.

        `held`: items that the strategy acts upon; its size is the number of items to remember.
        """
        self.events = reader.events
        self._reader, self._buffer, self._freshness, self._clock = reader, buffer, freshness, clock
        self._delivered_items = LruSet(REMEMBERED) if held is None else LruSet(held.size, held)
        self._read_committed = read_committed
        self._measured: deque[int] = deque(maxlen=_MEASURED)
        self._delivered = self._stale = self._unreadable = 0
        self._announced_caught_up = False
        self._process = os.getpid()
        reader.start()

    def wait_open(self) -> None:
        try:
            while not self._reader.opened.wait(_TURN_S):
                pass
        except BaseException:  # Ctrl-C
            self.stop()
            raise
        self._raise_failure()

    async def opened(self) -> None:
        try:
            while not self._reader.opened.is_set():
                await self.wait_async(_TURN_S)
        except BaseException:
            self.stop()
            raise
        self._raise_failure()

    def take(self) -> Received | None:
        """See Feed.take; raises StaleSignal if asked to."""
        self._check_process()
        while not self.stopped and (record := self._buffer.take()) is not None:
            received = self._decoded(record)
            if received is not None and self._fresh(received):
                self._delivered += 1
                return received
        if self.stopped:
            self._buffer.done()
            raise SourceEnded("closed")
        if self._buffer.caught_up and not self._announced_caught_up:
            self._announced_caught_up = True
            self.events.append(CaughtUp(self._delivered, self._clock.now_us()))
            return None
        if not len(self._buffer):
            self._raise_failure()
            if self._reader.over and not self.events:
                raise SourceEnded("the replay is over")
        return None

    def take_table(self, limit: int) -> "pa.Table | None":
        taken: list[Received] = []
        while len(taken) < limit and not self.events and (received := self._taken_unless_over(taken)) is not None:
            taken.append(received)
        return arrow_table(taken) if taken else None

    def wait(self, timeout_s: float) -> None:
        if not self.events:
            self._buffer.wait(timeout_s)

    async def wait_async(self, timeout_s: float) -> None:
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        with self._buffer.waking(lambda: loop.call_soon_threadsafe(woken.set)) as ready:
            if not ready and not self.events:
                with suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), timeout_s)

    def done(self) -> None:
        self._buffer.done()

    def counts(self) -> Counts:
        reader = self._reader
        return Counts(
            self._delivered,
            reader.signal_filter.filtered,
            reader.signal_filter.repeated,
            self._stale,
            self._buffer.dropped,
            self._unreadable + reader.unreadable,
            reader.out_of_range,
        )

    def latencies_us(self) -> list[int]:
        """See Feed.latencies_us; input for stream.timeline.availability.Empirical."""
        return list(self._measured)

    def condition(self) -> Condition:
        return self._reader.monitor.condition

    @property
    def caught_up(self) -> bool:
        return self._announced_caught_up

    @property
    def ordered(self) -> bool:
        return self._reader.ordered

    @property
    def stopped(self) -> bool:
        return self._reader.stopping

    def stop(self, *, settle: bool = False) -> None:
        self._reader.stop(settle=settle)

    def close(self) -> None:
        """Commit what was handled and leave, within some seconds.

        A hanging broker blocks no longer than that; what it has not confirmed by then may come twice. In a forked
        process there is nothing to close.
        """
        if os.getpid() != self._process:
            return
        self.stop(settle=self._reader.settling)
        self._buffer.close()
        if not self._reader.join(_CLOSING_S):
            log.warning("signals.not_closed", waited_s=_CLOSING_S, hint="the broker or a handler does not come back")

    def _taken_unless_over(self, taken: list[Received]) -> Received | None:
        try:
            return self.take()
        except SourceEnded:
            if not taken or self.stopped:
                raise
            return None  # the next call raises it again

    def _decoded(self, record: Record) -> Received | None:
        try:
            signal = decode(Signal, record.value or b"")
        except DecodeError as error:
            self._unreadable += 1
            log_unreadable(record, error)
            return None
        return Received.of(signal, available_us(record, signal, read_committed=self._read_committed))

    def _fresh(self, received: Received) -> bool:
        age_us, limit_us = self._clock.now_us() - received.available_us, self._freshness.max_age_us
        self._measured.append(max(0, age_us))
        if limit_us is None:
            return True
        follows = (
            received.item_key in self._delivered_items
        )  # not the action: an edit without an action word is `new`, too
        if age_us > limit_us and not follows:
            self._measured.pop()
            self._stale += 1
            if self._freshness.policy == "raise":
                raise StaleSignal(received, age_us, limit_us)
            if self._stale == 1 or self._stale % 1000 == 0:
                log.warning("signals.stale", item_key=received.item_key, age_us=age_us, skipped=self._stale)
            return False
        self._delivered_items.add(received.item_key)
        return True

    def _raise_failure(self) -> None:
        failure = self._reader.failure
        if isinstance(failure, StreamError):  # its sentence says all: the reader's frames would only hide it
            raise failure.with_traceback(None)
        if failure is not None:
            raise failure

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise SourceError(
                f"this client belongs to process {self._process} and cannot be used in its fork {os.getpid()}: "
                "open one in each process, after the fork"
            )
