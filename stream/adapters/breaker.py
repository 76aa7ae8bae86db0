"""A circuit breaker: what fails again and again is left alone for a while."""

from collections.abc import Callable


class Breaker:
    """Closed until `failures` calls in a row fail; then open, but for one probe each `probe_s` seconds, and closed
    again by the first call that succeeds. Not thread-safe: belongs to the thread of what it guards."""

    def __init__(self, failures: int, probe_s: float, monotonic: Callable[[], float]) -> None:
        self._limit, self._probe_s, self._monotonic = failures, probe_s, monotonic
        self._failed = 0
        self._probe_at = 0.0

    @property
    def open(self) -> bool:
        """Whether calls are being left out."""
        return self._failed >= self._limit

    def allows(self) -> bool:
        """Whether a call may be tried now; while open, granting a probe counts as the only one of its interval."""
        if not self.open:
            return True
        now = self._monotonic()
        if now < self._probe_at:
            return False
        self._probe_at = now + self._probe_s
        return True

    def succeeded(self) -> bool:
        """A call succeeded. True when this closed the breaker."""
        closed, self._failed = self.open, 0
        return closed

    def failed(self) -> bool:
        """A call failed. True when this opened the breaker."""
        before = self.open
        self._failed += 1
        if self.open:
            self._probe_at = self._monotonic() + self._probe_s
        return self.open and not before
