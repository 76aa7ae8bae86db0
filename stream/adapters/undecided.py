"""Records and offsets that a broker left undecided when it ended a transaction.

A coordinator that ends a transaction while one of its partitions has no leader, as when the only broker starts again,
leaves that partition out (Kafka 4.3.1 logs "likely deleted already"). The records there stay undecided, and the next
transaction of the same transactional id decides them: aborted outcomes would be committed with its own, and offsets
wait until then. So whoever takes an id's place first aborts a transaction of its own wherever something is undecided.
"""

from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import Consumer, IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from earlybird.stream.adapters.clients import ClientLog
from earlybird.stream.adapters.options import KafkaOptions, client_options

REQUEST_TIMEOUT_S = 2.0  # time-out per request; requests are repeated


class Found(NamedTuple):
    """What a transaction must reach, to be aborted."""

    partitions: list[TopicPartition]  # where records of a transaction, whosesoever it is, are undecided
    offsets: list[TopicPartition]  # some that the group may commit
    group: object  # group metadata of no member: the broker then asks for no standing in the group


class Undecided:
    """Finder of what is undecided in the topics of outcomes. Not thread-safe: publisher thread only."""

    def __init__(
        self, bootstrap_servers: str, outcomes: Sequence[str], raw_topic: str, group: str, options: KafkaOptions
    ) -> None:
        """Connect at the first request. Offsets of `raw_topic` may be committed by the group."""
        self._outcomes, self._raw_topic, self._group = frozenset(outcomes), raw_topic, group
        self._settings = client_options(bootstrap_servers, options)
        self._settings.pop("group.instance.id", None)
        self._log = ClientLog("undecided", bootstrap_servers)
        self._admin: AdminClient | None = None

    def find(self) -> Found:
        """Return where something is undecided. Raises KafkaException."""
        admin = self._admin = self._admin or AdminClient(self._settings, logger=self._log)
        known = admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        places = [(topic, number) for topic in self._outcomes & known.keys() for number in known[topic].partitions]
        stable, ends = (self._ends(admin, places, level) for level in _LEVELS)
        partitions = [TopicPartition(*place) for place in places if stable[place] < ends[place]]
        consumer = Consumer(self._settings | {"group.id": self._group}, logger=self._log)
        try:
            return Found(partitions, [TopicPartition(self._raw_topic, 0, 0)], consumer.consumer_group_metadata())
        finally:
            consumer.close()

    def _ends(
        self, admin: AdminClient, places: Sequence[tuple[str, int]], level: IsolationLevel
    ) -> dict[tuple[str, int], int]:
        """Return the ends as readers of this isolation level see them."""
        if not places:
            return {}
        wanted = {TopicPartition(*place): OffsetSpec.latest() for place in places}
        answers = admin.list_offsets(wanted, isolation_level=level, request_timeout=REQUEST_TIMEOUT_S)
        return {(tp.topic, tp.partition): answer.result().offset for tp, answer in answers.items()}


_LEVELS = (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED)
