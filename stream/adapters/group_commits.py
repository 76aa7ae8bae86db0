"""Committed offsets of a group, read without joining it."""

from collections.abc import Collection

from confluent_kafka import TopicPartition

from earlybird.stream.adapters.clients import ClientLog, close_consumer, open_consumer
from earlybird.stream.adapters.offsets import Offsets
from earlybird.stream.adapters.options import reader_options
from earlybird.stream.adapters.topic_ids import TopicIds
from earlybird.stream.config.client_options import Endpoint
from earlybird.stream.ports import Commit, Partition

_ANSWER_S = 10.0


def group_commits(endpoint: Endpoint, group: str, partitions: Collection[Partition]) -> dict[Partition, Commit | None]:
    """Return a group's commits for these partitions.

    None for nothing committed, or for another topic of the same name. Raises SourceError where the broker does not
    tell them, or not to us.
    """
    notes = ClientLog("commits", endpoint, group=group)
    # What an open transaction would commit is not committed, and not waited for.
    consumer = open_consumer(reader_options(endpoint, group, read_committed=False), notes)
    ids = TopicIds(endpoint, sorted({partition.topic for partition in partitions}))
    try:
        offsets = Offsets(consumer, ids, notes, _ANSWER_S)
        return offsets.begin([TopicPartition(*partition) for partition in partitions], notes.raise_failure)
    finally:
        ids.close()
        close_consumer(consumer, "commits")
