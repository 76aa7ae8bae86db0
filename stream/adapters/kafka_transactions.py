"""Kafka sink whose records become visible together with the group's offsets: exactly-once."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import cast

import structlog
from confluent_kafka import KafkaError, Message, TopicPartition

from earlybird.stream.adapters.clock import SystemClock
from earlybird.stream.adapters.kafka_sink import RETRY_PAUSE_S, STALLED_S, KafkaSink, warn_of_sender_dates
from earlybird.stream.adapters.transactional_producer import TransactionalProducer
from earlybird.stream.adapters.undecided import Undecided
from earlybird.stream.config.client_options import Endpoint
from earlybird.stream.errors import RecordTooLarge
from earlybird.stream.ports import Outgoing
from earlybird.stream.timeline.availability import COMMITTED

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Kept:
    """A record until its transaction is committed."""

    outgoing: Outgoing
    receipt: object
    acknowledged: bool = False  # once; when it is produced again, its receipt is not returned again


class KafkaTransactions:
    """A TransactionalSink on confluent_kafka. Not thread-safe: publisher thread only.

    After an abort its records are produced again, in order and before all others. A refusal of a batch for its size
    aborts, too; its records are then produced one at a time, and only the one that is refused alone is the caller's to
    replace. Records without a receipt (heartbeats) go to a plain KafkaSink. `statistics`: see
    stream.adapters.statistics.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        transactional_id: str,
        *,
        interval_ms: int = 100,
        topics: Sequence[str] = (),
        append_dated: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        undecided: Undecided | None = None,
    ) -> None:
        """See KafkaSink and TransactionalProducer; `interval_ms` lies at least between two commits."""
        self.produced_again = self.transactions_committed = self.transactions_aborted = 0
        self._plain = KafkaSink(endpoint, topics=topics, monotonic=monotonic)
        self._producer = TransactionalProducer(endpoint, transactional_id, monotonic, undecided)
        self.largest, self.statistics = self._producer.largest, self._producer.statistics
        self._append_dated = append_dated  # None once one of its records was checked
        self._interval_s, self._clock, self._monotonic = interval_ms / 1000, SystemClock(), monotonic
        self._open: list[_Kept] = []  # produced in the open transaction
        self._again: deque[_Kept] = deque()  # of aborted transactions
        self._later: deque[_Kept] = deque()  # not produced yet
        self._ready: list[_Kept] = []  # acknowledged, receipt not returned
        self._refused: deque[RecordTooLarge] = deque()
        self._held = False
        self._due_s = 0.0
        self._ended_s = monotonic() - self._interval_s  # end of the last transaction
        self._alone = 0  # records still to be produced one at a time
        self._retry_at = 0.0

    # --- a Sink -----------------------------------------------------------------------------------------------------

    def send(self, outgoing: Outgoing, receipt: object | None = None) -> None:
        """See Sink.send; never refuses, `receipts` does."""
        if receipt is None:
            self._plain.send(outgoing)
            return
        if not self.unacknowledged():
            self._producer.progress_at = self._monotonic()
        self._later.append(_Kept(outgoing, receipt))
        self._produce_waiting()

    def receipts(self, timeout_ms: int = 0) -> list[object]:  # noqa: ARG002
        """See Sink.receipts; it never waits for records."""
        with suppress(RecordTooLarge):  # a heartbeat, which may be lost
            self._plain.receipts(0)
        self._producer.serve()
        if self._producer.broken is not None:
            self._abort(self._producer.broken.str())
        self._produce_waiting()
        ready, self._ready = self._ready, []
        if not ready and self._refused:
            raise self._refused.popleft()
        return [kept.receipt for kept in ready]

    def unacknowledged(self) -> int:
        """Return the number of records that are not committed yet."""
        waiting = len(self._open) + len(self._again) + len(self._later) + len(self._refused)
        return waiting + self._plain.unacknowledged()

    @property
    def awaited(self) -> tuple[str, ...]:
        waits = self._again or self._later or self._held or self._producer.in_flight
        stalled = waits and self._monotonic() - self._producer.progress_at > STALLED_S
        return (*self._plain.awaited, *(("transactions",) if stalled or not self._producer.started else ()))

    @property
    def errors(self) -> int:
        """Number of failed deliveries."""
        return self._producer.errors

    def close(self) -> None:
        self._producer.close()
        self._plain.close()

    # --- a TransactionalSink ----------------------------------------------------------------------------------------

    @property
    def due(self) -> bool:
        return self._producer.begun_s is not None and self._monotonic() >= self._due_s

    def hold(self) -> None:
        self._held = True

    @property
    def settled(self) -> bool:
        producer = self._producer
        waits = producer.in_flight or producer.broken or self._again or self._refused
        return self._held and producer.started and not waits

    def commit(self, offsets: object) -> bool:
        """See TransactionalSink.commit; the offsets are those of KafkaSource.offsets_for."""
        places, group = cast(tuple[list[TopicPartition], object], offsets)
        if places and self._producer.begun_s is None:
            self._producer.begin()
        if self._producer.begun_s is not None:
            if not self._producer.commit(places, group):
                assert self._producer.broken is not None, "no commit, and no reason. This is a bug."
                self._abort(self._producer.broken.str())
                return False
            self.transactions_committed += 1
        self._open = []
        self._end()
        return True

    def drop(self, unwanted: Callable[[object], bool]) -> list[object]:
        if any(unwanted(kept.receipt) for kept in self._open):
            self._abort("")
        waiting = [*self._again, *self._later]
        dropped = {kept for kept in waiting if unwanted(kept.receipt)}
        returned = {kept for kept in dropped if kept.acknowledged}.difference(self._ready)
        self._again = deque(kept for kept in self._again if kept not in dropped)
        self._later = deque(kept for kept in self._later if kept not in dropped)
        self._ready = [kept for kept in self._ready if kept not in dropped]
        return [kept.receipt for kept in waiting if kept in dropped - returned]

    def renew(self) -> None:
        self._abort("")
        self._producer.renew()

    def _begin(self) -> None:
        now_s = self._monotonic()
        self._due_s = max(now_s, self._ended_s + self._interval_s)
        due = b"%d" % (self._clock.now_us() + round((self._due_s - now_s) * 1e6))
        self._due_header = (COMMITTED, due)
        self._producer.begin(due)

    def _abort(self, reason: str) -> None:
        """Abort the open transaction; its records wait for the next one.

        `reason` is the broker's, if it is at fault.
        """
        if not self._open and not reason:
            return
        log.warning("transaction.aborted", records=len(self._open), reason=reason or "its partition left")
        self._producer.abort()
        self.transactions_aborted += 1
        self._again.extendleft(reversed(self._open))
        self._open = []
        self._retry_at = self._monotonic() + (RETRY_PAUSE_S if reason and not self._alone else 0.0)
        self._end()

    def _end(self) -> None:
        self._held = False
        self._ended_s = self._monotonic()

    # --- records ----------------------------------------------------------------------------------------------------

    def _produce_waiting(self) -> None:
        """Produce what may be produced now, in order."""
        producer = self._producer
        while producer.started and producer.broken is None:
            waiting = self._again or self._later
            held = self._held and not self._again
            if not waiting or held or (self._alone and producer.in_flight) or self._monotonic() < self._retry_at:
                return
            if producer.begun_s is None:
                self._begin()
            self._produce(waiting.popleft())

    def _produce(self, kept: _Kept) -> None:
        self.produced_again += kept.acknowledged
        self._open.append(kept)
        outgoing = kept.outgoing
        if not self._producer.produce(outgoing, [self._due_header], partial(self._delivered, kept)):
            self._open.remove(kept)
            self._refused.append(RecordTooLarge(outgoing.topic, outgoing.size, self.largest, kept.receipt))

    def _delivered(self, kept: _Kept, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                self._too_large(kept)
            return
        if self._append_dated == kept.outgoing.topic:
            warn_of_sender_dates(self._append_dated, message)
            self._append_dated = None
        self._alone = max(0, self._alone - 1)
        if not kept.acknowledged:
            kept.acknowledged = True
            self._ready.append(kept)

    def _too_large(self, kept: _Kept) -> None:
        """Find the record: the broker refuses a whole batch, and the transaction is lost anyway."""
        outgoing = kept.outgoing
        if self._alone:
            self._open.remove(kept)
            self._refused.append(RecordTooLarge(outgoing.topic, outgoing.size, None, kept.receipt))
        self._alone = len(self._open)
