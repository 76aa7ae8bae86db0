"""The publisher thread: from verdict to acknowledged record, in order per item_key.

It owns the sink. A signal is produced the moment its verdict arrives; an entry is finished when the broker has
acknowledged all its records. Outcomes of one item_key leave in raw order: a correction waits for the text that it
corrects. An outcome that is too large for its topic is replaced by a smaller one.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import cast

import structlog

from earlybird.schemas.codec import encode
from earlybird.schemas.rejection import Rejection
from earlybird.stream.errors import RecordTooLarge
from earlybird.stream.frames import FrameWriter
from earlybird.stream.observability.logging import failure
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.ports import Clock, Outgoing, Partition, Sink
from earlybird.stream.stage.chains import Chains, RecordChains
from earlybird.stream.stage.dead_letter import poisoned
from earlybird.stream.stage.messages import (
    Answer,
    Answers,
    CommitTransaction,
    Control,
    Entries,
    Entry,
    Failed,
    Fence,
    Forget,
    FromPublisher,
    Prepare,
    Stop,
    ToPublisher,
    observed_us,
)
from earlybird.stream.stage.outcome import (
    Origin,
)
from earlybird.stream.stage.outcome_records import OutcomeRecords
from earlybird.stream.stage.spans import Spans
from earlybird.stream.stage.transactions import TransactionalSink, TransactionSteps

log = structlog.get_logger(__name__)

SIZE_HINT = "raise the topic's max.message.bytes and the client's message.max.bytes to 1 MB"
IDLE_WAIT_S = 0.05
BUSY_WAIT_S = 0.001  # with records unacknowledged: the maximum delay of a delivery report


class Publisher:
    """The publisher's loop: entries and answers in, records out, finished entries back.

    Not thread-safe. Other threads use only the queues `inbox` and `finished`, and may read `loops`.
    """

    def __init__(
        self,
        sink: Sink,
        origin: Origin,
        control_topic: str,
        clock: Clock,
        metrics: Metrics,
        spans: Spans | None = None,
        framing: FrameWriter | None = None,
    ) -> None:
        self.inbox: SimpleQueue[ToPublisher] = SimpleQueue()
        self.finished: SimpleQueue[FromPublisher] = SimpleQueue()
        self._sink, self._control_topic = sink, control_topic
        self._records = OutcomeRecords(origin, clock, sink.largest)
        self._metrics, self._spans, self._framing = metrics, spans, framing
        self._answers: dict[int, Answer] = {}  # by ticket, until the consumer forgets it
        self._waiting: dict[int, list[Entry]] = {}  # ticket -> entries without an answer
        self._transactions = TransactionSteps(sink, self.finished.put) if isinstance(sink, TransactionalSink) else None
        self._chains = Chains() if self._transactions is None else RecordChains()
        self._fenced_epochs: dict[Partition, int] = {}
        self._unacked = Counter[Partition]()  # entries that the broker has not acknowledged yet
        self._fences: list[Fence] = []  # with outcomes not acknowledged yet
        self._finished: list[Entry] = []  # finished in this turn
        self._stopping = False
        self.loops = 0  # turns of the loop so far, for the watchdog

    def run(self) -> None:
        """Run until Stop and the last acknowledgement; an exception ends the process through the consumer."""
        try:
            while not self._stopping or self._sink.unacknowledged():
                self.run_once(BUSY_WAIT_S if self._sink.unacknowledged() else IDLE_WAIT_S)
        except BaseException as error:
            self.finished.put(Failed(error))

    def run_once(self, wait_s: float) -> None:
        """Handle messages, then hand back entries that the broker has acknowledged."""
        self.loops += 1
        for message in self._received(wait_s):
            self._handle(message)
        for entry in self._receipts():
            assert isinstance(entry, Entry), "receipts are entries. This is a bug."
            self._acknowledge(entry)
        if self._finished:
            self.finished.put(self._finished)
            self._finished = []
        if self._fences:
            self._return_fences()
        if self._transactions is not None:
            self._transactions.run_once()

    def _receipts(self) -> list[object]:
        try:
            return self._sink.receipts(0)
        except RecordTooLarge as refused:
            self._send_instead(refused)
            return []

    def _received(self, wait_s: float) -> list[ToPublisher]:
        messages: list[ToPublisher] = []
        with suppress(Empty):
            messages.append(self.inbox.get(timeout=wait_s))
            while True:
                messages.append(self.inbox.get_nowait())
        return messages

    def _handle(self, message: ToPublisher) -> None:
        match message:
            case Entries(entries):
                self._accept(entries)
            case Answers(answers):
                for answer in answers:
                    self._answer(answer)
            case Forget(tickets):
                for ticket in tickets:
                    self._answers.pop(ticket, None)
            case Fence(epochs):
                self._fenced_epochs.update(epochs)
                self._fences.append(message)
                if message.drop:
                    self._drop(lambda entry: self._is_fenced(entry), ending=False)
            case Control(heartbeat):
                self._send(Outgoing(self._control_topic, heartbeat.worker.encode(), encode(heartbeat)))
            case Prepare() | CommitTransaction():
                assert self._transactions is not None, f"no transactions, was {message}. This is a bug."
                self._transactions.handle(message)
            case Stop():
                self._stopping = True
                self._drop(lambda _: True, ending=True)  # nobody commits it any more

    def _accept(self, entries: list[Entry]) -> None:
        self._chains.add(entries)
        for entry in entries:
            if entry.ticket is not None:
                if entry.answer is not None:  # a cache hit
                    self._answers[entry.ticket] = entry.answer
                entry.answer = self._answers.get(entry.ticket)
                if entry.answer is None:
                    self._waiting.setdefault(entry.ticket, []).append(entry)
            self._publish_leaving(entry)

    def _answer(self, answer: Answer) -> None:
        self._answers[answer.ticket] = answer
        for entry in self._waiting.pop(answer.ticket, ()):
            entry.answer = answer
            self._publish_leaving(entry)

    def _publish_leaving(self, entry: Entry) -> None:
        """Publish what can leave now that this entry was added or answered."""
        for leaving in self._chains.leaving(entry):
            self._publish(leaving)

    def _is_fenced(self, entry: Entry) -> bool:
        return entry.epoch <= self._fenced_epochs.get(entry.partition, -1)

    def _drop(self, unwanted: Callable[[Entry], bool], *, ending: bool) -> None:
        """Take back what no transaction has committed of these entries; they come back fenced."""
        if self._transactions is None:
            return
        for entry in self._transactions.drop(cast(Callable[[object], bool], unwanted), ending=ending):
            assert isinstance(entry, Entry), "receipts are entries. This is a bug."
            if entry.unacknowledged:  # an entry may have two records
                entry.unacknowledged, entry.fenced = 0, True
                self._unacked[entry.partition] -= 1
                self._finished.append(entry)

    def _publish(self, entry: Entry) -> None:
        partition = entry.partition
        if self._is_fenced(entry):
            entry.fenced = True
            self._finished.append(entry)
            return
        if self._spans:
            self._spans.start(entry)
        try:
            records = self._records.of(entry)
        except Exception as error:  # a text that breaks our code must not stop the others
            log.error("outcome.failed", position=entry.element.position, **failure(error))
            records = self._records.dead_letter(entry, poisoned(entry, error))
        entry.unacknowledged = len(records)
        self._unacked[partition] += 1
        for record in records:
            self._send(record, entry)

    def _send(self, record: Outgoing, entry: Entry | None = None) -> None:
        if self._framing is not None and record.topic == self._framing.topic and record.value is not None:
            record = replace(record, value=self._framing.framed(record.value))
        try:
            self._sink.send(record, entry)
        except RecordTooLarge as refused:
            self._send_instead(refused)

    def _send_instead(self, refused: RecordTooLarge) -> None:
        """Replace a record that is too large. Raises `refused` if no replacement fits."""
        log.warning("outcome.too_large", topic=refused.topic, bytes=refused.size, hint=SIZE_HINT)
        entry = refused.receipt
        if not isinstance(entry, Entry):
            return  # a heartbeat, which may be lost
        entry.unacknowledged -= 1
        records = self._records.smaller(entry, refused)
        entry.unacknowledged += len(records)
        for record in records:
            self._send(record, entry)

    def _acknowledge(self, entry: Entry) -> None:
        entry.unacknowledged -= 1
        if entry.unacknowledged:
            return
        self._unacked[entry.partition] -= 1
        self._finished.append(entry)
        if self._spans:
            self._spans.end(entry)
        for outcome in entry.produced:
            if isinstance(outcome, Rejection):
                self._metrics.rejected(outcome.reason)
            else:
                self._metrics.published(outcome, live=observed_us(entry.element) is not None)
        entry.produced = []

    def _return_fences(self) -> None:
        """Return fences whose outcomes are all acknowledged, after the entries finished with them."""
        pending: list[Fence] = []
        for fence in self._fences:
            if any(self._unacked[partition] for partition in fence.epochs):
                pending.append(fence)
            else:
                self.finished.put(fence)
        self._fences = pending
