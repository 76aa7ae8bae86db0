"""Signals as the stage publishes them: one thread reads Kafka, the strategy's takes."""

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import Literal, Protocol

from pydantic import ValidationError

from schemas.codec import DecodeError, decode
from schemas.control import CONTROL, Heartbeat, ReplayComplete
from schemas.signal import Signal
from stream.errors import SourceEnded, StreamError
from stream.history.availability import date_signal
from stream.logs import get_logger
from stream.ports import Clock, Partition, Record
from stream.subscription.buffer import Buffer, Waiting
from stream.subscription.feed import Counts
from stream.subscription.keys import Keys
from stream.subscription.received import Received
from stream.subscription.selection import REMEMBERED, Facts, Gate
from stream.subscription.watch import Condition, Silence, Watch

log = get_logger(__name__)

_POLL_MS = 50
_COMMIT_S = 1.0
_REFRESH_S = 30.0
_MEASURED = 10_000
_CLOSING_S = 20.0


class StaleSignal(StreamError):
    """A signal too old to act upon, where the strategy asked to be told so."""

    def __init__(self, received: Received, age_us: int, limit_us: int) -> None:
        super().__init__(f"{received.item_key}: at most {limit_us} us old when delivered, was {age_us} us")
        self.received, self.age_us, self.limit_us = received, age_us, limit_us


class Subscription(Protocol):
    """Records of a topic; see stream.adapters.subscriber.Subscriber."""

    out_of_range: int

    def poll(self, timeout_ms: int) -> list[Record]:
        """Records there are."""

    def idle(self) -> None:
        """Instead of `poll` while nothing can be taken."""

    def commit(self, offsets: Mapping[Partition, int], *, wait: bool = False) -> None:
        """Read on from here after a restart."""

    def refresh(self) -> None:
        """Look for partitions that were added."""

    def close(self) -> None:
        """Let go."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old a signal may be when the strategy gets it, by the broker's append time and this machine's clock. What
    follows on an item that was delivered is never too old."""

    max_age_us: int | None
    policy: Literal["skip", "raise"] = "skip"


