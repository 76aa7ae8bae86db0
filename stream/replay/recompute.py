"""Raw history through the live stage again, with its own source, sink and cache.

The stage reads, computes and finishes texts in any order it likes. What it commits is what it has finished, so each
commit releases outcomes in the order of the merged history. From there on nothing depends on slots, threads or timing.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, NamedTuple

from earlybird.engine.engine import Engine
from earlybird.schemas.codec import decode
from earlybird.schemas.rejection import Rejection
from earlybird.schemas.signal import Novelty, Signal
from earlybird.stream.adapters.cache_codec import read_first, write_first
from earlybird.stream.adapters.clock import SystemClock
from earlybird.stream.config.settings import Settings
from earlybird.stream.errors import SourceEnded, SourceError
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.ports import (
    ACQUIRED,
    Claim,
    ClaimResult,
    Commit,
    First,
    Hit,
    Outgoing,
    Partition,
    Position,
    RebalanceListener,
    Record,
)
from earlybird.stream.replay.compare import Comparison
from earlybird.stream.replay.player import Plan, Player
from earlybird.stream.service import origin_of
from earlybird.stream.stage.deadlines import RecordedLateness
from earlybird.stream.stage.messages import Entry
from earlybird.stream.stage.outcome import Origin
from earlybird.stream.stage.stage import Stage
from earlybird.stream.timeline.merge import MergedRecord

COMMIT_MS = 20  # a commit releases what is finished; nothing is stored
DRAIN_S = 3_600.0


class ReplayedOutcome(NamedTuple):
    """One record that the stage would have published."""

    position: Position  # the element of a raw record that it belongs to
    outgoing: Outgoing
    text_key: str  # the duplicate key, of the text alone; empty for texts that were not readable


Release = Callable[[MergedRecord, list[ReplayedOutcome]], None]


class HistorySource:
    """A Source over merged history, on the consumer thread.

    `release` gets each record with its outcomes, in the merged order, once all outcomes up to it are there.
    """

    def __init__(
        self,
        history: Iterator[MergedRecord],
        partitions: Sequence[Partition],
        outcomes: "SimpleQueue[ReplayedOutcome]",
        release: Release,
    ) -> None:
        self._history, self._partitions, self._arrived, self._release = history, partitions, outcomes, release
        self._listener: RebalanceListener | None = None
        self.member = False  # see Source.member; the group has one member
        self.unreadable: Mapping[Partition, int] = {}  # see Source.unreadable; always empty
        self._paused: set[Partition] = set()
        self._delivered: deque[MergedRecord] = deque()  # not released yet
        self._finished: dict[Partition, int] = {}  # offset up to which everything is finished
        self._outcomes: dict[tuple[str, int, int], list[ReplayedOutcome]] = {}

    def subscribe(self, listener: RebalanceListener) -> None:
        self._listener = listener

    def poll(self, timeout_ms: int, limit: int) -> list[Record]:
        """See Source.poll; one paused partition pauses all, to keep the merged order."""
        assert self._listener is not None, "subscribe comes first"
        if not self.member:
            self.member = True
            self._listener.assigned(dict.fromkeys(self._partitions))
        if self._paused:
            time.sleep(timeout_ms / 1000)
            return []
        taken = list(islice(self._history, limit))
        if not taken:
            raise SourceEnded("the history was read")
        self._delivered.extend(taken)
        return [reached.dated.record for reached in taken]

    def serve_group(self, timeout_ms: int) -> None:
        """See Source.serve_group; there is no group."""

    def commit(self, commits: Mapping[Partition, Commit], *, wait: bool) -> bool:  # noqa: ARG002
        """See Source.commit; releases finished records."""
        self._finished.update({partition: commit.offset for partition, commit in commits.items()})
        self._collect()
        while self._delivered:
            record = self._delivered[0].dated.record
            if record.offset >= self._finished.get(Partition(record.topic, record.partition), 0):
                break
            outcomes = self._outcomes.pop((record.topic, record.partition, record.offset), [])
            outcomes.sort(key=lambda outcome: outcome.position.index)  # stable: keeps the order sent within an element
            self._release(self._delivered.popleft(), outcomes)
        return True

    def pause(self, partitions: Sequence[Partition]) -> None:
        self._paused.update(partitions)

    def resume(self, partitions: Sequence[Partition]) -> None:
        self._paused.difference_update(partitions)

    def lag(self) -> Mapping[Partition, int]:
        """See Source.lag; it is not known."""
        return {}

    def close(self) -> None:
        """See Source.close; nothing is revoked, since no other member takes these partitions."""

    @property
    def unreleased(self) -> int:
        """Number of records read whose outcomes are not all there."""
        return len(self._delivered)

    def _collect(self) -> None:
        try:
            while True:
                outcome = self._arrived.get_nowait()
                place = (outcome.position.topic, outcome.position.partition, outcome.position.offset)
                self._outcomes.setdefault(place, []).append(outcome)
        except Empty:
            return


class OutcomeSink:
    """A Sink that puts outcomes into a queue instead of publishing them."""

    largest = 1_000_000  # a broker's limit, so that dead letters are cut alike

    def __init__(self) -> None:
        self.outcomes: SimpleQueue[ReplayedOutcome] = SimpleQueue()
        self._ready: list[object] = []

    def send(self, outgoing: Outgoing, receipt: object | None = None) -> None:
        """See Sink.send; the publisher's receipts are entries, and heartbeats, without one, are dropped."""
        if isinstance(receipt, Entry):
            self.outcomes.put(ReplayedOutcome(receipt.element.position, outgoing, receipt.text_key.partition(":")[0]))
            self._ready.append(receipt)

    def receipts(self, timeout_ms: int = 0) -> list[object]:  # noqa: ARG002
        """See Sink.receipts; returns all at once."""
        ready, self._ready = self._ready, []
        return ready

    def unacknowledged(self) -> int:
        """See Sink.unacknowledged; always 0."""
        return 0

    @property
    def awaited(self) -> tuple[str, ...]:
        """See Sink.awaited; always empty."""
        return ()

    def close(self) -> None:
        """See Sink.close."""


