"""Kafka reader without group or commits, from the beginning, the end or a bound."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from earlybird.stream.adapters.broker_requests import REQUEST_TIMEOUT_S, partitions_of, retried
from earlybird.stream.adapters.clients import ClientLog, close_consumer, open_consumer
from earlybird.stream.adapters.framed_values import SignalValues
from earlybird.stream.adapters.kafka import record_of
from earlybird.stream.adapters.options import reader_options
from earlybird.stream.adapters.time_index import by_time
from earlybird.stream.config.client_options import Endpoint, KafkaEndpoint, KafkaOptions
from earlybird.stream.errors import SourceError
from earlybird.stream.ports import Partition, Record
from earlybird.stream.timeline.merge import Span, Window


class Tail:
    """Kafka reader that follows topics from their beginning, end or a bound; not thread-safe.

    It reads the partitions that exist when it starts; order holds per partition. Records that the broker deletes
    before they are read are skipped: an observer does not need them.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        topics: Sequence[str],
        *,
        start: Literal["beginning", "end"] | Window,
        read_committed: bool = True,
        options: KafkaOptions | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        """Wait up to `timeout_s` for a broker and the topics, else raise SourceError.

        The end is that of now, not of the first poll; of a window only the beginning counts. `read_committed` False
        shows records of open and aborted transactions. `options` are of this client alone. Raises SettingsError for
        options that users may not set.
        """
        endpoint = KafkaEndpoint.of(endpoint, options)
        self._log, self._values = ClientLog("tail", endpoint), SignalValues.of(endpoint)
        reading = reader_options(endpoint, "earlybird-tail", read_committed=read_committed)
        self._consumer = open_consumer(reading | {"auto.offset.reset": "earliest"}, self._log)
        self._ends_seen: dict[Partition, int] = {}  # transaction markers before an end are never returned
        give_up_at = time.monotonic() + timeout_s
        places = [
            TopicPartition(topic, number, OFFSET_BEGINNING)
            for topic in topics
            for number in partitions_of(self._consumer, self._log, topic, give_up_at - time.monotonic())
        ]
        if start != "beginning":
            for place in places:
                ask = partial(self._span, place)
                span = retried(self._consumer, self._log, ask, max(0.1, give_up_at - time.monotonic()))
                place.offset = span.end if start == "end" else self._begin(place, span, start)
        self._consumer.assign(places)

    def _span(self, place: TopicPartition, timeout_s: float) -> Span:
        return Span(*self._consumer.get_watermark_offsets(place, timeout=timeout_s))

    def _begin(self, place: TopicPartition, span: Span, window: Window) -> int:
        partition = Partition(place.topic, place.partition)
        return min(window.clip(partition, by_time(self._consumer, partition, span, window)).start, span.end)

    def poll(self, timeout_ms: int, limit: int = 500) -> list[Record]:
        """Return up to `limit` records, waiting at most `timeout_ms` for the first.

        Raises SourceError when reading can never go on.
        """
        first = self._consumer.poll(timeout_ms / 1000)
        self._log.raise_failure()
        if first is None:
            return []
        self._log.worked = True
        messages = [first, *self._consumer.consume(limit - 1, 0)]
        for message in messages:
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                self._ends_seen[Partition(message.topic() or "", message.partition() or 0)] = message.offset() or 0
            elif error is not None and (error.fatal() or self._log.denies(error)):
                raise self._log.refusal(error, message.topic())
        return [self._values.plain(record_of(message)) for message in messages if message.error() is None]

    def ends(self) -> dict[Partition, int]:
        """Return every partition's current end offset from the broker; raises SourceError."""
        try:
            return {
                Partition(tp.topic, tp.partition): self._consumer.get_watermark_offsets(tp, timeout=10)[1]
                for tp in self._consumer.assignment()
            }
        except KafkaException as error:
            raise SourceError(f"{self._log.bootstrap_servers}: {error.args[0].str()}") from None

    def reached(self, ends: Mapping[Partition, int]) -> bool:
        """Return whether all records before these offsets were read or no longer exist."""
        tps = self._consumer.position([TopicPartition(*partition) for partition, end in ends.items() if end > 0])
        read = {Partition(tp.topic, tp.partition): tp.offset for tp in tps}
        return all(max(at, self._ends_seen.get(partition, 0)) >= ends[partition] for partition, at in read.items())

    def close(self) -> None:
        self._values.close()
        close_consumer(self._consumer, "tail")
