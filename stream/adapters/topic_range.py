"""Kafka reader of a bounded range of topics, without group or commits.

Every partition is assigned from its start to its end; the ends are frozen when the range is made.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec

from earlybird.stream.adapters.broker_requests import REQUEST_TIMEOUT_S, partitions_of, retried
from earlybird.stream.adapters.clients import ClientLog, close_consumer, open_consumer
from earlybird.stream.adapters.framed_values import SignalValues
from earlybird.stream.adapters.kafka import record_of
from earlybird.stream.adapters.options import reader_options
from earlybird.stream.adapters.time_index import by_time, first_record, next_record
from earlybird.stream.adapters.topics import admin_client
from earlybird.stream.config.client_options import Endpoint, KafkaEndpoint
from earlybird.stream.errors import SourceError
from earlybird.stream.observability.logging import get_logger
from earlybird.stream.ports import Partition, Record
from earlybird.stream.timeline.availability import StampedRecord
from earlybird.stream.timeline.merge import Begin, Span, Window

log = get_logger(__name__)

SILENCE_S = 60.0  # a bounded read without records for so long has lost its broker
AHEAD = 4_096  # records buffered per partition whose turn has not come


class TopicReader:
    """A consumer with a manual assignment; not thread-safe."""

    def __init__(
        self, endpoint: Endpoint, starts: Mapping[Partition, int], given_up: Callable[[], bool] = lambda: False
    ) -> None:
        """Assign these starts; raises SettingsError for options that users may not set.

        `given_up`: whether to wait no longer for a schema registry that is away.
        """
        self._log, self._values = ClientLog("reader", endpoint), SignalValues.of(endpoint, given_up)
        self._given_up = given_up
        self._consumer = _consumer(endpoint, self._log)
        self.at_end: dict[Partition, int] = {}  # the offset of the last end-of-partition event
        self._known = set(starts)
        self._consumer.assign([TopicPartition(*partition, offset) for partition, offset in starts.items()])

    def refresh(self) -> None:
        """Read partitions that were added to these topics, from their beginning."""
        try:
            for topic in sorted({partition.topic for partition in self._known}):
                answer = self._consumer.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic]
                added = {Partition(topic, number) for number in answer.partitions} - self._known
                if added and answer.error is None:
                    log.info(
                        "partitions.added", topic=topic, partitions=sorted(partition.number for partition in added)
                    )
                    self._known |= added
                    self._consumer.incremental_assign(
                        [TopicPartition(*partition, OFFSET_BEGINNING) for partition in added]
                    )
        except KafkaException as error:
            self._log.error(error.args[0])

    def poll(self, timeout_ms: int, limit: int = 1_000) -> list[StampedRecord]:
        """Return up to `limit` records; empty on timeout, and once given up. Raises SourceError."""
        first = self._consumer.poll(timeout_ms / 1000)
        self._log.raise_failure()
        if first is None:
            return []
        self._log.worked = True
        messages = [first, *self._consumer.consume(limit - 1, 0)]
        found = [stamped for message in messages if (stamped := self._stamped(message)) is not None]
        return [] if self._given_up() else found

    def pause(self, partitions: Iterable[Partition]) -> None:
        self._consumer.pause([TopicPartition(*partition) for partition in partitions])

    def resume(self, partitions: Iterable[Partition]) -> None:
        self._consumer.resume([TopicPartition(*partition) for partition in partitions])

    def close(self) -> None:
        self._values.close()
        close_consumer(self._consumer, "reader")

    def _stamped(self, message: Message) -> StampedRecord | None:
        error = message.error()
        if error is None:
            appended = message.timestamp()[0] == TIMESTAMP_LOG_APPEND_TIME
            return StampedRecord(self._values.plain(record_of(message)), appended)
        if error.code() == KafkaError._PARTITION_EOF:
            topic, number, offset = message.topic(), message.partition(), message.offset()
            assert topic is not None and number is not None and offset is not None
            self.at_end[Partition(topic, number)] = offset
        elif error.fatal() or self._log.denies(error) or error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise self._log.refusal(error, f"{message.topic()}/{message.partition()}")
        return None


class TopicHistory:
    """A History on a broker."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Store the endpoint; it connects at the first call."""
        self._endpoint = KafkaEndpoint.of(endpoint)

    def spans(self, topics: Iterable[str], window: Window) -> dict[Partition, Span]:
        """See History.spans.

        Raises SourceError for a topic that does not exist, or a broker that does not answer.
        """
        with self._asking() as (consumer, log):
            partitions = _partitions(consumer, log, topics)
            whole = frozen_ends(self._endpoint, consumer, log, partitions)
            return {
                part: window.clip(part, by_time(consumer, part, span, window)) for part, span in sorted(whole.items())
            }

    def cut(self, topics: Iterable[str], window: Window) -> dict[Partition, Begin]:
        """See History.cut; returns what retention or an operator has deleted, raises like `spans`."""
        with self._asking() as (consumer, log):
            begins = {part: _begin(consumer, log, part) for part in _partitions(consumer, log, topics)}
            return {part: begin for part, begin in begins.items() if window.lacks_before(part, begin)}

    def records(self, places: Iterable[tuple[Partition, int]]) -> list[Record | None]:
        """Return the record at each place; None where the broker has none any more.

        Raises like `spans`.
        """
        with self._asking() as (consumer, log):
            return [_record_at(consumer, log, partition, offset) for partition, offset in places]

    @contextmanager
    def _asking(self) -> Iterator[tuple[Consumer, ClientLog]]:
        log = ClientLog("planner", self._endpoint)
        consumer = _consumer(self._endpoint, log)
        try:
            yield consumer, log
        except KafkaException as error:
            raise SourceError(f"{self._endpoint.bootstrap_servers}: {error.args[0].str()}") from None
        finally:
            close_consumer(consumer, "planner")

    def read(self, spans: Mapping[Partition, Span], window: Window) -> list[Iterator[StampedRecord]]:  # noqa: ARG002
        """See History.read; only `spans` bound it, raises SourceError when the broker falls silent."""
        wanted = {partition: span for partition, span in spans.items() if span.start < span.end}
        if not wanted:
            return []
        shared = _Shared(self._endpoint, wanted)
        return [shared.read(partition) for partition in wanted]


