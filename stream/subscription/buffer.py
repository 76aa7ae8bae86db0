"""Between the thread that reads and the strategy: a bounded line with a policy for when the strategy is slow."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Condition
from typing import Literal, NamedTuple

from earlybird.stream.ports import Partition, Record

SlowReader = Literal["block", "drop_oldest"]

_ROOM_S = 0.05


class Waiting(NamedTuple):
    """A record that was let through, and whether the strategy can do without it: it opens an item, rather than
    correcting or retracting one. Without a record it is the mark that catching up ends here."""

    record: Record | None
    opens: bool


CAUGHT_UP = Waiting(None, opens=False)


class Buffer:
    """At most `capacity` records. The reading thread puts, the strategy's thread takes; both may ask the rest.

    `block`: a full line stops the reading, and records wait in Kafka. `drop_oldest`: the oldest record that opens an
    item goes (corrections and retractions only when there is nothing else), counted in `dropped`.
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
        self._marked = False  # the mark is in the line, where it takes no record's place
        self._line: deque[Waiting] = deque()
        self._coming: deque[Waiting] = deque()  # of the chunk that is being put, what has found no room yet
        self._in_hand: Record | None = None  # given to the strategy, which has not asked for the next one yet
        self._changed = Condition()  # reentrant: a signal handler of the strategy's thread may close
        self._wakers: list[Callable[[], object]] = []
        self._closed = False

    def put(self, chunk: Sequence[Waiting], while_full: Callable[[], None] = lambda: None) -> None:
        """Append; with `block` it waits for room and calls `while_full` every 50 ms. After `close` nothing is kept."""
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
        """The oldest, or None now. The one taken before counts as done."""
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
        """The one taken last needs no more."""
        with self._changed:
            self._in_hand = None
            self._notify()

    def wait_done(self, timeout_s: float) -> None:
        """Until the strategy is done with the one taken last, or the time is up."""
        with self._changed:
            if self._in_hand is not None:
                self._changed.wait(timeout_s)

    @property
    def in_hand(self) -> bool:
        """Whether the strategy is not done with the one taken last."""
        return self._in_hand is not None

    def wait(self, timeout_s: float) -> None:
        """Until there is something to take, somebody called `wake`, or the time is up."""
        with self._changed:
            if not self._line and not self._closed:
                self._changed.wait(timeout_s)

    @contextmanager
    def waking(self, waker: Callable[[], object]) -> Iterator[bool]:
        """Whether there is something to take; while inside, `waker` is called where a `wait` would end."""
        with self._changed:
            self._wakers.append(waker)
            there = bool(self._line) or self._closed
        try:
            yield there
        finally:
            with self._changed:
                self._wakers.remove(waker)

    def wake(self) -> None:
        """End a `wait`: something else is there to look at."""
        with self._changed:
            self._notify()

    def undone(self) -> dict[Partition, int]:
        """The lowest offset of each partition that the strategy is not done with."""
        found: dict[Partition, int] = {}
        with self._changed:
            for record in (self._in_hand, *(each.record for each in (*self._line, *self._coming))):
                if record is not None:
                    found.setdefault(_place(record), record.offset)
        return found

    def forget(self, partitions: set[Partition]) -> None:
        """Take these out: another reader has them now."""
        with self._changed:
            for line in (self._line, self._coming):
                kept = [each for each in line if each.record is None or _place(each.record) not in partitions]
                line.clear()
                line.extend(kept)
            self._notify()

    def close(self) -> None:
        """Let everybody go on. Nothing is added any more; what waits counts as undone."""
        with self._changed:
            self._closed = True
            self._notify()

    def __len__(self) -> int:
        return len(self._line)

    @property
    def _full(self) -> bool:
        return len(self._line) - self._marked >= self._capacity

    def _make_room(self, while_full: Callable[[], None]) -> None:
        self._notify()  # of what this chunk has brought so far
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
