"""Between the thread that reads and the strategy: a bounded line with a policy for when the strategy is slow."""

from collections import deque
from collections.abc import Callable
from threading import Condition
from typing import Literal, NamedTuple

from stream.ports import Partition, Record

SlowReader = Literal["block", "drop_oldest"]


class Waiting(NamedTuple):
    """A record that was let through, and whether the strategy can do without it: it opens an item, rather than
    correcting or retracting one."""

    record: Record
    opens: bool


class Buffer:
    """At most `capacity` records. The reading thread puts, the strategy's thread takes; both may ask the rest.

    `block`: a full line stops the reading, and records wait in Kafka. `drop_oldest`: the oldest record that opens an
    item goes (corrections and retractions only when there is nothing else), counted in `dropped`.
    """

    def __init__(self, capacity: int, policy: SlowReader) -> None:
        if capacity < 1:
            raise ValueError(f"buffer: at least 1 record required, was {capacity}")
        self.dropped = 0
        self._capacity, self._policy = capacity, policy
        self._line: deque[Waiting] = deque()
        self._in_hand: Record | None = None  # given to the strategy, which has not asked for the next one yet
        self._changed = Condition()
        self._closed = False

    def put(self, waiting: Waiting, while_full: Callable[[], None] = lambda: None) -> None:
        """Append; with `block` it waits for room and calls `while_full` every 50 ms. After `close` nothing is kept."""
        with self._changed:
            while len(self._line) >= self._capacity and not self._closed:
                if self._policy == "drop_oldest":
                    self._drop()
                elif not self._changed.wait(0.05):
                    self._changed.release()  # the strategy may take meanwhile
                    try:
                        while_full()
                    finally:
                        self._changed.acquire()
            if not self._closed:
                self._line.append(waiting)
                self._changed.notify_all()

    def take(self) -> Record | None:
        """The oldest, or None now. The one taken before counts as done."""
        with self._changed:
            self._in_hand = self._line.popleft().record if self._line else None
            self._changed.notify_all()
            return self._in_hand

    def done(self) -> None:
        """The one taken last needs no more."""
        with self._changed:
            self._in_hand = None

    def wait(self, timeout_s: float) -> None:
        """Until there is something to take, somebody called `wake`, or the time is up."""
        with self._changed:
            if not self._line and not self._closed:
                self._changed.wait(timeout_s)

    def wake(self) -> None:
        """End a `wait`: something else is there to look at."""
        with self._changed:
            self._changed.notify_all()

    def undone(self) -> dict[Partition, int]:
        """The lowest offset of each partition that the strategy is not done with."""
        found: dict[Partition, int] = {}
        with self._changed:
            waiting = (each.record for each in self._line)
            for record in waiting if self._in_hand is None else (self._in_hand, *waiting):
                found.setdefault(Partition(record.topic, record.partition), record.offset)
        return found

    def forget(self, partitions: set[Partition]) -> None:
        """Take these out: another reader has them now."""
        with self._changed:
            self._line = deque(
                each for each in self._line if Partition(each.record.topic, each.record.partition) not in partitions
            )
            self._changed.notify_all()

    def close(self) -> None:
        """Let everybody go on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._line)

    def _drop(self) -> None:
        index = next((index for index, each in enumerate(self._line) if each.opens), 0)
        del self._line[index]
        self.dropped += 1
