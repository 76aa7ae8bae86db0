"""A consumer group as its client tells of it: whether it counts us in, and commits in its words."""

import struct
import time
from collections.abc import Callable

from confluent_kafka import Consumer, TopicPartition

from earlybird.stream.adapters.options import Protocol
from earlybird.stream.ports import Commit, Partition

LOOK_S = 0.25  # between two looks, of some 0.1 ms each
LARGEST_METADATA = 4095  # UTF-16 units that a broker takes; 4096 is refused (offset.metadata.max.bytes)
_STAMP = "topic="  # before the id of the topic, which is a UUID in 22 characters, and a blank; then comes the note
_STAMPED = len(_STAMP) + 22 + 1
_GENERATION = struct.Struct("=7si")  # how librdkafka's group metadata begin: a tag, and the generation


class Membership:
    """Whether the group counts us in and we know our share of it, which may be nothing. Consumer thread only, but for
    `settled`, which any thread may read.

    librdkafka (2.16) has no word for it. Under `classic` every rebalance ends with an assignment, an empty one for a
    spare; a spare that is thrown out hears nothing, but has no member id until it is back. Under `consumer` a spare
    hears nothing at all, and the member id is the client's own from the start; but the generation, which is there the
    member's epoch and comes together with its share, is above 0 just as long as the group counts it in.
    """

    def __init__(self, consumer: Consumer, protocol: Protocol, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.settled = False
        self._consumer, self._protocol, self._monotonic = consumer, protocol, monotonic
        self._looked_at = -LOOK_S

    def assigned(self) -> None:
        """We were told our share."""
        self.settled = True

    def lost(self) -> None:
        """We were thrown out."""
        self.settled = False

    def look(self) -> None:
        """Called at each poll: what no callback tells."""
        if self._monotonic() - self._looked_at < LOOK_S:
            return
        self._looked_at = self._monotonic()
        tag, generation = _GENERATION.unpack_from(self._consumer.consumer_group_metadata())
        if tag != b"CGMDv2:":
            return  # a librdkafka that writes it otherwise: the callbacks have to do
        counted = self._consumer.memberid() is not None and generation > 0
        self.settled = counted and (self.settled or self._protocol == "consumer")


def commit_of(place: TopicPartition, topic_id: str) -> Commit | None:
    """What the group has stored for a partition of this topic, if anything. Its note counts only if it was written for
    this topic; "" is a topic whose id is not known."""
    if place.offset < 0:
        return None
    written_for = named_topic(place)
    note = (place.metadata or "")[_STAMPED if written_for else 0 :]
    epoch = place.leader_epoch
    return Commit(place.offset, note if written_for == topic_id else "", -1 if epoch is None else epoch)


def offset_of(partition: Partition, commit: Commit, topic_id: str) -> TopicPartition:
    """What the group shall store. Raises ValueError for a note that is longer than a broker takes."""
    metadata = f"{_STAMP}{topic_id} {commit.metadata}" if topic_id else commit.metadata
    units = len(metadata.encode("utf-16-le")) // 2
    if units > LARGEST_METADATA:
        raise ValueError(f"{partition}: commit metadata of at most {LARGEST_METADATA} characters, was {units}")
    place = TopicPartition(*partition, commit.offset, metadata)
    return (
        place if commit.leader_epoch < 0 else TopicPartition(*partition, commit.offset, metadata, commit.leader_epoch)
    )


def named_topic(place: TopicPartition) -> str:
    """The id of the topic that a commit was made for; "" where it names none."""
    metadata = place.metadata or ""
    stamped = metadata.startswith(_STAMP) and metadata[_STAMPED - 1 : _STAMPED] == " "
    return metadata[len(_STAMP) : _STAMPED - 1] if stamped else ""
