"""Offsets by time, from the broker or by bisection.

Bisection is for brokers without an index by time (librdkafka's mock cluster): read one record, compare, halve.
"""

import time
from functools import partial

from confluent_kafka import Consumer, KafkaError, TopicPartition

from earlybird.stream.adapters.broker_requests import REQUEST_TIMEOUT_S
from earlybird.stream.adapters.kafka import record_of
from earlybird.stream.errors import SourceError
from earlybird.stream.ports import Partition, Record
from earlybird.stream.timeline.merge import Span, Window


def by_time(consumer: Consumer, partition: Partition, span: Span, window: Window) -> Span:
    """Return the offsets that can hold records of this window's times."""
    if span.start >= span.end:
        return span
    first = partial(_first_since, consumer, partition, span)
    start = span.start if window.earliest_us is None else first(window.earliest_us)
    end = span.end if window.latest_us is None else first(window.latest_us)
    return Span(start, max(start, end))


def _first_since(consumer: Consumer, partition: Partition, span: Span, at_us: int) -> int:
    """Return the first offset of that time or later; the end without one."""
    found = _asked(consumer, partition, max(0, at_us // 1000))
    if found is None and _asked(consumer, partition, 0) is None:
        return _bisected(consumer, partition, span, at_us)
    return span.end if found is None else min(max(found, span.start), span.end)


def _asked(consumer: Consumer, partition: Partition, at_ms: int) -> int | None:
    (tp,) = consumer.offsets_for_times([TopicPartition(*partition, at_ms)], timeout=REQUEST_TIMEOUT_S)
    if tp.error is not None:
        raise SourceError(f"{partition.topic}/{partition.number}: {tp.error.str()}")
    return tp.offset if tp.offset >= 0 else None


def _bisected(consumer: Consumer, partition: Partition, span: Span, at_us: int) -> int:
    """Find the offset by reading.

    Where times are out of order by at most the window's slack, the result is early enough, never late.
    """
    low, high = span
    while low < high:
        middle = (low + high) // 2
        record = next_record(consumer, partition, middle)
        if record is None or record[1] >= at_us:
            high = middle
        else:
            low = record[0] + 1
    return min(low, span.end)


def next_record(consumer: Consumer, partition: Partition, offset: int) -> tuple[int, int] | None:
    """Return offset and time of the first record from `offset` on; None at the end."""
    record = first_record(consumer, partition, offset)
    return None if record is None else (record.offset, record.timestamp_us or 0)


def first_record(consumer: Consumer, partition: Partition, offset: int) -> Record | None:
    """Return the first record from `offset` on; None at the end."""
    consumer.assign([TopicPartition(*partition, offset)])
    deadline_s = time.monotonic() + REQUEST_TIMEOUT_S
    while time.monotonic() < deadline_s:
        message = consumer.poll(0.1)
        if message is None:
            continue
        error = message.error()
        if error is None:
            return record_of(message)
        if error.code() == KafkaError._PARTITION_EOF:
            return None
        if error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:  # of a group that is never joined
            raise SourceError(f"{partition.topic}/{partition.number}: {error.str()}")
    raise SourceError(f"{partition.topic}/{partition.number}: no record came for {REQUEST_TIMEOUT_S:.0f} s")
