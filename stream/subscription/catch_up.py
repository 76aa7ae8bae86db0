"""Merges the history of several partitions into the broker's order at start-up."""

import heapq
from collections import deque
from collections.abc import Iterable, Mapping

from earlybird.stream.ports import Partition, Record
from earlybird.stream.timeline.availability import appended_us

AHEAD = 4_096  # records kept of a partition that runs ahead of the others


class CatchUp:
    """A merge by the broker's times, ties by partition, as in a replay.

    A record leaves once no partition with more history can precede it. The reader must pause the partitions in `ahead`,
    so that at most some thousand records of each are held, and report which ones are at their end. Not thread-safe.
    """

    def __init__(self, ends: Mapping[Partition, int], ahead: int = AHEAD) -> None:
        """`ends`: the offset behind the history of each partition that has any."""
        self._ends = dict(ends)  # only partitions with more to come
        self._ahead = ahead
        self._lines: dict[Partition, deque[tuple[int, Record]]] = {}
        self._reached: dict[Partition, int] = {}
        self._heads: list[tuple[int, Partition]] = []  # one entry per line that is not empty
        self._held: set[Partition] = set()

    @property
    def over(self) -> bool:
        """Whether all history has left."""
        return not self._ends and not self._heads

    @property
    def ahead(self) -> set[Partition]:
        """Partitions to pause because enough of them is held while others lag.

        A paused one is released at half of the limit.
        """
        self._held = {
            partition
            for partition, line in self._lines.items()
            if len(line) >= (self._ahead // 2 if partition in self._held else self._ahead)
        }
        return self._held

    def add(self, records: Iterable[Record]) -> None:
        """Add records that were read, in offset order per partition."""
        for record in records:
            partition = Partition(record.topic, record.partition)
            at_us = max(self._reached.get(partition, 0), appended_us(record) or 0)  # times never descend in a partition
            self._reached[partition] = at_us
            line = self._lines.setdefault(partition, deque())
            if not line:
                heapq.heappush(self._heads, (at_us, partition))
            line.append((at_us, record))
            if record.offset + 1 >= self._ends.get(partition, record.offset + 2):
                del self._ends[partition]

    def at_end(self, partitions: Iterable[Partition]) -> None:
        """Mark partitions as ended; their last offsets may hold no records."""
        for partition in partitions:
            self._ends.pop(partition, None)

    def ready(self) -> list[Record]:
        """Return the records that nothing to come can precede, in order."""
        found: list[Record] = []
        awaited = any(not self._lines.get(partition) for partition in self._ends)
        while self._heads and not awaited:
            _, partition = self._heads[0]
            line = self._lines[partition]
            found.append(line.popleft()[1])
            if line:
                heapq.heapreplace(self._heads, (line[0][0], partition))
            else:
                heapq.heappop(self._heads)
                awaited = partition in self._ends
        return found
