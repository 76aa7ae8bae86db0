"""Circuit breaker: pauses calls that keep failing."""

from collections.abc import Callable


class Breaker:
    """Circuit breaker that opens after `failures` failed calls in a row.

    While open it allows one probe every `probe_s` seconds; the first call that succeeds closes it. Not thread-safe:
    it belongs to the thread that makes the calls.
    """

    def __init__(self, failures: int, probe_s: float, monotonic: Callable[[], float]) -> None:
        self._limit, self._probe_s, self._monotonic = failures, probe_s, monotonic
        self._failed = 0
        self._probe_at = 0.0

    @property
    def open(self) -> bool:
        """True while calls are skipped."""
        return self._failed >= self._limit

    def allows(self) -> bool:
        """Return whether a call may be tried now.

        While open, a granted probe is the only one of its interval.
        """
        if not self.open:
            return True
        now = self._monotonic()
        if now < self._probe_at:
            return False
        self._probe_at = now + self._probe_s
        return True

    def succeeded(self) -> bool:
        """Record a successful call; True when it closed the breaker."""
        closed, self._failed = self.open, 0
        return closed

    def failed(self) -> bool:
        """Record a failed call; True when it opened the breaker."""
        before = self.open
        self._failed += 1
        if self.open:
            self._probe_at = self._monotonic() + self._probe_s
        return self.open and not before
