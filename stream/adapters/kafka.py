"""Kafka source of raw topics, tested on Apache Kafka 4.3 and librdkafka's mock cluster."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    Message,
    TopicPartition,
)

from earlybird.stream.adapters.clients import MISSING, ClientLog, fatal, headers_of, leave_group, open_consumer
from earlybird.stream.adapters.credentials import PasswordFile
from earlybird.stream.adapters.group import Membership
from earlybird.stream.adapters.offsets import Offsets, assign, partition_of
from earlybird.stream.adapters.options import Protocol, consumer_options
from earlybird.stream.adapters.read_progress import ReadProgress
from earlybird.stream.adapters.statistics import statistics_into
from earlybird.stream.adapters.topic_ids import TopicIds
from earlybird.stream.config.client_options import Endpoint, KafkaEndpoint
from earlybird.stream.errors import SourceError
from earlybird.stream.observability.logging import get_logger
from earlybird.stream.ports import Commit, Partition, RebalanceListener, Record

log = get_logger(__name__)


class KafkaSource:
    """A Source that reads topics as a group member; not thread-safe, consumer thread only.

    Every partition starts at the group's commit, else at the beginning, always set explicitly. An offset that the
    broker no longer has, or whose records were replaced, is logged (`source.out_of_range`) and counted in
    `out_of_range`; reading continues at the earliest record. A topic that was deleted and recreated
    (`topic.recreated`) is handled alike. Refused commits are counted in `commits_refused`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        topics: Sequence[str],
        group: str,
        *,
        protocol: Protocol = "classic",
        assignment_timeout_s: float = 300.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the consumer; raises SettingsError for options that users may not set."""
        self.topics, endpoint = tuple(topics), KafkaEndpoint.of(endpoint)
        self.out_of_range = 0
        self.statistics: dict[str, float] = {}
        self._protocol, self._monotonic = protocol, monotonic
        self._log = ClientLog("source", endpoint, monotonic, group=group)
        self.missing_topics = self._log.missing_topics
        settings = consumer_options(endpoint, group, protocol)
        password = PasswordFile(endpoint.options, "source")
        callbacks = statistics_into(self.statistics, lambda: password.check(self._consumer))
        self._consumer = open_consumer(settings | callbacks | {"on_commit": self._committed}, self._log)
        self._topic_ids = TopicIds(endpoint, topics)
        self._offsets = Offsets(self._consumer, self._topic_ids, self._log, assignment_timeout_s, monotonic)
        self._membership = Membership(self._consumer, protocol, monotonic)
        self._progress = ReadProgress(self._consumer, lambda: self._topic_ids.admin, monotonic)
        self._listener: RebalanceListener | None = None
        self._starts: dict[Partition, int] = {}  # our partitions, with the offset at which each started
        self._inside = self._closing = False
        self._paused: set[Partition] = set()
        self._revoked: set[Partition] = set()  # revoked since the first record of the current poll
        self._to_begin_anew: set[Partition] = set()  # once the records read before are returned

    def subscribe(self, listener: RebalanceListener) -> None:
        """Join the group; called once, before the first poll."""
        self._listener = listener
        self._consumer.subscribe(list(self.topics), on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lose)

    def poll(self, timeout_ms: int, limit: int) -> list[Record]:
        """See Source.poll.

        Waits for the first record only: consume(n, timeout) would wait for all n.
        """
        self._handle_changes()
        first = self._first(timeout_ms / 1000)
        self._membership.refresh()
        for topic in tuple(self.missing_topics):  # librdkafka names each once
            self._log.missing(topic)
        if first is None:
            self._progress.note_empty_poll()
            return []
        self._revoked.clear()  # not earlier: in one wait a partition may be revoked, return and deliver this record
        rest = self._consumer.consume(limit - 1, 0) if limit > 1 else []
        self._log.raise_failure()
        # The second call may have revoked the first record's partition: its next owner reads the record.
        messages = rest if _partition(first) in self._revoked else [first, *rest]
        return [record_of(message) for message in messages if not self._event(message)]

    def commit(self, commits: Mapping[Partition, Commit], *, wait: bool) -> bool:
        """See Source.commit; metadata too long for a broker is a ValueError (the ledger bounds it)."""
        return self._offsets.store(commits, wait=wait, inside=self._inside)

    def offsets_for(self, commits: Mapping[Partition, Commit]) -> tuple[list[TopicPartition], object]:
        """See TransactionalSource.offsets_for."""
        return self._offsets.of(commits), self._consumer.consumer_group_metadata()

    def pause(self, partitions: Sequence[Partition]) -> None:
        """See Source.pause; lasts until `resume` or revocation."""
        self._paused.update(partitions)
        self._consumer.pause([TopicPartition(*partition) for partition in partitions if partition in self._starts])

    def resume(self, partitions: Sequence[Partition]) -> None:
        self._paused.difference_update(partitions)
        self._consumer.resume([TopicPartition(*partition) for partition in partitions if partition in self._starts])

    def serve_group(self, timeout_ms: int) -> None:
        self._consumer.pause([TopicPartition(*partition) for partition in self._starts])
        self._consumer.poll(timeout_ms / 1000)  # a record of a just assigned partition is left to its next owner
        self._log.raise_failure()

    def lag(self) -> Mapping[Partition, int]:
        """See Source.lag; as of the call before."""
        return self._progress.lag(self._starts)

    @property
    def unreadable(self) -> Mapping[Partition, int]:
        return self._progress.unreadable({p: start for p, start in self._starts.items() if p not in self._paused})

    @property
    def topics_recreated(self) -> int:
        """Number of partitions whose topic was deleted and recreated."""
        return self._offsets.recreated

    @property
    def commits_accepted(self) -> int:
        """Number of commits that the broker accepted."""
        return self._offsets.accepted

    @property
    def commits_refused(self) -> int:
        """Number of commits that the broker refused."""
        return self._offsets.refused

    @property
    def member(self) -> bool:
        return self._membership.is_member

    def close(self) -> None:
        """Call `revoked` for our partitions and leave the group, on another thread; this one waits."""
        if not self._closing:
            self._closing = True
            self._topic_ids.close()
            leave_group(self._consumer, "source", self._protocol)

    def _first(self, timeout_s: float) -> Message | None:
        """Return the first record that comes in time, after handling the events before it."""
        deadline = self._monotonic() + timeout_s
        while True:
            message = self._consumer.poll(max(0.0, timeout_s))
            self._log.raise_failure()
            if message is None or not self._event(message):
                return message
            timeout_s = deadline - self._monotonic()

    def _handle_changes(self) -> None:
        """Handle changes for which the client has no callback."""
        if ends := self._progress.new_ends():  # not earlier: the records before these ends have been returned by now
            assert self._listener is not None, "records before subscribe. This is a bug."
            self._listener.read_to(ends)
        if self._to_begin_anew:  # perhaps in another topic of this name, which is to be begun once, not twice
            self._topic_ids.refresh()
        for partition in sorted(self._to_begin_anew.union(self._offsets.recreated_partitions())):
            self._begin_anew(partition)

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._closing:  # nothing is read, and the listener never hears of them
            consumer.incremental_assign(partitions)
            return
        with self._calling() as listener:
            committed = self._offsets.begin(partitions, listener.waiting)
            self._log.worked = True
            self.missing_topics.difference_update(partition.topic for partition in committed)
            for partition, commit in committed.items():
                self._starts[partition] = OFFSET_BEGINNING if commit is None else commit.offset
            listener.assigned(committed)
        self._membership.assigned()
        assign(consumer, committed)
        if paused := [TopicPartition(*partition) for partition in committed if partition in self._paused]:
            consumer.pause(paused)
        log.info("partitions.assigned", partitions=[f"{p.topic}/{p.number}" for p in sorted(committed)])

    def _revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        with self._calling() as listener:
            listener.revoked([p for tp in partitions if (p := _partition(tp)) in self._starts])
        self._forget(consumer, partitions)

    def _lose(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._membership.lost()
        with self._calling() as listener:
            listener.lost([p for tp in partitions if (p := _partition(tp)) in self._starts])
        self._forget(consumer, partitions)

    @contextmanager
    def _calling(self) -> Iterator[RebalanceListener]:
        """Yield the listener, to be called within a callback of the client."""
        assert self._listener is not None, "partitions before subscribe. This is a bug."
        self._inside = True
        try:
            yield self._listener
        finally:
            self._inside = False

    def _forget(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # The client keeps a pause beyond the assignment: the partition would return and stay paused for ever.
        if paused := [tp for tp in partitions if _partition(tp) in self._paused]:
            consumer.resume(paused)
        ours = {_partition(tp) for tp in partitions}
        self._starts = {p: start for p, start in self._starts.items() if p not in ours}
        self._revoked |= ours
        self._paused -= ours
        self._to_begin_anew -= ours
        self._offsets.forget(ours)
        self._progress.forget(ours)
        consumer.incremental_unassign(partitions)

    def _event(self, message: Message) -> bool:
        """Handle a message if it is an event and return whether it is; raises SourceError."""
        error = message.error()
        if error is None:
            return False
        if error.code() == KafkaError._PARTITION_EOF:
            partition, offset = _partition(message), message.offset()
            if partition in self._starts and offset is not None:
                self._progress.note_end(partition, offset)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._start_over(message, error)
        elif fatal(error):
            raise SourceError(f"Kafka has ended this member of the group for good: {error.str()}")
        elif self._log.denies(error):
            raise self._log.refusal(error, message.topic() or ", ".join(self.topics))
        elif error.code() in MISSING:
            self._log.missing(message.topic() or "")
        elif self._log.due(error.name()):
            log.warning("source.error", topic=message.topic(), error=error.name(), reason=error.str())
        return True

    def _start_over(self, message: Message, error: KafkaError) -> None:
        if (partition := _partition(message)) not in self._starts:
            return
        self.out_of_range += 1
        log.error(
            "source.out_of_range",
            topic=partition.topic,
            partition=partition.number,
            offset=message.offset(),
            reason=error.str(),
            action="reading goes on at the earliest record; what was deleted before it was read is lost",
        )
        self._to_begin_anew.add(partition)

    def _begin_anew(self, partition: Partition) -> None:
        """Read from the earliest record, since this partition's known offsets are no longer valid."""
        assert self._listener is not None, "records before subscribe. This is a bug."
        self._to_begin_anew.discard(partition)
        self._listener.assigned({partition: None})
        self._progress.forget([partition])
        # The client has stopped fetching this partition and refuses to seek in it; a new assignment starts it.
        self._consumer.incremental_unassign([TopicPartition(*partition)])
        self._starts[partition] = OFFSET_BEGINNING
        assign(self._consumer, {partition: None})
        if partition in self._paused:
            self._consumer.pause([TopicPartition(*partition)])

    def _committed(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        self._offsets.answered(error, offsets)


def record_of(message: Message) -> Record:
    """Convert the client's message, which must not be an event, to a Record."""
    partition, offset = _partition(message), message.offset()
    assert offset is not None, "a record without an offset. This is librdkafka's bug."
    kind, stamp_ms = message.timestamp()
    return Record(
        partition.topic,
        partition.number,
        offset,
        message.key(),
        message.value(),
        None if kind == TIMESTAMP_NOT_AVAILABLE else stamp_ms * 1000,
        headers_of(message),
        -1 if (epoch := message.leader_epoch()) is None else epoch,
    )


def _partition(of: TopicPartition | Message) -> Partition:
    if isinstance(of, TopicPartition):
        return partition_of(of)
    topic, number = of.topic(), of.partition()
    return Partition(topic or "", -1 if number is None else number)  # client-wide events have no place
