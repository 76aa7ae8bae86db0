"""Acknowledgement of consumed events in order, once what they led to is on the broker."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any


class Acks:
    """Events in the order of consumption, each with the deliveries it waits for.

    Faust commits the offset behind an acknowledged event even over some gaps (an offset just above the committed one,
    or any before the first commit), so none may arise: an event that waits holds back all later ones, also over a
    rebalance. Event loop only.
    """

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        """`failed` is called with the error of a delivery; its event is never acknowledged."""
        self._failed = failed
        self._open: deque[_Waiting] = deque()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, event: Any, deliveries: Sequence[Any]) -> None:
        """Acknowledge an event when its deliveries (futures) and all earlier events are done."""
        waiting = _Waiting(event, len(deliveries))
        self._open.append(waiting)
        for delivery in deliveries:
            delivery.add_done_callback(lambda future: self._delivered(waiting, future))
        self._settle()

    def _delivered(self, waiting: "_Waiting", future: Any) -> None:
        if future.cancelled() or future.exception() is not None:
            self._failed(RuntimeError("delivery cancelled") if future.cancelled() else future.exception())
            return
        waiting.deliveries -= 1
        self._settle()

    def _settle(self) -> None:
        while self._open and not self._open[0].deliveries:
            self._open.popleft().event.ack()


class _Waiting:
    __slots__ = ("deliveries", "event")

    def __init__(self, event: Any, deliveries: int) -> None:
        self.event, self.deliveries = event, deliveries
