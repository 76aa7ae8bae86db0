"""Kafka sink for signals and dead letters, on confluent_kafka."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import structlog
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import TopicMetadata

from earlybird.stream.adapters.clients import DENIED, MISSING, ClientLog, fatal
from earlybird.stream.adapters.credentials import PasswordFile
from earlybird.stream.adapters.options import producer_options
from earlybird.stream.adapters.statistics import statistics_into
from earlybird.stream.config.client_options import Endpoint, KafkaEndpoint, KafkaOptions
from earlybird.stream.errors import RecordTooLarge, SettingsError, SinkError
from earlybird.stream.ports import Outgoing

log = structlog.get_logger(__name__)

CHECK_INTERVAL_S = 1.0  # between two checks for missing topics
CHECK_TIMEOUT_S = 2.0  # the answer lists every topic of the cluster
STALLED_S = 5.0  # without a single acknowledgement for so long, deliveries count as stalled
RETRY_PAUSE_S = 0.5  # pause before failed deliveries are produced again
FULL_POLL_S = 0.05


class KafkaSink:
    """A Sink on confluent_kafka that returns one receipt per record.

    Not thread-safe: publisher thread only. With None as receipt a record has none. Deliveries never time out, so an
    outage of any length delays records but neither loses nor reorders them. A delivery that fails for a passing
    reason (a topic that does not exist yet) is produced again, and everything later waits behind it;
    `produced_again` counts those, `errors` the failures. A record that the broker calls too large is produced again
    as well: the broker refuses a whole batch, and only a record that it refuses alone is the caller's to replace.
    `statistics`: see stream.adapters.statistics.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        topics: Sequence[str] = (),
        append_dated: str | None = None,
        options: KafkaOptions | None = None,
        largest_backlog: int = 100_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the producer; raises SettingsError for options that users may not set.

        `options`: of this client alone. `topics`: checked for from the start, see `awaited`. `append_dated`: the topic
        whose records should carry the broker's append time; a warning is logged when they do not.
        """
        endpoint = KafkaEndpoint.of(endpoint, options)
        self.produced_again = self.errors = 0
        self.statistics: dict[str, float] = {}
        self._log = ClientLog("sink", endpoint, monotonic)
        settings = producer_options(endpoint)
        password = PasswordFile(endpoint.options, "sink")
        callbacks = {"error_cb": self._log.error, "logger": self._log}
        callbacks |= statistics_into(self.statistics, lambda: password.check(self._producer))
        try:
            self._producer = Producer(settings | callbacks)
        except KafkaException as error:
            raise SettingsError(f"Kafka options: {error.args[0].str()}") from None
        self.largest = int(settings["message.max.bytes"])
        self._monotonic = monotonic
        self._largest_backlog = largest_backlog
        self._in_flight = 0
        self._retries: deque[tuple[Outgoing, object]] = deque()  # the failed record and everything after it, in order
        self._retry_at = 0.0
        self._retry_alone = 0  # number of these that were in a batch that was too large, and are produced alone
        self._alone = False  # one of them is in flight, and nothing else may be
        self._refused: deque[RecordTooLarge] = deque()
        self._ready: list[object] = []
        self._failure: SinkError | None = None  # error of the first record that can never be delivered
        self._missing = frozenset(topics)
        self._append_dated = append_dated  # None once one of its records was checked
        self._checked_at = -CHECK_INTERVAL_S
        self._progress_at = monotonic()  # time of the last acknowledgement, or the last time that none was due

    def send(self, outgoing: Outgoing, receipt: object | None = None) -> None:
        self._raise_failure()
        if not self.unacknowledged():
            self._progress_at = self._monotonic()
        if self._retries or self._alone:
            self._retries.append((outgoing, receipt))
            while len(self._retries) > self._largest_backlog:
                self._serve(FULL_POLL_S)
                self._raise_failure()
        else:
            self._produce(outgoing, receipt)

    def receipts(self, timeout_ms: int = 0) -> list[object]:
        deadline = self._monotonic() + timeout_ms / 1000
        if self._missing and self._monotonic() - self._checked_at >= CHECK_INTERVAL_S:
            self._check_topics()
        self._serve(0)
        while not self._ready and not self._refused and self.unacknowledged() and not self._cannot_deliver():
            left = deadline - self._monotonic()
            if left <= 0:
                break
            self._serve(left)
        ready, self._ready = self._ready, []
        if not ready and self._refused:
            raise self._refused.popleft()
        if not ready and self._cannot_deliver():
            self._raise_failure()
        return ready

    def unacknowledged(self) -> int:
        return self._in_flight + len(self._retries) + len(self._refused) + (self._failure is not None)

    @property
    def awaited(self) -> tuple[str, ...]:
        stalled = self.unacknowledged() and self._monotonic() - self._progress_at > STALLED_S
        return (*sorted(self._missing), *(("acknowledgements",) if stalled else ()))

    def close(self) -> None:
        self._retries.clear()
        self._producer.purge()
        self._producer.flush(1.0)

    def _check_topics(self) -> None:
        """Check for missing topics; listing all avoids auto-creation.

        Asking by name may create a topic with the broker's defaults.
        """
        try:
            existing = self._producer.list_topics(timeout=CHECK_TIMEOUT_S).topics
        except KafkaException as failure:
            self._log.error(failure.args[0])
        else:
            for topic in sorted(self._missing):
                self._check_topic(topic, existing.get(topic))
        self._checked_at = self._monotonic()

    def _check_topic(self, topic: str, found: TopicMetadata | None) -> None:
        error = None if found is None else found.error
        if found is not None and error is None:
            self._missing -= {topic}
        elif error is not None and error.code() in DENIED:
            self._failure = self._failure or SinkError(f"not delivered: {topic}: {error.name()}: {error.str()}")
        elif self._log.due(f"awaited {topic}"):
            reason = "not there, or not ours to see" if error is None else error.str()
            hint = "earlybird topics create, or the permission to describe it"
            log.warning("topic.awaited", topic=topic, reason=reason, hint=hint)

    def _produce(self, outgoing: Outgoing, receipt: object | None) -> None:
        report = partial(self._delivered, outgoing, receipt)
        while True:
            try:
                self._producer.produce(
                    outgoing.topic,
                    outgoing.value,
                    outgoing.key,
                    timestamp=0 if outgoing.timestamp_us is None else outgoing.timestamp_us // 1000,
                    headers=list(outgoing.headers),
                    on_delivery=report,
                )
            except BufferError:
                self._producer.poll(FULL_POLL_S)
                self._raise_failure()
                if self._retries:  # something earlier just failed: queue behind it
                    self._retries.append((outgoing, receipt))
                    return
            except KafkaException as error:
                if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    raise RecordTooLarge(outgoing.topic, outgoing.size, self.largest, receipt) from None
                self._failed(error.args[0], outgoing, receipt)
                self._raise_failure()
                return
            else:
                self._in_flight += 1
                return

    def _serve(self, timeout_s: float) -> None:
        """Handle delivery reports and produce failed records again.

        They are produced again only when nothing is in flight that they could overtake.
        """
        if self._retries and not self._in_flight and self._failure is None:
            wait_s = self._retry_at - self._monotonic()
            if wait_s > 0:
                self._producer.poll(min(wait_s, timeout_s))
                return
            self._produce_again()
        self._producer.poll(timeout_s)

    def _produce_again(self) -> None:
        self._alone = self._retry_alone > 0
        self._retry_alone -= self._alone
        waiting, self._retries = self._retries, deque()
        while waiting and not self._retries:
            self.produced_again += 1
            self._produce(*waiting.popleft())
            if self._alone:
                break
        self._alone = self._alone and self._in_flight > 0
        self._retries.extend(waiting)

    def _delivered(
        self, outgoing: Outgoing, receipt: object | None, error: KafkaError | None, message: Message
    ) -> None:
        self._in_flight -= 1
        if error is not None:
            self._failed(error, outgoing, receipt)
        else:
            self._acknowledged(outgoing, receipt, message)
        self._alone = False

    def _acknowledged(self, outgoing: Outgoing, receipt: object | None, message: Message) -> None:
        self._log.worked, self._progress_at = True, self._monotonic()
        if self._append_dated == outgoing.topic:
            warn_of_sender_dates(self._append_dated, message)
            self._append_dated = None
        if receipt is not None:
            self._ready.append(receipt)

    def _failed(self, error: KafkaError, outgoing: Outgoing, receipt: object | None) -> None:
        self.errors += 1
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            self._too_large(outgoing, receipt)
        elif error.code() in MISSING or (error.retriable() and not fatal(error)):
            (self._retries.appendleft if self._alone else self._retries.append)((outgoing, receipt))
            self._retry_at = self._monotonic() + RETRY_PAUSE_S
            if self._log.due(f"again {outgoing.topic}"):
                log.warning("delivery.repeated", topic=outgoing.topic, error=error.name(), reason=error.str())
        elif self._failure is None and error.code() not in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            self._failure = SinkError(f"not delivered: {outgoing.topic}: {error.name()}: {error.str()}", receipt)

    def _too_large(self, outgoing: Outgoing, receipt: object | None) -> None:
        if self._alone:
            self._refused.append(RecordTooLarge(outgoing.topic, outgoing.size, None, receipt))
            return
        self._retries.append((outgoing, receipt))
        self._retry_alone += 1
        if self._log.due(f"batch {outgoing.topic}"):
            hint = "the topic's max.message.bytes is under that of a batch: each record is sent alone"
            log.warning("delivery.repeated", topic=outgoing.topic, error="MSG_SIZE_TOO_LARGE", hint=hint)

    def _cannot_deliver(self) -> bool:
        """Return whether no further acknowledgement can come."""
        return self._log.failure is not None or (self._failure is not None and not self._in_flight)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._log.failure is not None:
            raise SinkError(f"not delivered: {self._log.failure}")


def warn_of_sender_dates(topic: str, message: Message) -> None:
    """Warn unless the topic's records carry the broker's append time.

    Availability is the broker's append time, one clock for all workers; a sender's time is the worker's clock.
    """
    if message.timestamp()[0] != TIMESTAMP_LOG_APPEND_TIME:
        hint = "signals count as available by the worker's clock; set message.timestamp.type=LogAppendTime on it"
        log.warning("topic.sender_dated", topic=topic, hint=hint)
