"""Due times of polls, and longer waits after failures."""

import random
import time
from collections.abc import Iterator

_JITTER = 0.1
_MOST_S = 600.0
_TICK_S = 0.5


class Poll:
    """Due times of one address.

    After failures the interval doubles, up to ten minutes.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s, self._failures, self.due_s = interval_s, 0, time.monotonic()

    @property
    def failed(self) -> bool:
        """Whether the last poll failed."""
        return self._failures > 0

    def done(self) -> None:
        """Note a poll that was answered."""
        self._failures = 0
        self._next(self._interval_s)

    def missed(self, retry_after_s: float = 0.0) -> float:
        """Note a poll that failed; return the seconds to the next one."""
        self._failures += 1
        longest_s = max(self._interval_s, _MOST_S)
        return self._next(max(retry_after_s, min(longest_s, self._interval_s * 2.0 ** min(self._failures, 20))))

    def _next(self, wait_s: float) -> float:
        self.due_s = time.monotonic() + wait_s * random.uniform(1 - _JITTER, 1 + _JITTER)
        return self.due_s - time.monotonic()


def until(due_s: float) -> Iterator[None]:
    """Yield until a monotonic instant, every half second."""
    while (left_s := due_s - time.monotonic()) > 0:
        yield None
        time.sleep(min(left_s, _TICK_S))
