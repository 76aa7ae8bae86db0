"""Limit on repeated log lines: librdkafka without a broker would write twenty per second."""

from collections.abc import Callable

QUIET_S = 10.0  # at most one line per kind in this time


class RateLimit:
    """Allows one log line per kind and QUIET_S; not thread-safe."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._last: dict[str, float] = {}

    def allows(self, kind: str) -> bool:
        """Return whether a line of this kind may be logged now."""
        now_s = self._monotonic()
        if now_s - self._last.get(kind, -QUIET_S) < QUIET_S:
            return False
        self._last[kind] = now_s
        return True
