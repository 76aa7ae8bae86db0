"""A bounded buffer between reading thread and strategy, with a policy for slow strategies."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Condition
from typing import Literal, NamedTuple

from earlybird.stream.ports import Partition, Record

SlowReader = Literal["block", "drop_oldest"]

_ROOM_S = 0.05


class Waiting(NamedTuple):
    """A selected record, and whether it opens an item rather than following one up.

    A strategy can do without a record that opens an item, not without a correction or retraction. Without a record it
    is the mark at which catching up ends.
    """

    record: Record | None
    opens: bool


CAUGHT_UP = Waiting(None, opens=False)


class Buffer:
    """At most `capacity` records, put by the reading thread and taken by the strategy's.

    Both threads may call the other methods. `block`: a full buffer stops the reading, and records wait in Kafka.
    `drop_oldest`: the oldest record that opens an item goes (corrections and retractions only when there is nothing
    else), counted in `dropped`.
    """

    def __init__(self, capacity: int, policy: SlowReader) -> None:
        if capacity < 1:
            raise ValueError(f"buffer: at least 1 record required, was {capacity}")
        if policy not in ("block", "drop_oldest"):
            raise ValueError(f"slow_reader: block or drop_oldest, was {policy!r}")
        self.dropped = 0
        self.caught_up = False  # the mark was taken
        self.policy = policy
        self._capacity = capacity
        self._marked = False  # the mark is in the line; it does not count against the capacity
        self._line: deque[Waiting] = deque()
        self._coming: deque[Waiting] = deque()  # rest of the chunk being put that has found no room yet
        self._in_hand: Record | None = None  # taken by the strategy, which has not asked for the next one yet
        self._changed = Condition()  # reentrant: a signal handler of the strategy's thread may close
        self._wakers: list[Callable[[], object]] = []
        self._closed = False

    def put(self, chunk: Sequence[Waiting], while_full: Callable[[], None] = lambda: None) -> None:
        """Append records; with `block`, wait for room and call `while_full` every 50 ms.

        After `close` nothing is kept.
        """
        with self._changed:
            self._coming.extend(chunk)
            while self._coming:
                if self._full and self._coming[0] is not CAUGHT_UP:
                    self._make_room(while_full)
                if self._closed:
                    return
                if self._coming:  # `forget` may have taken them
                    self._marked |= self._coming[0] is CAUGHT_UP
                    self._line.append(self._coming.popleft())
            self._notify()

    def take(self) -> Record | None:
        """Return the oldest record, if any; the one taken before counts as done."""
        with self._changed:
            self._in_hand = None
            if not self._line:
                return None
            self._in_hand, _ = self._line.popleft()
            if self._in_hand is None:
                self.caught_up, self._marked = True, False
            if len(self._line) == self._capacity // 2:  # a reader that waits for room gets some at once
                self._changed.notify_all()
            return self._in_hand

    def done(self) -> None:
        """Mark the record taken last as handled."""
        with self._changed:
            self._in_hand = None
            self._notify()

    def wait_done(self, timeout_s: float) -> None:
        """Wait until the record taken last is handled, or the timeout ends."""
        with self._changed:
            if self._in_hand is not None:
                self._changed.wait(timeout_s)

    @property
    def in_hand(self) -> bool:
        """Whether the strategy still handles the record taken last."""
        return self._in_hand is not None

    def wait(self, timeout_s: float) -> None:
        """Wait until there is something to take, `wake` is called, or the timeout ends."""
        with self._changed:
            if not self._line and not self._closed:
                self._changed.wait(timeout_s)

    @contextmanager
    def waking(self, waker: Callable[[], object]) -> Iterator[bool]:
        """Yield whether there is something to take.

        Inside the context, `waker` is called wherever a `wait` would end.
        """
        with self._changed:
            self._wakers.append(waker)
            ready = bool(self._line) or self._closed
        try:
            yield ready
        finally:
            with self._changed:
                self._wakers.remove(waker)

    def wake(self) -> None:
        """End a `wait`, because there is something besides records to look at."""
        with self._changed:
            self._notify()

    def undone(self) -> dict[Partition, int]:
        """Return each partition's lowest offset that the strategy has not handled."""
        found: dict[Partition, int] = {}
        with self._changed:
            for record in (self._in_hand, *(each.record for each in (*self._line, *self._coming))):
                if record is not None:
                    found.setdefault(_place(record), record.offset)
        return found

    def forget(self, partitions: set[Partition]) -> None:
        """Remove the records of these partitions, which another group member reads now."""
        with self._changed:
            for line in (self._line, self._coming):
                kept = [each for each in line if each.record is None or _place(each.record) not in partitions]
                line.clear()
                line.extend(kept)
            self._notify()

    def close(self) -> None:
        """Release all waiting threads and refuse new records; waiting records count as undone."""
        with self._changed:
            self._closed = True
            self._notify()

    def __len__(self) -> int:
        return len(self._line)

    @property
    def _full(self) -> bool:
        return len(self._line) - self._marked >= self._capacity

    def _make_room(self, while_full: Callable[[], None]) -> None:
        self._notify()  # part of this chunk is there already
        while self._full and not self._closed:
            if self.policy == "drop_oldest":
                self._drop()
            elif not self._changed.wait(_ROOM_S):
                self._changed.release()  # the strategy may take meanwhile
                try:
                    while_full()
                finally:
                    self._changed.acquire()

    def _drop(self) -> None:
        index = next((index for index, each in enumerate(self._line) if each.opens), None)
        if index is None:
            index = next((index for index, each in enumerate(self._line) if each is not CAUGHT_UP), 0)
        del self._line[index]
        self.dropped += 1

    def _notify(self) -> None:
        self._changed.notify_all()
        for waker in self._wakers:
            waker()


def _place(record: Record) -> Partition:
    return Partition(record.topic, record.partition)