class Live:
    """A Feed from Kafka. Records are selected on the reading thread and decoded on the strategy's.

    With `commits`, what the strategy is done with is committed about each second and at the end: a signal counts as
    done when the next one is asked for.
    """

    def __init__(
        self,
        gate: Gate,
        buffer: Buffer,
        freshness: Freshness,
        watch: Watch,
        clock: Clock,
        *,
        commits: bool,
        held: Iterable[str] = (),
    ) -> None:
        self.events: deque[Silence] = deque()
        self._gate, self._buffer, self._freshness, self._watch, self._clock = gate, buffer, freshness, watch, clock
        self._commits = commits
        self._handed = Keys(REMEMBERED, held)
        self._next: dict[Partition, int] = {}  # of ours, the offset after the last record that was looked at
        self._gone: set[Partition] = set()  # taken from us since the last poll
        self._committed: dict[Partition, int] = {}
        self._commit_due_s, self._refresh_due_s = time.monotonic() + _COMMIT_S, time.monotonic() + _REFRESH_S
        self._measured: deque[int] = deque(maxlen=_MEASURED)
        self._delivered = self._stale = self._unreadable = 0
        self._failure: BaseException | None = None
        self._complete: ReplayComplete | None = None  # heard of the replay that we read
        self._over = False  # and everything of it was looked at
        self._closing = Event()
        self._subscription: Subscription
        self._control: Subscription | None
        self._thread = Thread(target=self._read, name="signals-reader", daemon=True)

    def start(self, subscription: Subscription, control: Subscription | None) -> None:
        """Begin to read; both belong to the reading thread from here on."""
        self._subscription, self._control = subscription, control
        self._thread.start()

    # The strategy's thread.

    def take(self) -> Received | None:
        """As Feed.take. Raises StaleSignal if asked to."""
        while (record := self._buffer.take()) is not None:
            received = self._decoded(record)
            if received is not None and self._fresh(received):
                self._delivered += 1
                return received
        if self._closing.is_set():
            raise SourceEnded("closed")
        if self._failure is not None:
            raise self._failure
        if self._over and not self.events:
            raise SourceEnded("the replay is over")
        return None

    def wait(self, timeout_s: float) -> None:
        """As Feed.wait."""
        if not self.events:
            self._buffer.wait(timeout_s)

    def done(self) -> None:
        """As Feed.done."""
        self._buffer.done()

    def counts(self) -> Counts:
        """As Feed.counts."""
        gate = self._gate
        return Counts(
            self._delivered,
            gate.filtered,
            gate.repeated,
            self._stale,
            self._buffer.dropped,
            self._unreadable,
            self._subscription.out_of_range,
        )

    def latencies_us(self) -> list[int]:
        """As Feed.latencies_us: for stream.history.availability.Empirical."""
        return list(self._measured)

    def condition(self) -> Condition:
        """As Feed.condition."""
        return self._watch.condition

    def close(self) -> None:
        """Commit what is done, leave. A broker that hangs holds nobody up for longer than some seconds: what it has not
        confirmed by then may come twice."""
        self._closing.set()
        self._buffer.close()
        self._thread.join(_CLOSING_S)
        if self._thread.is_alive():
            log.warning("signals.not_closed", waited_s=_CLOSING_S, hint="the broker does not answer")

    def _decoded(self, record: Record) -> Received | None:
        try:
            signal = decode(Signal, record.value or b"")
        except DecodeError as error:
            self._reject(record, error)
            return None
        return Received.of(signal, date_signal(record, signal, "auto").at_us)

    def _fresh(self, received: Received) -> bool:
        age_us, limit_us = self._clock.now_us() - received.available_us, self._freshness.max_age_us
        follows = received.item_key in self._handed  # an edit without an action word is `new`, too
        if limit_us is not None and age_us > limit_us and not follows:
            self._stale += 1
            if self._freshness.policy == "raise":
                raise StaleSignal(received, age_us, limit_us)
            if self._stale == 1 or self._stale % 1000 == 0:
                log.warning("signals.stale", item_key=received.item_key, age_us=age_us, skipped=self._stale)
            return False
        self._handed.add(received.item_key)
        self._measured.append(max(0, age_us))
        return True

    # The reading thread.

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """These go to another member: commit what is done, forget the rest."""
        self._commit(wait=True)
        self._gone.update(partitions)
        self._buffer.forget(set(partitions))
        for partition in partitions:
            self._next.pop(partition, None)
            self._committed.pop(partition, None)

    def _read(self) -> None:
        try:
            while not self._closing.is_set():
                self._gone.clear()
                for record in self._subscription.poll(_POLL_MS):
                    self._look_at(record)
                self._tend()
            self._commit(wait=True)
        except BaseException as error:  # the strategy's thread raises it
            self._failure = error
        finally:
            with suppress(Exception):
                self._subscription.close()
                if self._control is not None:
                    self._control.close()
            self._buffer.wake()

    def _look_at(self, record: Record) -> None:
        partition = Partition(record.topic, record.partition)
        if partition in self._gone or self._closing.is_set():
            return
        self._watch.signalled(self._clock.now_us())
        try:
            facts = Facts.of_record(record)
        except ValueError as error:
            self._reject(record, error)
        else:
            follows = self._gate.knows(facts.item_key)
            if self._gate.admits(facts):
                self._buffer.put(Waiting(record, opens=not follows), self._while_full)
        if partition not in self._gone and not self._closing.is_set():
            self._next[partition] = record.offset + 1

    def _while_full(self) -> None:
        self._subscription.idle()
        self._tend()

    def _tend(self) -> None:
        """What is due besides reading."""
        now_s = time.monotonic()
        if self._control is not None:
            self._hear(self._control)
            silence = self._watch.judge(self._clock.now_us())
            if silence is not None:
                self.events.append(silence)
                self._over = silence.condition is Condition.COMPLETE
                self._buffer.wake()
        if now_s >= self._commit_due_s:
            self._commit_due_s = now_s + _COMMIT_S
            self._commit(wait=False)
        if now_s >= self._refresh_due_s:
            self._refresh_due_s = now_s + _REFRESH_S
            self._subscription.refresh()

    def _hear(self, control: Subscription) -> None:
        for record in control.poll(0):
            with suppress(ValidationError):
                message = CONTROL.validate_json(record.value or b"")
                if isinstance(message, Heartbeat):
                    self._watch.heard(message, self._clock.now_us())
                else:
                    self._complete = message
        if (said := self._complete) is not None and not len(self._buffer):
            ends = {Partition(said.topic, end.partition): end.offset for end in said.ends if end.offset}
            if all(self._next.get(partition, 0) >= offset for partition, offset in ends.items()):
                self._watch.completed()

    def _commit(self, *, wait: bool) -> None:
        if not self._commits:
            return
        undone = self._buffer.undone()
        done = {partition: min(offset, undone.get(partition, offset)) for partition, offset in self._next.items()}
        new = {partition: offset for partition, offset in done.items() if self._committed.get(partition) != offset}
        self._subscription.commit(new, wait=wait)
        self._committed.update(new)

    def _reject(self, record: Record, error: ValueError) -> None:
        self._unreadable += 1
        log.warning(
            "signal.unreadable", topic=record.topic, partition=record.partition, offset=record.offset, reason=str(error)
        )
