"""Read progress per partition, and what blocks it."""

import time
from collections.abc import Callable, Iterable, Mapping

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from earlybird.stream.adapters.ends import BrokerEnds
from earlybird.stream.observability.logging import get_logger
from earlybird.stream.ports import Partition

log = get_logger(__name__)

STALLED_S = 10.0  # logged when nothing became readable for so long although there is more


class ReadProgress:
    """Partition ends that reading has reached; not thread-safe, consumer thread only."""

    def __init__(
        self,
        consumer: Consumer,
        admin: Callable[[], AdminClient | None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`admin` is asked for the ends of partitions, once it is there."""
        self._consumer, self._monotonic = consumer, monotonic
        self._broker_ends = BrokerEnds(admin)
        self._ends: dict[Partition, int] = {}  # everything readable below was read, as of the client's last report
        self._new_ends: dict[Partition, int] = {}
        self._since: dict[Partition, float] = {}  # time since when there is more and none of it came
        self._empty_poll_s = float("-inf")  # the last time that the client had no record
        self._warned: set[Partition] = set()

    def note_end(self, partition: Partition, offset: int) -> None:
        """Record that the client reached the end of what can be read."""
        self._ends[partition] = self._new_ends[partition] = offset

    def note_empty_poll(self) -> None:
        """Record that the client had no record, of any partition."""
        self._empty_poll_s = self._monotonic()

    def new_ends(self) -> Mapping[Partition, int]:
        """Return the ends reached since the last call."""
        new_ends, self._new_ends = self._new_ends, {}
        return new_ends

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Forget partitions that are no longer ours, or that begin anew."""
        for partition in partitions:
            for state in (self._ends, self._new_ends, self._since):
                state.pop(partition, None)
            self._broker_ends.forget(partition)
            self._warned.discard(partition)

    def lag(self, starts: Mapping[Partition, int]) -> Mapping[Partition, int]:
        """See Source.lag. The client knows an end from its last fetch, and fetches nothing that is paused.

        `starts`: the offset at which each partition started.
        """
        ends = self._broker_ends.latest(starts)
        return {
            p: max(0, max(high, ends.get(p, 0)) - position) for p, (position, high) in self._positions(starts).items()
        }

    def unreadable(self, starts: Mapping[Partition, int]) -> Mapping[Partition, int]:
        """See Source.unreadable.

        An open transaction holds back what is behind its first record: the high watermark moves on, the readable end
        does not. `starts`: offsets at which the partitions that are not paused started.
        """
        tps, now = self._positions(starts), self._monotonic()
        for partition in self._since.keys() - tps.keys():
            self._unblock(partition)
        for partition, (position, high) in tps.items():
            if position <= self._ends.get(partition, -1) < high:
                self._since.setdefault(partition, now)
            else:
                self._unblock(partition)
        # Records that wait in the client for the next poll are not blocked.
        found = {p: tps[p][1] - self._ends[p] for p, since in self._since.items() if self._empty_poll_s > since}
        for partition in found.keys() - self._warned:
            if now - self._since[partition] > STALLED_S:
                self._warned.add(partition)
                self._warn(partition, self._ends[partition], found[partition])
        return found

    def _unblock(self, partition: Partition) -> None:
        self._since.pop(partition, None)
        self._warned.discard(partition)

    def _positions(self, starts: Mapping[Partition, int]) -> dict[Partition, tuple[int, int]]:
        tps = {}
        for tp in self._consumer.position([TopicPartition(*partition) for partition in starts]):
            partition = Partition(tp.topic, tp.partition)
            low, high = self._consumer.get_watermark_offsets(tp, cached=True)
            if high >= 0:
                tps[partition] = tp.offset if tp.offset >= 0 else max(starts[partition], low, 0), high
        return tps

    def _warn(self, partition: Partition, end: int, records: int) -> None:
        log.warning(
            "partition.unreadable",
            topic=partition.topic,
            partition=partition.number,
            offset=end,
            records=records,
            reason="a producer's transaction is open, and nothing behind it can be read until it ends",
            hint="kafka-transactions.sh find-hanging",
        )
