"""What several partitions held when reading began, put into the order in which the broker got it."""

import heapq
from collections import deque
from collections.abc import Iterable, Mapping

from earlybird.stream.ports import Partition, Record
from earlybird.stream.timeline.availability import appended_us

AHEAD = 4_096  # records kept of a partition that runs ahead of the others


class CatchUp:
    """A merge by the broker's times, ties by partition, as a replay has it. Not thread-safe.

    A record leaves once no partition that has more history can precede it. Whoever reads must stop the partitions in
    `ahead`, so that at most some thousand records of each are held, and say which ones are at their end.
    """

    def __init__(self, ends: Mapping[Partition, int], ahead: int = AHEAD) -> None:
        """`ends`: the offset behind the history of each partition that has any."""
        self._ends = dict(ends)  # of those that have more to come
        self._ahead = ahead
        self._lines: dict[Partition, deque[tuple[int, Record]]] = {}
        self._reached: dict[Partition, int] = {}
        self._heads: list[tuple[int, Partition]] = []  # of every line that is not empty
        self._held: set[Partition] = set()

    @property
    def over(self) -> bool:
        """Whether everything that was there has left."""
        return not self._ends and not self._heads

    @property
    def ahead(self) -> set[Partition]:
        """Partitions of which enough is held while others are waited for; let go again at half of that."""
        self._held = {
            partition
            for partition, line in self._lines.items()
            if len(line) >= (self._ahead // 2 if partition in self._held else self._ahead)
        }
        return self._held

    def add(self, records: Iterable[Record]) -> None:
        """Take in what was read, in offset order per partition."""
        for record in records:
            partition = Partition(record.topic, record.partition)
            at_us = max(self._reached.get(partition, 0), appended_us(record) or 0)  # a partition never goes back
            self._reached[partition] = at_us
            line = self._lines.setdefault(partition, deque())
            if not line:
                heapq.heappush(self._heads, (at_us, partition))
            line.append((at_us, record))
            if record.offset + 1 >= self._ends.get(partition, record.offset + 2):
                del self._ends[partition]

    def at_end(self, partitions: Iterable[Partition]) -> None:
        """The broker has no more of these; their last offsets may hold no records."""
        for partition in partitions:
            self._ends.pop(partition, None)

    def ready(self) -> list[Record]:
        """Those that nothing to come can precede, in order."""
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
