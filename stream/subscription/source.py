"""Interface of a signal source for strategies, live or replayed."""

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from earlybird.stream.subscription.received import Received
from earlybird.stream.subscription.stage_monitor import Condition, HealthChange

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Counts:
    """Record counts so far, by result."""

    delivered: int = 0
    filtered: int = 0  # not selected
    repeated: int = 0  # signal_id delivered before (with distinct)
    stale: int = 0  # older than max_age_us
    dropped: int = 0  # the strategy was too slow (with drop_oldest)
    unreadable: int = 0  # not a signal of this version
    out_of_range: int = 0  # partitions whose next record the broker had deleted already


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Event: all history was delivered, and what follows is live.

    History is everything that was there when reading began.
    """

    delivered: int  # signals, up to this event
    at_us: int  # this machine's clock


class Feed(Protocol):
    """Source of signals in the order in which to act on them.

    One thread takes; any thread may stop and close.
    """

    events: deque[HealthChange | CaughtUp]
    """Events besides signals, oldest first. The taking thread pops them."""

    def take(self) -> Received | None:
        """Return the next signal, or None while there is none; never wait.

        Raises SourceEnded at the end (or after `stop`), SourceError when reading can never go on.
        """

    def take_table(self, limit: int) -> "pa.Table | None":
        """Return up to `limit` signals as columns; None while there are none.

        Raises the same errors as `take`.
        """

    def wait(self, timeout_s: float) -> None:
        """Wait until `take` may have a signal, an event is queued, or the timeout ends."""

    async def wait_async(self, timeout_s: float) -> None:
        """Wait like `wait`, without blocking the event loop and without a thread."""

    def wait_open(self) -> None:
        """Wait until reading has begun; raises the same errors as `take`."""

    async def opened(self) -> None:
        """Wait like `wait_open`, in a task."""

    def done(self) -> None:
        """Mark the signal taken last as handled by the strategy."""

    def counts(self) -> Counts:
        """Return the record counts so far."""

    def latencies_us(self) -> list[int]:
        """Return latencies from broker append to strategy, of the latest signals (live only)."""

    def condition(self) -> Condition:
        """Return the condition of the stage, as far as known."""

    @property
    def caught_up(self) -> bool:
        """Whether all history was taken: everything that was there when reading began."""

    @property
    def ordered(self) -> bool:
        """Whether the history read at the start comes in the order of availability."""

    @property
    def stopped(self) -> bool:
        """Whether `stop` or `close` was called."""

    def stop(self, *, settle: bool = False) -> None:
        """End the feed without waiting: `take` returns no more signals.

        May be called anywhere, in a signal handler too. With `settle` the strategy will still call `done`, and the last
        commit waits for that.
        """

    def close(self) -> None:
        """Stop and wait for work that must finish; may be called twice."""
