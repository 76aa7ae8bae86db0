"""Group membership state and commit conversion."""

import struct
import time
from collections.abc import Callable

from confluent_kafka import Consumer, TopicPartition

from earlybird.stream.adapters.options import Protocol
from earlybird.stream.ports import Commit, Partition

CHECK_INTERVAL_S = 0.25  # between two checks, which take about 0.1 ms each
LARGEST_METADATA = 4095  # UTF-16 units that a broker accepts; 4096 is refused (offset.metadata.max.bytes)
_STAMP = "topic="  # followed by the topic's id (a UUID in 22 characters), a blank and the commit's own metadata
_STAMPED = len(_STAMP) + 22 + 1
_GENERATION = struct.Struct("=7si")  # start of librdkafka's group metadata: a tag and the generation


class Membership:
    """Whether the group counts us as a member with a known assignment.

    The assignment may be empty. Consumer thread only, except `is_member`, which any thread may read.

    librdkafka (2.16) does not report it. Under `classic` every rebalance ends with an assignment, an empty one for a
    spare member. A spare that the group has removed is not notified, but has no member id until it is back. Under
    `consumer` a spare is never notified, and the client chooses the member id from the start. But the generation,
    which is the member's epoch there and arrives with the assignment, is above 0 exactly while the group counts the
    member in.
    """

    def __init__(self, consumer: Consumer, protocol: Protocol, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.is_member = False
        self._consumer, self._protocol, self._monotonic = consumer, protocol, monotonic
        self._checked_at = -CHECK_INTERVAL_S

    def assigned(self) -> None:
        self.is_member = True

    def lost(self) -> None:
        """Record that the group has removed us."""
        self.is_member = False

    def refresh(self) -> None:
        """Check for changes that no callback reports; called at each poll."""
        if self._monotonic() - self._checked_at < CHECK_INTERVAL_S:
            return
        self._checked_at = self._monotonic()
        tag, generation = _GENERATION.unpack_from(self._consumer.consumer_group_metadata())
        if tag != b"CGMDv2:":
            return  # another librdkafka has another layout; then only the callbacks set `is_member`
        counted = self._consumer.memberid() is not None and generation > 0
        self.is_member = counted and (self.is_member or self._protocol == "consumer")


def commit_of(tp: TopicPartition, topic_id: str) -> Commit | None:
    """Return the group's stored commit for a partition of this topic, if any.

    Its metadata counts only if it was written for this topic; "" is a topic of unknown id.
    """
    if tp.offset < 0:
        return None
    written_for = named_topic(tp)
    note = (tp.metadata or "")[_STAMPED if written_for else 0 :]
    epoch = tp.leader_epoch
    return Commit(tp.offset, note if written_for == topic_id else "", -1 if epoch is None else epoch)


def offset_of(partition: Partition, commit: Commit, topic_id: str) -> TopicPartition:
    """Return the commit in the client's form, with the topic's id in its metadata.

    Raises ValueError when the metadata is longer than a broker accepts.
    """
    metadata = f"{_STAMP}{topic_id} {commit.metadata}" if topic_id else commit.metadata
    units = len(metadata.encode("utf-16-le")) // 2
    if units > LARGEST_METADATA:
        raise ValueError(f"{partition}: commit metadata of at most {LARGEST_METADATA} characters, was {units}")
    tp = TopicPartition(*partition, commit.offset, metadata)
    return tp if commit.leader_epoch < 0 else TopicPartition(*partition, commit.offset, metadata, commit.leader_epoch)


def named_topic(tp: TopicPartition) -> str:
    """Return the topic id that a commit was made for; "" without one."""
    metadata = tp.metadata or ""
    stamped = metadata.startswith(_STAMP) and metadata[_STAMPED - 1 : _STAMPED] == " "
    return metadata[len(_STAMP) : _STAMPED - 1] if stamped else ""