class _Shared:
    """One consumer shared by an iterator per partition.

    Partitions that run far ahead of their turn are paused.
    """

    def __init__(self, endpoint: KafkaEndpoint, spans: Mapping[Partition, Span]) -> None:
        starts = {partition: span.start for partition, span in spans.items()}
        self._reader = TopicReader(endpoint, starts)
        self._ends = {partition: span.end for partition, span in spans.items()}
        self._waiting: dict[Partition, deque[StampedRecord]] = {partition: deque() for partition in spans}
        self._paused: set[Partition] = set()

    def read(self, partition: Partition) -> Iterator[StampedRecord]:
        try:
            yield from self._read(partition)
        finally:  # also when the iterator is closed before its end
            self._finish(partition)

    def _read(self, partition: Partition) -> Iterator[StampedRecord]:
        waiting = self._waiting[partition]
        heard_s = time.monotonic()
        while True:
            while waiting:
                yield waiting.popleft()
                heard_s = time.monotonic()
            if partition not in self._ends:
                return
            if partition in self._paused:
                self._paused.remove(partition)
                self._reader.resume([partition])
            if self._fill():
                heard_s = time.monotonic()
            elif time.monotonic() - heard_s > SILENCE_S:
                raise SourceError(f"{partition.topic}/{partition.number}: nothing came for {SILENCE_S:.0f} s")

    def _fill(self) -> int:
        came = self._reader.poll(200)
        for stamped in came:
            record = stamped.record
            partition = Partition(record.topic, record.partition)
            if partition not in self._ends:
                continue
            if record.offset >= self._ends[partition]:
                self._finish(partition)
                continue
            self._waiting[partition].append(stamped)
            if record.offset + 1 >= self._ends[partition]:
                self._finish(partition)
        for partition, offset in self._reader.at_end.items():
            if partition in self._ends and offset >= self._ends[partition]:
                self._finish(partition)
        ahead = {p for p, waiting in self._waiting.items() if len(waiting) > AHEAD} & self._ends.keys() - self._paused
        if ahead:
            self._reader.pause(ahead)
            self._paused |= ahead
        return len(came)

    def _finish(self, partition: Partition) -> None:
        if self._ends.pop(partition, None) is None:
            return
        if self._ends:
            self._reader.pause([partition])
        else:
            self._reader.close()


def frozen_ends(
    endpoint: Endpoint, consumer: Consumer, log: ClientLog, partitions: Sequence[Partition]
) -> dict[Partition, Span]:
    """Return each partition's first and end offset now.

    The end is that of committed records: records behind an open transaction are not waited for. Asked again while a
    partition has no leader, as just after its topic was made.
    """
    starts = {part: _watermarks(consumer, log, part)[0] for part in partitions}
    if not partitions:
        return {}
    admin = admin_client(endpoint)
    latest = {TopicPartition(*part): OffsetSpec.latest() for part in partitions}  # type: ignore[no-untyped-call]

    def committed_ends(try_s: float) -> dict[Partition, int]:
        answers = admin.list_offsets(
            latest, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=max(try_s, 1.0)
        )
        return {Partition(place.topic, place.partition): answer.result().offset for place, answer in answers.items()}

    ends = retried(consumer, log, committed_ends)
    return {part: Span(starts[part], max(starts[part], ends[part])) for part in partitions}


def _watermarks(consumer: Consumer, log: ClientLog, partition: Partition) -> tuple[int, int]:
    place = TopicPartition(*partition)

    def asked(try_s: float) -> tuple[int, int]:
        found: tuple[int, int] = consumer.get_watermark_offsets(place, timeout=try_s)
        return found

    return retried(consumer, log, asked)


def _partitions(consumer: Consumer, log: ClientLog, topics: Iterable[str]) -> list[Partition]:
    give_up_at = time.monotonic() + REQUEST_TIMEOUT_S
    return [
        Partition(topic, number)
        for topic in topics
        for number in partitions_of(consumer, log, topic, give_up_at - time.monotonic(), awaited=False)
    ]


def _begin(consumer: Consumer, log: ClientLog, partition: Partition) -> Begin:
    first, end = _watermarks(consumer, log, partition)
    found = next_record(consumer, partition, first) if 0 < first < end else None
    return Begin(first, None if found is None else found[1])


def _record_at(consumer: Consumer, log: ClientLog, partition: Partition, offset: int) -> Record | None:
    first, end = _watermarks(consumer, log, partition)
    found = first_record(consumer, partition, offset) if first <= offset < end else None
    return found if found is not None and found.offset == offset else None


def _consumer(endpoint: Endpoint, log: ClientLog) -> Consumer:
    return open_consumer(reader_options(endpoint, "earlybird-replay"), log)
