"""A TransactionalSink in memory that keeps what was committed, and aborts or expires transactions on demand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from earlybird.stream.ports import Commit, Outgoing, Partition


@dataclass(slots=True, eq=False)
class _Kept:
    outgoing: Outgoing
    receipt: object
    acknowledged: bool = False  # and its receipt returned
    arrived: bool = False  # in the open transaction


class MemoryTransactions:
    """Commits into `visible`, which outlives it; aborts the next `faults` commits; is due whenever `ripe`.

    With `late`, a commit is answered before the broker has decided it: nobody sees its outcomes, nor its offsets in
    `committed`, until `decide`, another commit or `renew`. If this one ends before, both are aborted.
    """

    largest = 1_000_000
    awaited: tuple[str, ...] = ()

    def __init__(self, visible: list[Outgoing], committed: dict[Partition, Commit]) -> None:
        self.visible, self._committed = visible, committed
        self.faults = 0
        self.ripe, self.late = True, False
        self.undecided: dict[Partition, Commit] = {}
        self._unseen: list[Outgoing] = []  # outcomes of the undecided
        self._open: list[_Kept] = []
        self._later: list[_Kept] = []
        self._held = False

    def send(self, outgoing: Outgoing, receipt: object | None = None) -> None:
        if receipt is not None:
            self._later.append(_Kept(outgoing, receipt))
            self._produce()

    def acknowledge(self, count: int | None = None) -> None:
        """The broker has the next records of the open transaction."""
        for kept in [kept for kept in self._open if not kept.arrived][:count]:
            kept.arrived = True

    def receipts(self, timeout_ms: int = 0) -> list[object]:
        self._produce()
        new = [kept for kept in self._open if kept.arrived and not kept.acknowledged]
        for kept in new:
            kept.acknowledged = True
        return [kept.receipt for kept in new]

    def unacknowledged(self) -> int:
        return len(self._open) + len(self._later)

    @property
    def due(self) -> bool:
        return self.ripe and bool(self._open)

    def hold(self) -> None:
        self._held = True

    @property
    def settled(self) -> bool:
        return self._held and all(kept.arrived and kept.acknowledged for kept in self._open)

    def commit(self, offsets: object) -> bool:
        before = dict(self._committed)
        if self.faults or not cast(Callable[[], bool], offsets)():
            self.faults = max(0, self.faults - 1)
            self._abort()
            return False
        self.undecided |= {p: commit for p, commit in self._committed.items() if commit != before.get(p)}
        self._unseen += [kept.outgoing for kept in self._open]
        self._open, self._held = [], False
        if self.late:
            self._committed.clear()
            self._committed.update(before)
        else:
            self.decide()
        return True

    def decide(self) -> None:
        """The broker's decision on what it has answered can be seen."""
        self._committed.update(self.undecided)
        self.visible += self._unseen
        self.undecided, self._unseen = {}, []

    def drop(self, unwanted: Callable[[object], bool]) -> list[object]:
        if any(unwanted(kept.receipt) for kept in self._open):
            self._abort()
        gone = [kept for kept in self._later if unwanted(kept.receipt)]
        self._later = [kept for kept in self._later if kept not in gone]
        return [kept.receipt for kept in gone if not kept.acknowledged]

    def expire(self) -> None:
        """The broker has ended the open transaction for its age."""
        if self._open:
            self._abort()

    def renew(self) -> None:
        self.decide()
        self.expire()

    def close(self) -> None:
        self._open.clear()

    def _abort(self) -> None:
        for kept in self._open:
            kept.arrived = False
        self._later, self._open, self._held = self._open + self._later, [], False

    def _produce(self) -> None:
        while self._later and not self._held:
            self._open.append(self._later.pop(0))
