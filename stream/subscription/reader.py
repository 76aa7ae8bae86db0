"""The Kafka thread of a live client: reads, orders, selects, commits, watches health."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from threading import Event, Thread
from typing import TYPE_CHECKING

from pydantic import ValidationError

from earlybird.schemas.control import CONTROL, Heartbeat, ReplayComplete
from earlybird.stream.observability.logging import get_logger
from earlybird.stream.ports import Clock, Partition, Record
from earlybird.stream.subscription.buffer import CAUGHT_UP, Buffer, Waiting
from earlybird.stream.subscription.catch_up import CatchUp
from earlybird.stream.subscription.selection import SignalFilter
from earlybird.stream.subscription.signal_headers import SignalHeaders
from earlybird.stream.subscription.source import CaughtUp
from earlybird.stream.subscription.stage_monitor import Condition, HealthChange, StageMonitor

if TYPE_CHECKING:
    from earlybird.stream.adapters.subscriber import Subscriber

log = get_logger(__name__)

_POLL_MS = 50
_COMMIT_S = 1.0
_REFRESH_S = 30.0
_SETTLING_S = 15.0
_SETTLE_TURN_S = 0.02


Opener = Callable[["Reader"], "Subscriber"]
"""Opens a subscription on the reading thread. It calls the reader's `revoked` and checks its `stopping`."""


def log_unreadable(record: Record, error: Exception) -> None:
    """Log a record that holds no signal."""
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    log.warning("signal.unreadable", **place, reason=str(error))