class VerdictLog:
    """A DuplicateCache without expiry, kept in a file across restarts.

    It answers as if the text had been computed. Which text was a duplicate of which is decided afterwards, in the order
    of availability (see Repeats), not of arrival here.
    """

    def __init__(self, path: Path | None) -> None:
        """`path`: the file, read first if it exists; a torn last line is dropped."""
        self._known: dict[str, First] = {}
        self.resumed = 0  # verdicts computed by an earlier process
        self._file: IO[bytes] | None = None
        if path is not None:
            whole = self._read(path) if path.exists() else 0
            self._file = path.open("ab")
            self._file.truncate(whole)
            self.resumed = len(self._known)

    def claim(self, claims: Sequence[Claim]) -> list[ClaimResult]:
        answers: list[ClaimResult] = []
        for claim in claims:
            first = self._known.get(claim.key)
            answers.append(ACQUIRED if first is None else Hit(replace(first, position=claim.position), 0))
        return answers

    def store(self, firsts: Mapping[str, First], repeats: Mapping[str, int]) -> None:  # noqa: ARG002
        for key, first in firsts.items():
            if key not in self._known:
                self._known[key] = first
                if self._file is not None:
                    self._file.write(key.encode() + b" " + write_first(first) + b"\n")
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _read(self, path: Path) -> int:
        whole = 0
        with path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                key, _, content = line.partition(b" ")
                try:
                    self._known[key.decode()] = read_first(content)
                except ValueError as error:
                    raise SourceError(f"{path}: {error}") from None
                whole += len(line)
        return whole


class DuplicateTimeline:
    """Novelty by recorded times alone: finds the earlier signal with the same text."""

    def __init__(self, ttl_us: int) -> None:
        self._ttl_us = ttl_us
        self._firsts: dict[str, tuple[str, int, int]] = {}  # first's item_key and ingested_us, count

    def novelty(self, text_key: str, item_key: str, ingested_us: int) -> Novelty:
        """Return the novelty of the next signal in order of availability."""
        first = self._firsts.get(text_key)
        if first is None or abs(ingested_us - first[1]) > self._ttl_us:
            self._firsts[text_key] = (item_key, ingested_us, 1)
            return Novelty(cache_hit=False)
        first_key, seen_us, count = first
        self._firsts[text_key] = (first_key, seen_us, count + 1)
        return Novelty(
            cache_hit=True,
            dup_of=None if first_key == item_key else first_key,
            dup_count=count,
            first_seen_us=seen_us,
        )


def recompute(
    plan: Plan,
    history: Iterator[MergedRecord],
    player: Player,
    engine: Engine,
    settings: Settings,
    verdict_log: VerdictLog,
    lateness: RecordedLateness,
    comparison: Comparison | None = None,
) -> None:
    """Run this history through a new stage, feed its outcomes to `player`, and finish it.

    `lateness` replays the recorded decisions of the live stage's clock. The run touches no consumer group, Redis or
    topic. Raises EngineError, StreamError.
    """
    timing = settings.timing.model_copy(update={"commit_interval_ms": COMMIT_MS, "drain_timeout_s": DRAIN_S})
    alone = settings.model_copy(update={"timing": timing})
    origin, sink = origin_of(engine, alone, plan.run_id), OutcomeSink()

    def release(reached: MergedRecord, outcomes: list[ReplayedOutcome]) -> None:
        record = reached.dated.record
        player.note(reached.dated)
        if comparison is not None:
            comparison.cover(record.topic, record.partition, record.offset)
        for number, outcome in enumerate(outcomes):
            player.take(reached, number, _message(outcome.outgoing, origin), outcome.text_key)

    source = HistorySource(history, list(plan.spans), sink.outcomes, release)
    stage = Stage(alone, engine, origin, source, sink, verdict_log, SystemClock(), Metrics(engine.max_layers), lateness)
    stage.run(threading.Event())
    if source.unreleased:
        raise SourceError(f"{source.unreleased} records were read and never finished")
    player.finish()


def _message(outgoing: Outgoing, origin: Origin) -> Signal | Rejection:
    value = outgoing.value or b""
    return decode(Signal, value) if outgoing.topic == origin.signals_topic else decode(Rejection, value)
