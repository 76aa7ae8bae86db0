"""Raw topics in: a Source on confluent_kafka. Tried on Apache Kafka 4.3 and on librdkafka's mock cluster."""

import time
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from stream.adapters.clients import DENIED, MISSING, ClientLog, headers_of, leave, within
from stream.adapters.group import MOVED, Membership, commit_of, offset_of
from stream.adapters.options import Protocol, consumer_options
from stream.adapters.statistics import statistics_into
from stream.errors import SettingsError, SourceError
from stream.logs import get_logger
from stream.ports import Commit, Partition, RebalanceListener, Record

log = get_logger(__name__)

COMMITTED_TIMEOUT_S = 5.0
COMMIT_TIMEOUT_S = 10.0  # of one that is waited for at the end


class KafkaSource:
    """Reads topics as a member of a group. Not thread-safe: consumer thread only.

    Every partition starts where the group committed, else at the beginning, always said explicitly. An offset that
    the broker no longer has is an event (`source.out_of_range`), counted in `out_of_range`, and reading goes on at the
    earliest record there is. Refused commits are counted in `commits_refused`.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topics: Sequence[str],
        group: str,
        *,
        protocol: Protocol = "classic",
        options: Mapping[str, str | int | float | bool] | None = None,
        assignment_timeout_s: float = 300.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`options` are librdkafka's, passed through. Raises SettingsError for those that are not the user's."""
        self.topics = tuple(topics)
        self.out_of_range = self.commits_accepted = self.commits_refused = 0
        self.statistics: dict[str, float] = {}
        self._assignment_timeout_s, self._monotonic = assignment_timeout_s, monotonic
        self._log = ClientLog("source", bootstrap_servers, monotonic, group=group)
        self.missing_topics = self._log.missing_topics
        settings = consumer_options(bootstrap_servers, group, protocol, options or {})
        callbacks = {"error_cb": self._log.error, "on_commit": self._committed, "logger": self._log}
        self._consumer = _client(settings | callbacks | statistics_into(self.statistics))
        self._membership = Membership(self._consumer, protocol, monotonic)
        self._listener: RebalanceListener | None = None
        self._starts: dict[Partition, int] = {}  # ours, with the offset each was started at
        self._handing_over = False
        self._paused: set[Partition] = set()
        self._stored: dict[Partition, Commit] = {}  # of ours: the last commit that the broker has, as far as we know
        self._gone: set[Partition] = set()  # taken from us since the present poll's first record

    def subscribe(self, listener: RebalanceListener) -> None:
        """Join the group. Called once, before the first poll."""
        self._listener = listener
        self._consumer.subscribe(list(self.topics), on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lose)

    def poll(self, timeout_ms: int, limit: int) -> list[Record]:
        """As Source.poll. One wait for the first record, then what is there: consume(n, timeout) would wait for all n
        of them."""
        first = self._consumer.poll(timeout_ms / 1000)
        self._raise_failure()
        self._membership.look()
        for topic in tuple(self.missing_topics):  # librdkafka names each once
            self._log.missing(topic)
        if first is None:
            return []
        self._gone.clear()  # only now: within one wait a partition may have left us, come back and given this record
        rest = self._consumer.consume(limit - 1, 0) if limit > 1 else []
        self._raise_failure()
        # The second call may have handed the first record's partition over: its next owner reads it.
        messages = rest if _partition(first) in self._gone else [first, *rest]
        return [record_of(message) for message in messages if not self._error(message)]

    def commit(self, commits: Mapping[Partition, Commit], *, wait: bool) -> bool:
        """As Source.commit. A note longer than a broker takes is a ValueError: the ledger bounds it."""
        offsets = [offset_of(*commit) for commit in commits.items() if self._stored.get(commit[0]) != commit[1]]
        if not offsets:
            return True
        try:
            if not wait:
                self._consumer.commit(offsets=offsets, asynchronous=True)
                return False

            def stored() -> list[TopicPartition]:
                return self._consumer.commit(offsets=offsets, asynchronous=False)

            # Inside a rebalance the client only takes it from the thread that it has called.
            return self._accepted(None, stored() if self._handing_over else within(COMMIT_TIMEOUT_S, stored))
        except KafkaException as error:
            return self._accepted(error.args[0], offsets)
        except TimeoutError:
            return self._accepted(KafkaError(KafkaError._TIMED_OUT), offsets)

    def pause(self, partitions: Sequence[Partition]) -> None:
        """As Source.pause. Holds until `resume` or until the partition leaves us, over rebalances that leave it."""
        self._paused.update(partitions)
        self._consumer.pause([_named(partition) for partition in partitions if partition in self._starts])

    def resume(self, partitions: Sequence[Partition]) -> None:
        """As Source.resume."""
        self._paused.difference_update(partitions)
        self._consumer.resume([_named(partition) for partition in partitions if partition in self._starts])

    def attend(self, timeout_ms: int) -> None:
        """As Source.attend."""
        self._consumer.pause([_named(partition) for partition in self._starts])
        self._consumer.poll(timeout_ms / 1000)  # a record of a partition that has just come is its next owner's
        self._raise_failure()

    def lag(self) -> Mapping[Partition, int]:
        """As Source.lag; as of the last fetch of each partition."""
        lags = {}
        for place in self._consumer.position([_named(partition) for partition in self._starts]):
            partition = Partition(place.topic, place.partition)
            low, high = self._consumer.get_watermark_offsets(place, cached=True)
            if high >= 0:
                position = place.offset if place.offset >= 0 else max(self._starts[partition], low, 0)
                lags[partition] = max(0, high - position)
        return lags

    @property
    def member(self) -> bool:
        """As Source.member."""
        return self._membership.settled

    def close(self) -> None:
        """Leave the group, after `revoked` for what is still ours (on another thread, while this one waits)."""
        leave(self._consumer, "source")

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        committed = {_partition(place): commit_of(place) for place in self._ask_committed(partitions)}
        self._log.worked = True
        self.missing_topics.difference_update(partition.topic for partition in committed)
        for partition, commit in committed.items():
            self._starts[partition] = OFFSET_BEGINNING if commit is None else commit.offset
        assert self._listener is not None, "partitions assigned before subscribe. This is a bug."
        self._listener.assigned(committed)
        self._membership.assigned()
        consumer.incremental_assign(
            [TopicPartition(partition.topic, partition.number, self._starts[partition]) for partition in committed]
        )
        paused = [_named(partition) for partition in committed if partition in self._paused]
        if paused:
            consumer.pause(paused)
        log.info("partitions.assigned", partitions=[f"{place.topic}/{place.number}" for place in sorted(committed)])

    def _ask_committed(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Committed offsets with their notes. Asked until they come: to start elsewhere would lose or repeat records.
        They may be long in coming, while another member's transaction is open, say."""
        deadline = self._monotonic() + self._assignment_timeout_s
        while True:
            try:
                answer = self._consumer.committed(partitions, timeout=COMMITTED_TIMEOUT_S)
                errors = [place.error for place in answer if place.error is not None]
            except KafkaException as error:
                errors = [error.args[0]]
            if not errors:
                return answer
            if errors[0].code() in DENIED or self._monotonic() > deadline:
                raise SourceError(f"committed offsets cannot be read: {self._log.refusal(errors[0])}")
            if self._log.due("committed"):
                log.warning("offsets.awaited", reason=errors[0].str())

    def _revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        ours = [_partition(place) for place in partitions]
        assert self._listener is not None, "partitions revoked before subscribe. This is a bug."
        self._handing_over = True
        try:
            self._listener.revoked(ours)
        finally:
            self._handing_over = False
        self._forget(consumer, partitions)

    def _lose(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        ours = [_partition(place) for place in partitions]
        assert self._listener is not None, "partitions lost before subscribe. This is a bug."
        self._membership.lost()
        self._listener.lost(ours)
        self._forget(consumer, partitions)

    def _forget(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # The client remembers a pause beyond the assignment: the partition would come back and rest for ever.
        paused = [place for place in partitions if _partition(place) in self._paused]
        if paused:
            consumer.resume(paused)
        for place in partitions:
            partition = _partition(place)
            self._gone.add(partition)
            self._paused.discard(partition)
            self._starts.pop(partition, None)
            self._stored.pop(partition, None)
        consumer.incremental_unassign(partitions)

    def _error(self, message: Message) -> bool:
        """Whether this is no record but an event; acts on it. Raises SourceError."""
        error = message.error()
        if error is None:
            return False
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._start_over(message, error)
        elif error.fatal() or error.code() in DENIED:
            raise self._log.refusal(error, message.topic() or ", ".join(self.topics))
        elif error.code() in MISSING:
            self._log.missing(message.topic() or "")
        elif self._log.due(error.name()):
            log.warning("source.error", topic=message.topic(), error=error.name(), reason=error.str())
        return True

    def _start_over(self, message: Message, error: KafkaError) -> None:
        partition = _partition(message)
        if partition not in self._starts:
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
        assert self._listener is not None, "records before subscribe. This is a bug."
        self._listener.assigned({partition: None})  # its offsets begin anew, perhaps below the old ones
        # The client has stopped fetching this partition and refuses to seek in it; given anew, it starts.
        self._consumer.incremental_unassign([_named(partition)])
        self._starts[partition] = OFFSET_BEGINNING
        self._consumer.incremental_assign([TopicPartition(partition.topic, partition.number, OFFSET_BEGINNING)])
        if partition in self._paused:
            self._consumer.pause([_named(partition)])

    def _committed(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        self._accepted(error, offsets)

    def _accepted(self, error: KafkaError | None, offsets: list[TopicPartition]) -> bool:
        faults = [place.error for place in offsets if place.error is not None]
        fault = error or (faults[0] if faults else None)
        if fault is None:
            self.commits_accepted += 1
            self._stored.update({_partition(place): Commit(place.offset, place.metadata or "") for place in offsets})
            return True
        self.commits_refused += 1
        if fault.code() in DENIED:
            self._log.failure = f"offsets cannot be committed: {self._log.refusal(fault)}"
        if fault.code() in MOVED:
            log.info("commit.refused", error=fault.name(), reason="the partition has moved; its next owner repeats it")
        elif self._log.due(f"commit {fault.name()}"):
            log.warning("commit.refused", error=fault.name(), reason=fault.str(), refused=self.commits_refused)
        return False

    def _raise_failure(self) -> None:
        self._log.raise_failure()


def _client(settings: dict[str, object]) -> Consumer:
    try:
        return Consumer(settings)
    except KafkaException as error:
        raise SettingsError(f"Kafka options: {error.args[0].str()}") from None


def record_of(message: Message) -> Record:
    """The client's message in our words; it must be a record, not an event."""
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
    )


def _partition(place: TopicPartition | Message) -> Partition:
    if isinstance(place, TopicPartition):
        return Partition(place.topic, place.partition)
    topic, number = place.topic(), place.partition()
    return Partition(topic or "", -1 if number is None else number)  # client-wide events have no place


def _named(partition: Partition) -> TopicPartition:
    return TopicPartition(partition.topic, partition.number)
