"""Acknowledgement of consumed events in order, once what they led to is on the broker."""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal

Verdict = Literal["process", "own_gap", "gap", "behind"]


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


class Continuity:
    """Watch over the offsets of events, per partition: Faust drops some around a rebalance.

    Event loop only.
    """

    def __init__(self) -> None:
        self._next: dict[Any, int] = {}  # offset due next
        self._gaps: dict[Any, int] = {}  # of partitions that are read again: first offset behind the gap

    def keep(self, assigned: Collection[Any]) -> None:
        """Forget partitions that are not among these, and what is being read again."""
        self._next = {place: offset for place, offset in self._next.items() if place in assigned}
        self._gaps.clear()

    def knows(self, place: Any) -> bool:
        """Return whether an event of a partition was judged since it was assigned."""
        return place in self._next

    def due(self, place: Any) -> int:
        """Return the offset due next."""
        return self._next.get(place, 0)

    def judge(self, place: Any, offset: int, committed: int | None) -> Verdict:
        """Say whether to process an event, or to read again from `due`.

        `gap`: it is the first one behind a gap; `behind`: what is missing has not come again yet; `own_gap`: process
        it, for the gap was still there when it was read again, so it is the topic's own: deleted records, or
        transactions' markers. `committed`: where a partition begins of which nothing was processed yet.
        """
        due = self._next.setdefault(place, committed or 0)
        behind = self._gaps.get(place)
        if offset > due and behind is None:
            self._gaps[place] = offset
            return "gap"
        if behind is not None and offset > behind:
            return "behind"
        self._gaps.pop(place, None)
        self._next[place] = max(due, offset + 1)
        return "own_gap" if offset > due else "process"


class _Waiting:
    __slots__ = ("deliveries", "event")

    def __init__(self, event: Any, deliveries: int) -> None:
        self.event, self.deliveries = event, deliveries
