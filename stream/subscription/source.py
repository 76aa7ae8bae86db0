"""What the loop of a strategy stands on, live or replayed."""

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from earlybird.stream.subscription.received import Received
from earlybird.stream.subscription.watch import Condition, HealthChange

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the records so far."""

    delivered: int = 0
    filtered: int = 0  # not selected
    repeated: int = 0  # signal_id delivered before (with distinct)
    stale: int = 0  # older than max_age_us
    dropped: int = 0  # the strategy was too slow (with drop_oldest)
    unreadable: int = 0  # not a signal of this version
    out_of_range: int = 0  # partitions whose next record the broker had deleted already


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Everything that was there when reading began was delivered; what follows is live."""

    delivered: int  # signals, up to here
    at_us: int  # this machine's clock


class Feed(Protocol):
    """Signals in the order in which they are to be acted upon. One thread takes; any may stop and close."""

    events: deque[HealthChange | CaughtUp]
    """What happened besides signals, oldest first, for the taker to pop."""

    def take(self) -> Received | None:
        """The next signal, or None while there is none; never waits. Raises SourceEnded at the end (or after `stop`),
        SourceError when reading can never go on."""

    def take_table(self, limit: int) -> "pa.Table | None":
        """Up to `limit` signals as columns; None while there are none. Raises as `take`."""

    def wait(self, timeout_s: float) -> None:
        """Return when `take` may have something, an event is there, or the time is up."""

    async def wait_async(self, timeout_s: float) -> None:
        """The same for a task; holds up no event loop and needs no thread."""

    def wait_open(self) -> None:
        """Return when reading has begun. Raises as `take`."""

    async def opened(self) -> None:
        """The same for a task."""

    def done(self) -> None:
        """The strategy is through with what it took last."""

    def counts(self) -> Counts:
        """So far."""

    def latencies_us(self) -> list[int]:
        """From the broker's append to the strategy, of the latest signals (live only)."""

    def condition(self) -> Condition:
        """Of the stage, as far as known."""

    @property
    def caught_up(self) -> bool:
        """Whether everything was taken that was there when reading began."""

    @property
    def ordered(self) -> bool:
        """Whether what was there when reading began comes in the order of availability."""

    @property
    def stopped(self) -> bool:
        """Whether somebody has ended it."""

    def stop(self, *, settle: bool = False) -> None:
        """`take` gives nothing any more. Never waits, and may be called anywhere, in a signal handler too. With
        `settle` the strategy will say `done`, and that is waited for before the last commit."""

    def close(self) -> None:
        """`stop`, and wait for what must be finished; may be called twice."""
