"""Lease: until when a worker of the views surely owns its partitions. Pure."""

import time
from collections.abc import Callable


class Lease:
    """Valid for the session timeout from the last heartbeat that the group answered.

    The group gives partitions away no sooner, whatever keeps a worker from hearing of it: a pause, a broken network. A
    heartbeat counts from when it was sent. May be renewed and read on any thread.
    """

    def __init__(self, session_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._session_s, self._monotonic = session_s, monotonic
        self._until_s = 0.0

    def now_s(self) -> float:
        """Return the time on the lease's clock."""
        return self._monotonic()

    def renew(self, sent_s: float) -> None:
        """Note a heartbeat sent at this time and answered since."""
        self._until_s = sent_s + self._session_s

    def end(self) -> None:
        """End the lease at once, as when partitions are given back."""
        self._until_s = 0.0

    @property
    def valid(self) -> bool:
        """Whether the partitions are surely ours."""
        return self._monotonic() < self._until_s
