"""Records and offsets that a broker left undecided when it ended a transaction.

A coordinator that ends a transaction while one of its partitions has no leader, as when the only broker starts again,
leaves that partition out (Kafka 4.3.1 logs "likely deleted already"). The records there stay undecided, and the next
transaction of the same transactional id decides them: aborted outcomes would be committed with its own, and offsets
wait until then. So a worker first aborts a transaction of its own in each partition where something is undecided.

Only where an undecided outcome is among the offsets that the group has committed, its transaction was committed, and
aborting would lose it: there the next transaction must decide. Offsets that are undecided themselves do not count: they
are aborted with the outcomes, and whoever reads next begins before both. To wait for them is to wait for ourselves.
"""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from earlybird.stream.adapters.clients import ClientLog, close_consumer
from earlybird.stream.adapters.ends import REQUEST_TIMEOUT_S, ask_ends
from earlybird.stream.adapters.group import commit_of, named_topic
from earlybird.stream.adapters.options import client_options
from earlybird.stream.config.client_options import Endpoint
from earlybird.stream.ports import Commit, Partition


class Found(NamedTuple):
    """What a transaction must reach, to be aborted."""

    partitions: list[TopicPartition]  # where records of any worker's transaction are undecided
    offsets: list[TopicPartition]  # some that the group may commit
    group: object  # group metadata of no member: the broker then asks for no standing in the group


class Undecided:
    """Finder of what is undecided in the topics of outcomes. Not thread-safe: publisher thread only."""

    def __init__(
        self,
        endpoint: Endpoint,
        outcomes: Sequence[str],
        raw_topics: Sequence[str],
        group: str,
        finished_above: Callable[[Commit], frozenset[int]],
    ) -> None:
        """Connect at each `find`. The group commits offsets of `raw_topics`; `finished_above` reads a commit's map."""
        self._outcomes, self._raw_topics, self._finished_above = frozenset(outcomes), raw_topics, finished_above
        settings = {"group.id": group, "enable.auto.commit": False, "enable.partition.eof": True}
        self._settings = client_options(endpoint) | settings
        self._settings.pop("group.instance.id", None)
        self._log = ClientLog("undecided", endpoint)

    def find(self) -> Found:
        """Return where something is undecided, to be aborted. Raises KafkaException, then to be repeated."""
        admin = AdminClient(self._settings, logger=self._log)
        known = admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        places = [
            Partition(topic, number) for topic in self._outcomes & known.keys() for number in known[topic].partitions
        ]
        stable, ends = (
            {place: answer.result().offset for place, answer in ask_ends(admin, places, level).items()}
            for level in _LEVELS
        )
        with self._consumer() as reader:
            undecided = [
                TopicPartition(*place)
                for place in places
                if stable[place] < ends[place]
                and not self._committed(reader, self._sources(reader, place, stable[place], ends[place]))
            ]
            return Found(undecided, [TopicPartition(self._raw_topics[0], 0, 0)], reader.consumer_group_metadata())

    def undone(self, commits: Sequence[TopicPartition]) -> bool:
        """Return whether the group has less than these commits, which the broker once accepted."""
        with self._consumer() as reader:
            stored = reader.committed([TopicPartition(tp.topic, tp.partition) for tp in commits], REQUEST_TIMEOUT_S)
        return any(now.error is None and self._less(now, tp) for now, tp in zip(stored, commits, strict=True))

    def _less(self, stored: TopicPartition, offsets: TopicPartition) -> bool:
        ours, now = (commit_of(tp, named_topic(tp)) for tp in (offsets, stored))
        if now is None or ours is None or now.offset != ours.offset:
            return ours is not None and (now is None or now.offset < ours.offset)
        return not self._finished_above(ours) <= self._finished_above(now)

    @contextmanager
    def _consumer(self) -> Iterator[Consumer]:
        """Open a member of nothing that sees everything, undecided or not."""
        consumer = Consumer(self._settings | {"isolation.level": "read_uncommitted"}, logger=self._log)
        try:
            yield consumer
        finally:
            close_consumer(consumer, "undecided")

    def _committed(self, reader: Consumer, sources: Collection[tuple[Partition, int]]) -> bool:
        """Return whether the group has committed any of these raw offsets."""
        wanted = [TopicPartition(*partition) for partition in {partition for partition, _ in sources}]
        for tp in reader.committed(wanted, timeout=REQUEST_TIMEOUT_S) if wanted else ():
            commit = None if tp.error is not None else commit_of(tp, named_topic(tp))  # an error: undecided, too
            offsets = {offset for partition, offset in sources if partition == (tp.topic, tp.partition)}
            if commit is not None and (min(offsets) < commit.offset or offsets & self._finished_above(commit)):
                return True
        return False

    def _sources(self, reader: Consumer, place: Partition, start: int, end: int) -> set[tuple[Partition, int]]:
        """Return the raw offsets whose outcomes lie there."""
        found: set[tuple[Partition, int]] = set()
        reader.assign([TopicPartition(*place, start)])
        while (message := reader.poll(REQUEST_TIMEOUT_S)) is not None:
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            if error is not None or (message.offset() or 0) >= end:
                return found
            source = _source(message.value())
            if source is not None and source[0].topic in self._raw_topics:
                found.add(source)
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


def _source(value: bytes | None) -> tuple[Partition, int] | None:
    """Return the raw offset whose outcome this is, if it is one."""
    try:
        raw = json.loads(value or b"")["raw"]
        return Partition(str(raw["topic"]), int(raw["partition"])), int(raw["offset"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


_LEVELS = (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED)
