"""How many records to read, and which partitions to pause."""

import time
from collections.abc import Callable, Iterable, Sequence

from earlybird.stream.ports import Partition, Record, Source
from earlybird.stream.stage.budget import Budget
from earlybird.stream.stage.offsets import OffsetTracker

PAUSE_AFTER_S = 0.2  # a budget used up for this long means that the engine is the bottleneck


class Backpressure:
    """Bounds on what is in flight. Not thread-safe: consumer thread only."""

    def __init__(
        self, source: Source, offsets: OffsetTracker, budget: Budget, give: Callable[[Sequence[Record]], None]
    ) -> None:
        """`give` takes records that a poll returned although none was wanted."""
        self._source, self._offsets, self._budget, self._give = source, offsets, budget, give
        self._paused: set[Partition] = set()
        self._all_paused = False
        self._full_since_s: float | None = None

    def room(self, in_flight: int) -> int:
        """Return how many records to poll for; 0: not now, and the group was served."""
        if self._offsets.suspects and in_flight < self._budget.max_in_flight:
            return self._room_for_a_suspect(in_flight)
        if not self._has_room(in_flight):
            return 0
        self._bound_spans()
        return self._budget.max_in_flight - in_flight

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Forget partitions that are no longer ours."""
        self._paused.difference_update(partitions)

    def _room_for_a_suspect(self, in_flight: int) -> int:
        if in_flight:
            return 0
        self._resume_all()
        return 1

    def _has_room(self, in_flight: int) -> bool:
        """Return whether to poll for records; pause all partitions after a long wait."""
        # A full budget must first free half of it or a batch, because small batches cost more per text. Pausing drops
        # prefetched records, so it waits for PAUSE_AFTER_S.
        now_s, budget = time.monotonic(), self._budget
        if in_flight <= budget.max_in_flight - max(1, min(budget.batch, budget.max_in_flight // 2)):
            self._resume_all()
            return True
        if self._full_since_s is None:
            self._full_since_s = now_s
        if not self._all_paused and now_s - self._full_since_s > PAUSE_AFTER_S:
            self._all_paused = True
            self._source.pause(self._offsets.partitions())
        if self._all_paused:
            self._give(self._source.poll(0, 1))  # serves the group; only a new assignment can yield a record
        return False

    def _resume_all(self) -> None:
        self._full_since_s = None
        if self._all_paused:
            self._all_paused = False
            self._source.resume([p for p in self._offsets.partitions() if p not in self._paused])

    def _bound_spans(self) -> None:
        """Pause partitions too far ahead of their first unfinished record: maps must fit a commit."""
        for partition in self._offsets.partitions():
            span = self._offsets.span(partition)
            if partition not in self._paused and span >= self._budget.max_span:
                self._source.pause([partition])
                self._paused.add(partition)
            elif partition in self._paused and span <= self._budget.max_span // 2:
                self._source.resume([partition])
                self._paused.discard(partition)
