"""How finished records become commits: when due, at once, and before a record is read."""

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from earlybird.stream.ports import Commit, Partition, Source
from earlybird.stream.stage.messages import FromTransaction
from earlybird.stream.stage.offsets import OffsetTracker


class Commits(Protocol):
    """Commits of what the offset tracker knows. Not thread-safe: consumer thread only."""

    transactional: bool
    """Whether outcomes count only once they are committed: others are taken back when their partition leaves."""

    @property
    def behind(self) -> bool:
        """Whether outcomes wait for a commit that the broker refused: no more should be read."""

    def when_due(self) -> None:
        """Commit what has changed, if it is time. Never waits."""

    def now(self, partitions: Sequence[Partition]) -> bool:
        """Commit these partitions as given up in order; return whether the broker stored it. Waits."""

    def attempt(self, commits: Mapping[Partition, Commit]) -> None:
        """Store these, which count an attempt, before the record is read. Waits."""

    def received(self, message: FromTransaction) -> None:
        """Take a message of the publisher about a transaction."""


class OffsetCommits:
    """Commits by the consumer: at-least-once."""

    transactional = behind = False

    def __init__(self, source: Source, offsets: OffsetTracker, interval_ms: int) -> None:
        self._source, self._offsets, self._interval_s = source, offsets, interval_ms / 1000
        self._due_s = 0.0

    def when_due(self) -> None:
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = now_s + self._interval_s
        if commits := self._offsets.commits():  # without waiting: an unreachable broker must not stop the loop
            self._store(commits, wait=False)

    def now(self, partitions: Sequence[Partition]) -> bool:
        commits = self._offsets.commits(partitions, ending=True)
        if commits and not self._source.commit(commits, wait=True):
            return False
        self._offsets.committed(commits, confirmed=True)
        return True

    def attempt(self, commits: Mapping[Partition, Commit]) -> None:
        # With what has finished elsewhere: else a death would count at records that are done.
        self._store({**self._offsets.commits(), **commits}, wait=True)

    def received(self, message: FromTransaction) -> None:
        raise AssertionError(f"no transactions, was {message}. This is a bug.")

    def _store(self, commits: Mapping[Partition, Commit], *, wait: bool) -> None:
        stored = self._source.commit(commits, wait=wait)
        self._offsets.committed(commits, confirmed=stored)
