"""Wall clocks: the machine's, and one that a test moves."""

import time


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        """Return microseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1000


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now_us: int = 1_700_000_000_000_000) -> None:
        self._now_us = now_us

    def now_us(self) -> int:
        """Return microseconds since 1970-01-01 UTC."""
        return self._now_us

    def advance(self, by_us: int) -> None:
        """Move the clock forward, or back by a negative number, as real clocks do."""
        self._now_us += by_us
