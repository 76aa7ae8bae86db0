"""How far reading has come in each partition, and what stands in its way."""

import time
from collections.abc import Callable, Iterable, Mapping

from confluent_kafka import Consumer, TopicPartition

from stream.logs import get_logger
from stream.ports import Partition

log = get_logger(__name__)

STALLED_S = 10.0  # nothing became readable for so long although there is more: worth a line


class Reached:
    """Ends that reading has reached. Not thread-safe: consumer thread only."""

    def __init__(self, consumer: Consumer, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._consumer, self._monotonic = consumer, monotonic
        self._ends: dict[Partition, int] = {}  # all that can be read below was read, as of the client's last word
        self._untold: dict[Partition, int] = {}
        self._since: dict[Partition, float] = {}  # there is more, and none of it can be read
        self._warned: set[Partition] = set()

    def end(self, partition: Partition, offset: int) -> None:
        """The client has come to the end of what can be read."""
        self._ends[partition] = self._untold[partition] = offset

    def untold(self) -> Mapping[Partition, int]:
        """The ends that came since the last call."""
        untold, self._untold = self._untold, {}
        return untold

    def forget(self, partitions: Iterable[Partition]) -> None:
        """These are not ours any more, or are begun anew."""
        for partition in partitions:
            for state in (self._ends, self._untold, self._since):
                state.pop(partition, None)
            self._warned.discard(partition)

    def lag(self, starts: Mapping[Partition, int]) -> Mapping[Partition, int]:
        """As Source.lag; as of the last fetch of each partition. `starts`: where each was begun."""
        return {p: max(0, high - position) for p, (position, high) in self._places(starts).items()}

    def unreadable(self, starts: Mapping[Partition, int]) -> Mapping[Partition, int]:
        """As SourceReport.unreadable. An open transaction holds back what is behind its first record: the end of the
        log moves on, what can be read does not."""
        found, now = {}, self._monotonic()
        for partition, (position, high) in self._places(starts).items():
            end = self._ends.get(partition)
            if end is None or position > end or high <= end:
                self._since.pop(partition, None)
                self._warned.discard(partition)
                continue
            since = self._since.setdefault(partition, now)
            found[partition] = high - end
            if now - since > STALLED_S and partition not in self._warned:
                self._warned.add(partition)
                self._warn(partition, end, high)
        return found

    def _places(self, starts: Mapping[Partition, int]) -> dict[Partition, tuple[int, int]]:
        places = {}
        for place in self._consumer.position([TopicPartition(*partition) for partition in starts]):
            partition = Partition(place.topic, place.partition)
            low, high = self._consumer.get_watermark_offsets(place, cached=True)
            if high >= 0:
                places[partition] = place.offset if place.offset >= 0 else max(starts[partition], low, 0), high
        return places

    def _warn(self, partition: Partition, end: int, high: int) -> None:
        log.warning(
            "partition.unreadable",
            topic=partition.topic,
            partition=partition.number,
            offset=end,
            records=high - end,
            reason="a producer's transaction is open, and nothing behind it can be read until it ends",
            hint="kafka-transactions.sh find-hanging",
        )