class Reader:
    """Thread on which all calls of the Kafka client happen, opening and closing included.

    No call of a strategy waits for Kafka, and no signal handler of the main thread runs inside its client.

    Without a group, what the topic holds when reading begins comes in the order in which the broker got it, then the
    buffer gets its mark. In a group, what the strategy has handled is committed about once per second and at the end.
    """

    def __init__(
        self,
        signals: Opener,
        control: Opener | None,
        signal_filter: SignalFilter,
        buffer: Buffer,
        monitor: StageMonitor,
        clock: Clock,
        *,
        group: bool,
    ) -> None:
        """Nothing is read before `start`."""
        self.events: deque[HealthChange | CaughtUp] = deque()
        self.signal_filter, self.monitor = signal_filter, monitor
        self.opened = Event()
        self.failure: BaseException | None = None
        self.unreadable = 0
        self.over = False  # all of a replay's topic was read
        self.stopping = self.settling = False
        self.ordered = not group
        self._openers, self._buffer, self._clock, self._commits = (signals, control), buffer, clock, group
        self._subscription: Subscriber | None = None
        self._control: Subscriber | None = None
        self._catch_up: CatchUp | None = None
        self._next: dict[Partition, int] = {}  # assigned partitions: the offset after the last record read
        self._committed: dict[Partition, int] = {}
        self._commit_due_s, self._refresh_due_s = time.monotonic() + _COMMIT_S, time.monotonic() + _REFRESH_S
        self._complete: ReplayComplete | None = None  # end announced by the replay that this reads
        self._thread = Thread(target=self._run, name="signals-reader", daemon=True)

    # Called by other threads.

    def start(self) -> None:
        """Start the thread, which opens the subscriptions and reads."""
        self._thread.start()

    def stop(self, *, settle: bool) -> None:
        """Stop reading; with `settle`, not before the strategy calls `done`.

        Takes no lock, since a signal handler may have interrupted the code that holds it.
        """
        self.settling = settle
        self.stopping = True

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; return whether it has ended in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def out_of_range(self) -> int:
        return 0 if self._subscription is None else self._subscription.out_of_range

    # Called on the reading thread.

    def revoked(self, partitions: Sequence[Partition], committable: bool) -> None:
        """Drop partitions that go to another member, after a commit where still possible."""
        if committable:
            self._commit(wait=True)
        self._buffer.forget(set(partitions))
        for partition in partitions:
            self._next.pop(partition, None)
            self._committed.pop(partition, None)

    def _run(self) -> None:
        try:
            subscription = self._open()
            while not self.stopping:
                self._buffer_records(self._ordered(subscription, subscription.poll(_POLL_MS)))
                self._run_periodic()
            self._settle(subscription)
            self._commit(wait=True)
        except BaseException as error:  # the strategy's thread raises it
            self.failure = error
        finally:
            self.opened.set()
            self._buffer.wake()
            for opened in (self._subscription, self._control):
                with suppress(Exception):
                    if opened is not None:
                        opened.close()

    def _open(self) -> "Subscriber":
        signals, control = self._openers
        subscription = self._subscription = signals(self)
        self._control = control and control(self)
        if self.ordered:
            self._catch_up = CatchUp(subscription.ends)
        self.opened.set()
        self._buffer.wake()
        return subscription

    def _ordered(self, subscription: "Subscriber", records: list[Record]) -> list[Record]:
        """Return the records to deliver now: while catching up, those in order."""
        if (catch_up := self._catch_up) is None:
            subscription.at_end()
            return records
        catch_up.add(records)
        catch_up.at_end(subscription.at_end())
        ready = catch_up.ready()
        subscription.hold(catch_up.ahead)
        if not catch_up.over:
            return ready
        self._catch_up = None
        subscription.hold(set())
        self._buffer_records(ready)
        self._buffer.put([CAUGHT_UP], self._while_full)
        return []

    def _buffer_records(self, records: Iterable[Record]) -> None:
        chunk = []
        for record in records:
            partition = Partition(record.topic, record.partition)
            self._next[partition] = record.offset + 1
            if (waiting := self._selected(record)) is not None:
                chunk.append(waiting)
        if records:
            self.monitor.note_signal(self._clock.now_us())
        if chunk:
            self._buffer.put(chunk, self._while_full)

    def _selected(self, record: Record) -> Waiting | None:
        if self.signal_filter.open and self._buffer.policy == "block":
            return Waiting(record, opens=True)
        try:
            headers = SignalHeaders.of_record(record, self.signal_filter.selection.needed)
        except ValueError as error:
            self.unreadable += 1
            log_unreadable(record, error)
            return None
        follows = self.signal_filter.knows(headers.item_key)
        return Waiting(record, opens=not follows) if self.signal_filter.admits(headers) else None

    def _while_full(self) -> None:
        if self.stopping:
            self._buffer.close()
        elif self._subscription is not None:
            self._subscription.keep_alive()
            self._run_periodic()

    def _settle(self, subscription: "Subscriber") -> None:
        """Wait for a running handler, so that its signal is committed and the group kept."""
        deadline_s = time.monotonic() + _SETTLING_S
        while self.settling and self._buffer.in_hand and time.monotonic() < deadline_s:
            subscription.keep_alive()
            self._buffer.wait_done(_SETTLE_TURN_S)

    def _run_periodic(self) -> None:
        """Do what is due besides reading: health, commits and new partitions."""
        now_s = time.monotonic()
        if self._control is not None:
            self._read_control(self._control)
            change = self.monitor.judge(self._clock.now_us())
            if change is not None:
                self.events.append(change)
                self.over = change.condition is Condition.COMPLETE
                self._buffer.wake()
        if now_s >= self._commit_due_s:
            self._commit_due_s = now_s + _COMMIT_S
            self._commit(wait=False)
        if now_s >= self._refresh_due_s and self._subscription is not None:
            self._refresh_due_s = now_s + _REFRESH_S
            self._subscription.refresh()

    def _read_control(self, control: "Subscriber") -> None:
        for record in control.poll(0):
            with suppress(ValidationError):
                message = CONTROL.validate_json(record.value or b"")
                if isinstance(message, Heartbeat):
                    self.monitor.note_heartbeat(message, self._clock.now_us())
                else:
                    self._complete = message
        if (complete := self._complete) is not None and not len(self._buffer):
            ends = {Partition(complete.topic, end.partition): end.offset for end in complete.ends if end.offset}
            if all(self._next.get(partition, 0) >= offset for partition, offset in ends.items()):
                self.monitor.note_complete()

    def _commit(self, *, wait: bool) -> None:
        if not self._commits or self._subscription is None:
            return
        undone = self._buffer.undone()
        done = {partition: min(offset, undone.get(partition, offset)) for partition, offset in self._next.items()}
        # The last commit repeats what was sent before: the group may have refused it during a rebalance.
        new = {
            partition: offset for partition, offset in done.items() if wait or self._committed.get(partition) != offset
        }
        self._subscription.commit(new, wait=wait)
        self._committed.update(new)
