"""The consumer thread's loop, the same live and in replay.

    record -> elements -> duplicates -> requests;  finished entries -> offsets -> commit

It owns the source, the deduplicator with its cache, and the offset tracker. Verdicts never come here: they go from the
engine threads straight to the publisher, which hands entries back when the broker has acknowledged their outcome.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue

import structlog

from earlybird.engine.text.encoder import TextEncoder
from earlybird.schemas.rejection import Reason
from earlybird.stream.errors import SourceEnded
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.parsing.records import Refusal, Skip
from earlybird.stream.ports import Clock, Commit, Partition, Record, Source
from earlybird.stream.stage.backpressure import Backpressure
from earlybird.stream.stage.budget import Budget
from earlybird.stream.stage.commits import Commits, OffsetCommits
from earlybird.stream.stage.deadlines import ClockLateness, LatenessPolicy
from earlybird.stream.stage.duplicates import Deduplicator
from earlybird.stream.stage.guarded_parser import GuardedParser, Read, Ready, always_ready, waits_since
from earlybird.stream.stage.messages import (
    Entries,
    Entry,
    Failed,
    Fence,
    Forget,
    FromPublisher,
    Inference,
    ToPublisher,
)
from earlybird.stream.stage.offsets import OffsetTracker
from earlybird.stream.stage.transactions import TransactionalSource, TransactionCommits

log = structlog.get_logger(__name__)

LAST_COMMIT_S = 3.0  # for a rebalance to end, so that the broker takes the last commit


class Pipeline:
    """The consumer thread's loop. Not thread-safe: consumer thread only."""

    def __init__(
        self,
        source: Source,
        encoder: TextEncoder,
        duplicates: Deduplicator,
        inference: Inference,
        publish: Callable[[ToPublisher], None],
        finished: "SimpleQueue[FromPublisher]",
        clock: Clock,
        metrics: Metrics,
        read: Read,
        budget: Budget,
        lateness: LatenessPolicy | None = None,
        *,
        transactional: bool = False,
        ready: Ready = always_ready,
    ) -> None:
        """Create it. `transactional`: the publisher's sink is a TransactionalSink. `ready`: see GuardedParser."""
        self._source, self._parser, self._duplicates = source, GuardedParser(encoder, read, ready), duplicates
        self._inference, self._publish, self._finished = inference, publish, finished
        self._clock, self._metrics, self._budget = clock, metrics, budget
        self._lateness = lateness or ClockLateness()
        self.offsets = OffsetTracker(maps=budget.commit_map, suspects=2 * budget.max_in_flight)
        self._backpressure = Backpressure(source, self.offsets, budget, self._parser.add)
        self.in_flight = 0  # entries handed to the publisher and not back yet
        self.finished_total = 0  # entries whose outcome the broker has acknowledged
        self.shed_total = 0  # entries that were too old when consumed
        self.last_loop_s = time.monotonic()  # when the loop last turned, for /healthz
        self._commits: Commits = OffsetCommits(source, self.offsets, budget.commit_interval_ms)
        if transactional:
            assert isinstance(source, TransactionalSource), "a sink without its source. This is a bug."
            interval_ms = budget.transaction_interval_ms
            self._commits = TransactionCommits(source, self.offsets, publish, self._collect_until, interval_ms)
        self._ends: dict[Partition, int] = {}  # every readable record below was given to the parser
        self._fences: list[Fence] = []  # until their published outcomes are acknowledged

    # --- the loop -----------------------------------------------------------------------------------------------

    def run(self, stop: Callable[[], bool], after_loop: Callable[[], None] = lambda: None) -> None:
        """Run until `stop` or the end of a bounded source; then drain, commit and leave."""
        self._source.subscribe(self)
        with suppress(SourceEnded):
            while not stop():
                self.run_once()
                after_loop()
        self.drain(after_loop)
        self._source.close()

    def run_once(self) -> None:
        """Run one turn: settle finished entries, read new records, and commit when due."""
        self._collect_finished(0.0)
        full = (self._commits.behind and not self.offsets.suspects) or self._parser.blocked
        if room := self._backpressure.room(self._budget.max_in_flight if full else self.in_flight):
            self._poll_records(room)
        else:
            self._collect_finished(0.01)
        self._inference.submit(self._duplicates.recheck(self._clock.now_us()))
        self._commits.when_due()

    def drain(self, after_loop: Callable[[], None] = lambda: None) -> None:
        """Finish what is in flight, then commit; the next owner repeats what is unfinished."""
        deadline_s = time.monotonic() + self._budget.shutdown_timeout_ms / 1000
        while self.in_flight and time.monotonic() < deadline_s:
            self._collect_finished(0.01)
            self._inference.submit(self._duplicates.recheck(self._clock.now_us()))
            self._source.serve_group(0)  # the group takes no commit between two generations: let a rebalance go on
            after_loop()
        if self.in_flight:
            log.warning("drain.incomplete", in_flight=self.in_flight)
        deadline_s = time.monotonic() + LAST_COMMIT_S
        while not self._commits.now(self.offsets.partitions()) and time.monotonic() < deadline_s:
            self._source.serve_group(50)

    # --- in: record -> elements -> requests ---------------------------------------------------------------------

    def _poll_records(self, room: int) -> None:
        """Read as many records as there is room for; always poll, to serve the group."""
        waiting = self._parser.unread
        timeout_ms, limit = (0, 1) if waiting else (self._poll_timeout_ms(), min(self._budget.batch, room))
        try:
            self._parser.add(self._source.poll(timeout_ms, limit))
        except SourceEnded:
            if not waiting:
                raise
        self._admit_next(room)
        if not self._parser.unread:
            self.offsets.read_to(self._ends)
            self._ends = {}

    def _poll_timeout_ms(self) -> int:
        return min(self._budget.poll_timeout_ms, 10) if self._duplicates.waiting else self._budget.poll_timeout_ms

    def _admit_next(self, room: int) -> None:
        if self.offsets.suspects:  # perhaps only since this poll, in which partitions were assigned
            room = 1
        if entries := self._parser.take(room, partial(self._entries, now_us=self._clock.now_us())):
            self._admit(entries)

    def _admit(self, entries: list[Entry]) -> None:
        for (topic, item_type), texts in Counter((e.record.topic, e.element.item_type) for e in entries).items():
            self._metrics.consumed(topic, item_type, texts)
        for entry in entries:
            self._lateness.judge(entry)
            self.shed_total += isinstance(entry.element, Refusal) and entry.element.reason is Reason.SHED
        self._parser.encode(entries)
        requests = self._duplicates.look_up(entries)
        self.in_flight += len(entries)
        self._publish(Entries(entries))  # before the requests, so that no answer can overtake its entry
        self._inference.submit(requests)

    def _entries(self, record: Record, now_us: int) -> list[Entry]:
        partition = Partition(record.topic, record.partition)
        epoch = self.offsets.epoch(partition)
        if epoch is None:
            return []
        self._begin(record, partition)
        attempts = self.offsets.guilty(partition)
        found = self._parser.refuse(record, attempts) if attempts else self._parser.read(record)
        elements = [element for element in found if not isinstance(element, Skip)]
        since_us = min([at for element in elements if (at := waits_since(element, now_us)) is not None], default=None)
        if not self.offsets.deliver(partition, record.offset, len(elements), since_us, record.leader_epoch):
            return []
        for skip in found:
            if isinstance(skip, Skip):
                self._metrics.skipped(record.topic, skip.reason)
        return [Entry(element, record, epoch, now_us) for element in elements]

    def _begin(self, record: Record, partition: Partition) -> None:
        """Store the attempt before a record is read that might end this process."""
        if (commit := self.offsets.begin(partition, record.offset)) is not None:
            self._commits.attempt({partition: commit})
            self.last_loop_s = time.monotonic()  # with the broker away each partition's wait takes its time

    # --- out: finished entries -> offsets -> commit -------------------------------------------------------------

    def _collect_finished(self, wait_s: float) -> None:
        """Take back entries that the publisher finished, waiting at most `wait_s` for the first."""
        self.last_loop_s = time.monotonic()
        finished: list[Entry] = []
        with suppress(Empty):
            batch = self._finished.get(timeout=wait_s) if wait_s else self._finished.get_nowait()
            while True:
                if isinstance(batch, Failed):
                    raise batch.error
                if isinstance(batch, list):
                    finished.extend(batch)
                elif isinstance(batch, Fence):
                    self._fences = [fence for fence in self._fences if fence is not batch]
                else:
                    self._settle(finished)  # a snapshot of the tracker counts what came back before
                    finished = []
                    self._commits.received(batch)
                batch = self._finished.get_nowait()
        self._settle(finished)

    def _settle(self, finished: list[Entry]) -> None:
        """Count entries that came back, and let the cache share their results."""
        if not finished:
            return
        self.in_flight -= len(finished)
        answered = [entry for entry in finished if not entry.fenced]
        self.finished_total += len(answered)
        for entry in answered:  # 1. the broker has their outcomes (older epochs are ignored)
            self.offsets.finish(entry.partition, entry.record.offset, entry.epoch)
        forgotten = self._duplicates.on_acknowledged(finished)  # 2. only now may the cache share the result
        if forgotten:
            self._publish(Forget(forgotten))

    # --- rebalances: called inside source.poll ----------------------------------------------------------------------

    def waiting(self) -> None:
        self.last_loop_s = time.monotonic()

    def assigned(self, committed: Mapping[Partition, Commit | None]) -> None:
        """Begin these at their committed offsets."""
        ours = not set(self.offsets.partitions()).isdisjoint(committed)
        while ours and self._parser.unread and not self._parser.blocked:
            self._admit_next(self._budget.batch)  # records before a new beginning, which the broker may no longer have
        # Wait for acknowledgements of partitions lost before, so that their outcomes are not published again.
        self._collect_until(lambda: not self._awaiting_acks(committed), self._budget.acknowledge_timeout_ms)
        self.offsets.assign(committed)
        for topic, number in committed.keys() & set(self.offsets.suspects):
            log.warning("records.suspected", topic=topic, partition=number)
        self._forget_unread(committed)

    def read_to(self, ends: Mapping[Partition, int]) -> None:
        """Keep these ends until all records below them were taken in."""
        self._ends.update(ends)

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Finish what is in flight within the budget, then fence and commit."""
        self._collect_until(lambda: not self.offsets.unfinished(partitions), self._budget.revoke_timeout_ms)
        self._fence(partitions)  # what was published is still committed: the next owner does not repeat it
        self._collect_until(lambda: not self._awaiting_acks(partitions), self._budget.acknowledge_timeout_ms)
        if not self._commits.now(partitions) or self._awaiting_acks(partitions):
            self._take_back(partitions)
        self._release_partitions(partitions, self.offsets.forget, "partitions.revoked")

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Fence these without a commit: another member may own them already."""
        if self._commits.transactional:
            self._take_back(partitions)
            self._release_partitions(partitions, self.offsets.forget, "partitions.lost")
            return
        self._fence(partitions)  # outcomes acknowledged after this count if the partitions come back
        self._release_partitions(partitions, self.offsets.lose, "partitions.lost")

    def _take_back(self, partitions: Sequence[Partition]) -> None:
        """Have the transaction aborted that holds outcomes of these: their next owner publishes them."""
        if self._commits.transactional:
            self._fence(partitions, drop=True)
            self._collect_until(lambda: not self._awaiting_acks(partitions), self._budget.acknowledge_timeout_ms)

    def _collect_until(self, condition: Callable[[], bool], timeout_ms: int) -> None:
        """Settle until the condition holds or the time is over: the group waits."""
        deadline_s = time.monotonic() + timeout_ms / 1000
        while not condition() and time.monotonic() < deadline_s:
            self._collect_finished(0.01)
            self._inference.submit(self._duplicates.recheck(self._clock.now_us()))

    def _fence(self, partitions: Sequence[Partition], *, drop: bool = False) -> None:
        """Stop publishing outcomes of these partitions; `drop`: also those that no transaction has committed."""
        fence = Fence({p: epoch for p in partitions if (epoch := self.offsets.epoch(p)) is not None}, drop)
        self._fences.append(fence)
        self._publish(fence)

    def _forget_unread(self, partitions: Collection[Partition]) -> None:
        self._parser.drop(partitions)
        self._ends = {partition: end for partition, end in self._ends.items() if partition not in partitions}

    def _awaiting_acks(self, partitions: Collection[Partition]) -> bool:
        """Return whether published outcomes of these partitions still await acknowledgement."""
        return any(partition in fence.epochs for fence in self._fences for partition in partitions)

    def _release_partitions(self, partitions: Sequence[Partition], give_up: Callable[..., None], event: str) -> None:
        unfinished = self.offsets.unfinished(partitions)
        give_up(partitions)
        self._backpressure.forget(partitions)
        self._forget_unread(partitions)
        level = logging.WARNING if event == "partitions.lost" else logging.INFO
        log.log(level, event, partitions=[f"{p.topic}/{p.number}" for p in partitions], unfinished=unfinished)
