"""What the loop of a strategy stands on, live or replayed."""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from stream.subscription.received import Received
from stream.subscription.watch import Condition, Silence


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


class Feed(Protocol):
    """Signals in the order in which they are to be acted upon. One thread takes; any may close."""

    events: deque[Silence]
    """Changes of the stage's condition, oldest first, for the taker to pop."""

    def take(self) -> Received | None:
        """The next signal, or None while there is none; never waits. Raises SourceEnded at the end (or after `close`),
        SourceError when reading can never go on."""

    def wait(self, timeout_s: float) -> None:
        """Return when `take` may have something, an event is there, or the time is up."""

    def done(self) -> None:
        """The strategy is through with what it took last."""

    def counts(self) -> Counts:
        """So far."""

    def latencies_us(self) -> list[int]:
        """From the broker's append to the strategy, of the latest signals (live only)."""

    def condition(self) -> Condition:
        """Of the stage, as far as known."""

    def close(self) -> None:
        """End it. Waits for what must be finished; may be called twice."""
