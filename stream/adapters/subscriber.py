"""Kafka reader for strategies: alone without traces on the broker, or in a group."""

import time
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from typing import Literal, TypeVar

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from earlybird.stream.adapters.broker_requests import partitions_of
from earlybird.stream.adapters.clients import ClientLog, close_consumer, leave_group, open_consumer
from earlybird.stream.adapters.framed_values import SignalValues
from earlybird.stream.adapters.kafka import record_of
from earlybird.stream.adapters.options import reader_options
from earlybird.stream.config.client_options import Endpoint
from earlybird.stream.errors import SourceError
from earlybird.stream.observability.logging import get_logger
from earlybird.stream.ports import Partition, Record

log = get_logger(__name__)

Start = Literal["now", "beginning"] | int
"""Where reading begins. An integer is an instant in epoch microseconds, by the broker's timestamps."""

_ANSWER_S = 5.0
_AGAIN_S = 0.2
T = TypeVar("T")


class Subscriber:
    """Kafka reader that returns records as they appear, with or without a group.

    Not thread-safe: one thread polls, commits and closes.

    Without a group nothing is committed and no other client is affected; `refresh` finds partitions added later, and
    `ends` holds the end of each partition with history when reading began. In a group the broker shares the
    partitions out; each starts at the group's commit, or at `start` without one.

    Reading survives broker outages. Records that the broker deleted before they were read are lost, counted in
    `out_of_range` and logged, and reading continues at the earliest record.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        topics: Sequence[str],
        *,
        start: Start,
        group: str | None = None,
        read_committed: bool = True,
        timeout_s: float = 10.0,
        revoked: Callable[[Sequence[Partition], bool], None] = lambda *_: None,
        given_up: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wait up to `timeout_s` for a broker and the topics, else raise SourceError.

        `revoked` is called inside `poll` with partitions that move to another member, and whether they may still be
        committed. `given_up` is checked while waiting for a broker. SettingsError for options that users may not
        set.
        """
        self.out_of_range = 0
        self.ends: dict[Partition, int] = {}
        self._given_up, self._deadline_s = given_up, time.monotonic() + timeout_s
        self._topics, self._start, self._group, self._revoked = tuple(topics), start, group, revoked
        self._log = ClientLog("subscriber", endpoint, group=group)
        self._values = SignalValues.of(endpoint, given_up)
        settings = {
            "topic.metadata.refresh.interval.ms": 5000,
            "heartbeat.interval.ms": 300,  # as in consumer_options: a partition moves at its next owner's heartbeat
            "session.timeout.ms": 10_000,
            **reader_options(endpoint, group or "earlybird-subscriber", read_committed=read_committed),
            "enable.partition.eof": group is None,
            "partition.assignment.strategy": "cooperative-sticky",
        }
        self._consumer = open_consumer(settings, self._log)
        self._known: set[Partition] = set()
        self._at_end: set[Partition] = set()
        self._paused: set[Partition] = set()
        self._idle = self._closing = False
        self._held: list[Message] = []  # at most one, read while idle
        self._left: set[Partition] = set()  # left since the first record of the current poll
        try:
            self._open(topics)
        except BaseException:
            self.close()
            raise

    def poll(self, timeout_ms: int, limit: int = 500) -> list[Record]:
        """Return up to `limit` records at and after `start`.

        Waits at most `timeout_ms` for the first. Raises SourceError when reading can never go on.
        """
        if self._idle:
            self._idle = False
            self._consumer.resume(
                [place for place in self._consumer.assignment() if (place.topic, place.partition) not in self._paused]
            )
        first = self._held.pop() if self._held else self._consumer.poll(timeout_ms / 1000)
        self._log.raise_failure()
        self._left.clear()  # not earlier: in one wait a partition may go, return and deliver this record
        messages = [] if first is None else self._consumer.consume(limit - 1, 0)
        if first is not None and _partition_of(first) not in self._left:  # else its next owner reads it
            messages = [first, *messages]
        records = [self._values.plain(record_of(message)) for message in messages if not self._fault(message)]
        if isinstance(self._start, int):  # create times may be out of order, and not every broker can search by time
            return [record for record in records if (record.timestamp_us or self._start) >= self._start]
        return records

    def keep_alive(self) -> None:
        """Keep the group membership alive; called instead of `poll` while no records are wanted."""
        self._idle = True
        self._consumer.pause(self._consumer.assignment())
        if not self._held and (message := self._consumer.poll(0)) is not None:  # from a just assigned partition
            self._held.append(message)
        self._log.raise_failure()

    def hold(self, partitions: Set[Partition]) -> None:
        """Pause these partitions and resume all others."""
        if stop := partitions - self._paused:
            self._consumer.pause([TopicPartition(*partition) for partition in stop])
        if go := self._paused - partitions:
            self._consumer.resume([TopicPartition(*partition) for partition in go])
        self._paused = set(partitions)

    def at_end(self) -> set[Partition]:
        """Return partitions whose end was reached since the last call; none in a group."""
        found, self._at_end = self._at_end, set()
        return found

    def commit(self, offsets: Mapping[Partition, int], *, wait: bool = False) -> None:
        """Commit the offsets at which the group continues after a restart.

        A refusal is logged: at worst records come twice.
        """
        places = [TopicPartition(*partition, offset) for partition, offset in offsets.items()]
        if not places:
            return
        try:
            if wait:
                self._consumer.commit(offsets=places, asynchronous=False)
            else:
                self._consumer.commit(offsets=places, asynchronous=True)
        except KafkaException as error:
            if self._log.due("commit"):
                log.warning("commit.refused", client="subscriber", reason=error.args[0].str())

    def refresh(self) -> None:
        """Read newly added partitions from their beginning; no effect in a group."""
        if self._group is not None:
            return
        try:
            for topic in self._topics:
                known = self._consumer.list_topics(topic, timeout=_ANSWER_S).topics[topic]
                added = [place for number in known.partitions if (place := Partition(topic, number)) not in self._known]
                if added and known.error is None:
                    log.info("partitions.added", topic=topic, partitions=sorted(place.number for place in added))
                    self._assign(added, "beginning")
        except KafkaException as error:
            self._log.error(error.args[0])

    def close(self) -> None:
        """Leave the group and close the connections, within seconds whatever the broker does."""
        self._values.close()
        self._closing = True
        if self._group is None:
            close_consumer(self._consumer, "subscriber")
        else:
            leave_group(self._consumer, "subscriber", "classic")

    def _open(self, topics: Sequence[str]) -> None:
        places = [place for topic in topics for place in self._partitions(topic)]
        if self._group is None:
            self._assign(places, self._start)
        else:
            self._consumer.subscribe(list(topics), on_assign=self._join, on_revoke=self._leave, on_lost=self._lose)
        self._deadline_s = float("inf")

    def _assign(self, partitions: Sequence[Partition], start: Start) -> None:
        self._known.update(partitions)
        self._consumer.incremental_assign(self._starting_offsets(partitions, start))
        self._log.worked = True

    def _join(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        if self._closing:  # nothing is read, so where to start need not be asked
            consumer.incremental_assign(places)
            return
        committed = self._retried(partial(consumer.committed, places, timeout=_ANSWER_S))
        fresh = [Partition(place.topic, place.partition) for place in committed if place.offset < 0]
        known = [TopicPartition(place.topic, place.partition, place.offset) for place in committed if place.offset >= 0]
        consumer.incremental_assign([*known, *self._starting_offsets(fresh, self._start)])
        self._log.worked = True

    def _leave(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._release(consumer, places, True)

    def _lose(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        log.warning("partitions.lost", partitions=[f"{place.topic}/{place.partition}" for place in places])
        self._release(consumer, places, False)

    def _release(self, consumer: Consumer, places: list[TopicPartition], committable: bool) -> None:
        partitions = [Partition(place.topic, place.partition) for place in places]
        self._revoked(partitions, committable)
        self._left.update(partitions)
        self._held = [message for message in self._held if _partition_of(message) not in partitions]
        consumer.incremental_unassign(places)

    def _starting_offsets(self, partitions: Sequence[Partition], start: Start) -> list[TopicPartition]:
        """Return each partition's starting offset.

        "now" is resolved to an offset at once: an outage before the first fetch must not move it.
        """
        return [TopicPartition(*partition, self._starting_offset(partition, start)) for partition in partitions]

    def _starting_offset(self, partition: Partition, start: Start) -> int:
        low, high = self._watermarks(partition)
        first = (
            low if start == "beginning" else high if start == "now" else self._offset_at(partition, start, low, high)
        )
        if first < high:
            self.ends[partition] = high
        return OFFSET_BEGINNING if start == "beginning" else first

    def _offset_at(self, partition: Partition, instant_us: int, low: int, high: int) -> int:
        found = self._by_time(partition, instant_us // 1000)
        if found >= 0:
            return found
        # Below 0: nothing that late, or a broker that cannot search by time (librdkafka's mock). Time 0 tells which.
        return high if low == high or self._by_time(partition, 0) >= 0 else low

    def _by_time(self, partition: Partition, instant_ms: int) -> int:
        place = TopicPartition(*partition, instant_ms)
        (found,) = self._retried(partial(self._consumer.offsets_for_times, [place], timeout=_ANSWER_S))
        return found.offset

    def _watermarks(self, partition: Partition) -> tuple[int, int]:
        place = TopicPartition(*partition)
        return self._retried(partial(self._consumer.get_watermark_offsets, place, timeout=_ANSWER_S))

    def _retried(self, request: Callable[[], T]) -> T:
        """Return a broker's answer, retried without limit.

        While opening, retries end after `timeout_s` or once `given_up`.
        """
        while True:
            self._log.raise_failure()
            try:
                return request()
            except KafkaException as error:
                fault: KafkaError = error.args[0]
            if fault.fatal() or self._log.denies(fault):
                raise self._log.refusal(fault)
            if self._gives_up():
                raise SourceError(f"{self._log.bootstrap_servers}: {fault.name()}: {fault.str()}")
            self._log.error(fault)
            time.sleep(_AGAIN_S)

    def _gives_up(self) -> bool:
        return self._given_up() or time.monotonic() > self._deadline_s

    def _partitions(self, topic: str) -> list[Partition]:
        left_s = self._deadline_s - time.monotonic()
        numbers = partitions_of(self._consumer, self._log, topic, left_s, given_up=self._given_up)
        return [Partition(topic, number) for number in numbers]

    def _fault(self, message: Message) -> bool:
        """Handle a message if it is an event and return whether it is."""
        error = message.error()
        if error is None:
            return False
        if error.code() == KafkaError._PARTITION_EOF:
            self._at_end.add(_partition_of(message))
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._start_over(message, error)
        elif error.fatal() or self._log.denies(error):
            raise self._log.refusal(error, message.topic())
        else:
            self._log.error(error)
        return True

    def _start_over(self, message: Message, error: KafkaError) -> None:
        topic, number = message.topic() or "", message.partition() or 0
        self.out_of_range += 1
        log.error("source.out_of_range", topic=topic, partition=number, offset=message.offset(), reason=error.str())
        # The client has stopped fetching this partition and refuses to seek in it; a new assignment starts it.
        self._consumer.incremental_unassign([TopicPartition(topic, number)])
        self._consumer.incremental_assign([TopicPartition(topic, number, OFFSET_BEGINNING)])


def _partition_of(message: Message) -> Partition:
    return Partition(message.topic() or "", message.partition() or 0)
