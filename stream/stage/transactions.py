"""Exactly-once: outcomes, offsets and commit map in one transaction.

    publisher   produce ... | hold, flush, hand back | Prepared       commit with offsets | Ended   produce ...
    consumer                             settle entries | snapshot -> CommitTransaction               | next

The publisher begins a transaction with its first outcome and prepares it when it is due: outcomes that arrive
meanwhile wait for the next one, and what was sent comes back acknowledged. All entries of a transaction are in the
queue before its Prepared. So the consumer's snapshot of the offset tracker names exactly what the transaction holds and
what was committed before. The engine threads go on; only producing pauses, for some milliseconds.

After an abort the sink produces the same records again, in the next transaction. To the tracker they stay finished:
their verdicts are known, and no snapshot is taken before they are acknowledged again. Only when a partition leaves are
its uncommitted outcomes dropped, because its next owner will produce them.

A record with several elements is finished as a whole. Its outcomes must not be spread over two transactions, of which
the second may never be committed; so they leave together (stream.stage.chains).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from earlybird.stream.ports import Commit, Partition, Sink, Source
from earlybird.stream.stage.messages import (
    CommitTransaction,
    Ended,
    FromTransaction,
    Prepare,
    Prepared,
    ToTransaction,
)
from earlybird.stream.stage.offsets import OffsetTracker

COMMIT_TIMEOUT_MS = 5_000  # for a commit that is waited for


@runtime_checkable
class TransactionalSource(Source, Protocol):
    """A Source whose offsets can be committed together with outcomes."""

    def offsets_for(self, commits: Mapping[Partition, Commit]) -> object:
        """Return the commits in the form that a TransactionalSink takes.

        They carry the member's generation: the broker refuses them once the partitions are another member's.
        """


@runtime_checkable
class TransactionalSink(Sink, Protocol):
    """A Sink whose records become visible together, with the group's offsets.

    A transaction begins with its first record, never empty. A record without a receipt is outside of transactions. A
    transaction that fails is aborted, and its records are produced again in the next one; their receipts are returned
    once only.
    """

    @property
    def due(self) -> bool:
        """Whether the open transaction has been open for long enough."""

    def hold(self) -> None:
        """Leave records sent from now on for the next transaction, until `commit` or an abort."""

    @property
    def settled(self) -> bool:
        """Whether the broker has acknowledged every record of a held transaction."""

    def commit(self, offsets: object) -> bool:
        """Commit the settled transaction with offsets of a TransactionalSource; return whether it was.

        Waits for the broker, however long. False: it was aborted. Raises SinkError when another process has taken
        this one's place, or when it is unknown whether the commit happened.
        """

    def drop(self, unwanted: Callable[[object], bool]) -> list[object]:
        """Forget uncommitted records with such receipts, aborting the transaction that holds any of them.

        Returns those of the receipts that `receipts` has not returned.
        """

    def renew(self) -> None:
        """Begin anew under the same name, as after a restart.

        Records of an open transaction wait for the next one. What a broker left undecided of earlier transactions,
        records or offsets, is aborted before.
        """


class TransactionCommits:
    """The consumer's part: snapshots of the tracker. Not thread-safe: consumer thread only."""

    transactional = True

    def __init__(
        self,
        source: TransactionalSource,
        offsets: OffsetTracker,
        publish: Callable[[ToTransaction], None],
        wait: Callable[[Callable[[], bool], int], None],
        interval_ms: int,
    ) -> None:
        """`wait(condition, timeout_ms)` takes the publisher's messages until the condition holds."""
        self._source, self._offsets, self._publish, self._wait = source, offsets, publish, wait
        self._interval_s = interval_ms / 1000
        self._due_s = 0.0
        self._under_way: dict[Partition, tuple[int | None, Commit]] | None = None  # the snapshot sent, with epochs
        self._outcome: bool | None = None  # of the last snapshot
        self.behind = False
        self._ending: Sequence[Partition] = ()
        self._attempt: Mapping[Partition, Commit] = {}

    def when_due(self) -> None:
        """Ask for a transaction where offsets moved without an outcome; the publisher prepares all others."""
        now_s = time.monotonic()
        if now_s < self._due_s or self._under_way is not None:
            return
        self._due_s = now_s + 2 * self._interval_s
        if self.behind or self._offsets.commits():  # behind: even an empty one tells that transactions work again
            self._publish(Prepare())

    def now(self, partitions: Sequence[Partition]) -> bool:
        self._ending = partitions
        return self._committed()

    def attempt(self, commits: Mapping[Partition, Commit]) -> None:
        # In a transaction like all others: the commit's map names outcomes that the open transaction holds.
        self._attempt = commits
        self._committed()

    def received(self, message: FromTransaction) -> None:
        if isinstance(message, Prepared):
            self._send_snapshot()
            return
        assert self._under_way is not None, f"{message} of no snapshot. This is a bug."
        sent, self._under_way, self._outcome = self._under_way, None, message.committed
        self._due_s = time.monotonic() + 2 * self._interval_s
        self.behind = not message.committed
        if self.behind:
            ours = {p: commit for p, (epoch, commit) in sent.items() if self._offsets.epoch(p) == epoch}
            self._offsets.committed(ours, confirmed=False)

    def _send_snapshot(self) -> None:
        commits = self._offsets.commits()
        commits |= self._offsets.commits(self._ending, ending=True)
        commits |= self._attempt
        self._offsets.committed(commits, confirmed=True)
        self._under_way = {partition: (self._offsets.epoch(partition), commit) for partition, commit in commits.items()}
        self._publish(CommitTransaction(self._source.offsets_for(commits)))

    def _committed(self) -> bool:
        """Commit a transaction with a snapshot taken from now on; return whether it was committed."""
        self._wait(lambda: self._under_way is None, COMMIT_TIMEOUT_MS)
        self._outcome = None
        if self._under_way is None:
            self._publish(Prepare())
            self._wait(lambda: self._outcome is not None, COMMIT_TIMEOUT_MS)
        self._ending, self._attempt = (), {}
        return bool(self._outcome)


class TransactionSteps:
    """The publisher's part: when to hold, to prepare and to commit.

    Not thread-safe: publisher thread only.
    """

    def __init__(self, sink: TransactionalSink, reply: Callable[[FromTransaction], None]) -> None:
        self._sink, self._reply = sink, reply
        self._asked = False
        self._prepared = False  # until its offsets come

    def handle(self, message: ToTransaction) -> None:
        """Note the request, or commit the prepared transaction."""
        if isinstance(message, Prepare):
            self._asked = True
            return
        assert self._prepared, "offsets of no transaction. This is a bug."
        # Not settled: it was aborted meanwhile, since a partition left or the broker ended it. Then its outcomes are
        # in the next transaction, or gone, and these offsets must not be committed without them.
        committed = self._sink.settled and self._sink.commit(message.offsets)
        self._prepared = self._asked = False
        self._reply(Ended(committed))

    def run_once(self) -> None:
        """Hold and prepare, when it is time; entries acknowledged so far were handed back."""
        if self._prepared:
            return
        if self._asked or self._sink.due:
            self._sink.hold()
        if self._sink.settled:
            self._prepared = True
            self._reply(Prepared())

    def drop(self, unwanted: Callable[[object], bool], *, ending: bool) -> list[object]:
        """Drop uncommitted records; offsets that are on their way then find no transaction.

        Unless all is `ending`, the sink begins anew: a commit that was answered may be undecided all the same, and who
        reads the offsets next would wait for it.
        """
        dropped = self._sink.drop(unwanted)
        if not ending:
            self._sink.renew()
        return dropped
