"""Committed offsets: read when partitions are assigned, stored as records are finished."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from earlybird.stream.adapters.clients import PASSING, ClientLog, call_with_timeout
from earlybird.stream.adapters.group import commit_of, named_topic, offset_of
from earlybird.stream.adapters.topic_ids import TopicIds
from earlybird.stream.errors import SourceError
from earlybird.stream.observability.logging import get_logger
from earlybird.stream.ports import Commit, Partition

log = get_logger(__name__)

REQUEST_TIMEOUT_S = 2.0  # time-out per request; requests are repeated
COMMIT_TIMEOUT_S = 3.0  # for a commit that is waited for; shorter than a loop may take for /healthz


class Offsets:
    """Reader and writer of commits, each with its topic's id where known.

    Not thread-safe: consumer thread only. `accepted` and `refused` count commits. `recreated` counts partitions
    whose topic turned out to be another than the one that their commit, or this member, had read from.
    """

    def __init__(
        self,
        consumer: Consumer,
        ids: TopicIds,
        notes: ClientLog,
        timeout_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Use `consumer` and `ids`; give up reading committed offsets after `timeout_s`."""
        self.accepted = self.refused = 0
        self.recreated = 0
        self._consumer, self._ids, self._log = consumer, ids, notes
        self._timeout_s, self._monotonic = timeout_s, monotonic
        self._stored: dict[Partition, tuple[int, str]] = {}  # our partitions' last commits that the broker confirmed
        self._ours: set[Partition] = set()
        self._topic_ids: dict[Partition, str] = {}  # id of the topic that is or was read; "" where it is unknown
        self._former: set[str] = set()  # ids of deleted topics
        self._checked_ids: Mapping[str, str] = {}
        self._asked_at = float("-inf")  # when the commit was made that waits for its answer

    def begin(
        self, partitions: Sequence[TopicPartition], waiting: Callable[[], None]
    ) -> dict[Partition, Commit | None]:
        """Return the group's commits for these partitions.

        None for nothing committed, or for another topic of the same name. `waiting` is called while no answer comes.
        Raises SourceError.
        """
        tps = self._ask(list(partitions), waiting)
        ids = {topic: topic_id for topic, topic_id in self._ids.fetch().items() if topic_id not in self._former}
        return {partition_of(tp): self._begin(tp, ids.get(tp.topic, "")) for tp in tps}

    def recreated_partitions(self) -> list[Partition]:
        """Return our partitions whose topic was deleted and recreated while we read it.

        They are recorded here as begun anew.
        """
        latest = self._ids.latest
        if latest is self._checked_ids:
            return []
        self._checked_ids = latest
        gone = []
        for partition in self._ours:
            now, topic_id = latest.get(partition.topic), self._topic_ids[partition]
            if now and topic_id and now != topic_id and now not in self._former:
                gone.append(partition)
            elif now and not topic_id:
                self._topic_ids[partition] = now
        for partition in gone:
            self._recreated(partition, self._topic_ids[partition], latest[partition.topic])
            self._stored.pop(partition, None)
        return gone

    def store(self, commits: Mapping[Partition, Commit], *, wait: bool, inside: bool) -> bool:
        """See Source.commit.

        `inside`: called within a callback of the client, which then accepts the commit from this thread only.
        """
        offsets = [
            offset_of(partition, commit, self._topic_ids.get(partition, ""))
            for partition, commit in commits.items()
            if self._stored.get(partition) != commit[:2]
        ]
        if not offsets:
            return True
        try:
            if not wait:
                # One at a time: a broker answers a connection in order, and heartbeats wait behind commits.
                if self._monotonic() - self._asked_at > REQUEST_TIMEOUT_S:
                    self._consumer.commit(offsets=offsets, asynchronous=True)
                    self._asked_at = self._monotonic()
                return False

            def stored() -> list[TopicPartition]:
                return self._consumer.commit(offsets=offsets, asynchronous=False)

            return self.answered(None, stored() if inside else call_with_timeout(COMMIT_TIMEOUT_S, stored))
        except KafkaException as error:
            return self.answered(error.args[0], offsets)
        except TimeoutError:
            return self.answered(KafkaError(KafkaError._TIMED_OUT), offsets)

    def of(self, commits: Mapping[Partition, Commit]) -> list[TopicPartition]:
        """Return commits in the client's form."""
        return [offset_of(place, commit, self._topic_ids.get(place, "")) for place, commit in commits.items()]

    def answered(self, error: KafkaError | None, offsets: Sequence[TopicPartition]) -> bool:
        """Record a commit's result and return whether the broker stored it.

        Also the client's callback for commits that are not waited for.
        """
        self._asked_at = float("-inf")
        faults = [tp.error for tp in offsets if tp.error is not None]
        fault = error or (faults[0] if faults else None)
        if fault is None:
            self.accepted += 1
            for tp in offsets:
                # An answer may come after the partition has left, or for a topic that was deleted meanwhile.
                partition, topic_id = partition_of(tp), named_topic(tp)
                commit = commit_of(tp, topic_id)
                if commit is not None and partition in self._ours and topic_id == self._topic_ids[partition]:
                    self._stored[partition] = commit[:2]
            return True
        self.refused += 1
        if self._log.denies(fault):
            self._log.failure = f"offsets cannot be committed: {self._log.refusal(fault)}"
        if self._log.due(f"commit {fault.name()}"):
            say = log.info if fault.code() in PASSING else log.warning
            say("commit.refused", error=fault.name(), reason=fault.str(), refused=self.refused)
        return False

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Forget partitions that are no longer ours."""
        for partition in partitions:
            self._stored.pop(partition, None)
            self._ours.discard(partition)

    def _begin(self, tp: TopicPartition, topic_id: str) -> Commit | None:
        partition, committed_in = partition_of(tp), named_topic(tp)
        former = committed_in or self._topic_ids.get(partition, "")
        self._ours.add(partition)
        self._topic_ids[partition] = topic_id or former
        if topic_id and former and topic_id != former:
            self._recreated(partition, former, topic_id)
        if topic_id and committed_in and topic_id != committed_in:
            return None
        # Without an id from the broker, the commit's own id is trusted; `recreated_partitions` checks it later.
        return commit_of(tp, topic_id or committed_in)

    def _recreated(self, partition: Partition, former: str, topic_id: str) -> None:
        self.recreated += 1
        self._former.add(former)
        self._topic_ids[partition] = topic_id
        log.warning(
            "topic.recreated",
            topic=partition.topic,
            partition=partition.number,
            former_id=former,
            topic_id=topic_id,
            action="reading begins at the earliest record; offsets and map of the former topic mean nothing here",
        )

    def _ask(self, partitions: list[TopicPartition], waiting: Callable[[], None]) -> list[TopicPartition]:
        """Return committed offsets with their metadata, retrying until they come.

        Starting elsewhere would lose or repeat records. The answer may take long, for example while another member's
        transaction is open.
        """
        deadline = self._monotonic() + self._timeout_s
        while True:
            try:
                answer = self._consumer.committed(partitions, timeout=REQUEST_TIMEOUT_S)
                errors = [tp.error for tp in answer if tp.error is not None]
            except KafkaException as error:
                errors = [error.args[0]]
            if not errors:
                return answer
            if self._log.denies(errors[0]) or self._monotonic() > deadline:
                raise SourceError(f"committed offsets cannot be read: {self._log.refusal(errors[0])}")
            waiting()
            if self._log.due("committed"):
                say = log.info if errors[0].code() in PASSING else log.warning
                say("offsets.awaited", reason=errors[0].str())


def partition_of(tp: TopicPartition) -> Partition:
    """Convert the client's partition to a Partition."""
    return Partition(tp.topic, tp.partition)


def assign(consumer: Consumer, commits: Mapping[Partition, Commit | None]) -> None:
    """Assign partitions at their commits, else at the beginning.

    Where the leader epoch is known, the broker checks whether the records before were replaced meanwhile; the client
    does so for a seek, but not for an assignment.
    """
    tps = [_start(*begun) for begun in commits.items()]
    consumer.incremental_assign(tps)
    for tp in tps:
        if tp.leader_epoch is not None:
            try:
                consumer.seek(tp)
            except KafkaException as error:
                log.debug("offset.not_validated", topic=tp.topic, partition=tp.partition, reason=str(error))


def _start(partition: Partition, commit: Commit | None) -> TopicPartition:
    if commit is None:
        return TopicPartition(*partition, OFFSET_BEGINNING)
    if commit.leader_epoch < 0:
        return TopicPartition(*partition, commit.offset)
    return TopicPartition(*partition, commit.offset, leader_epoch=commit.leader_epoch)
