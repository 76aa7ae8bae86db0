"""Tracker of finished raw records and of the offsets to commit. Pure; consumer thread only.

Texts leave their slots out of order, so only the end of the finished prefix may be committed. Offsets finished above it
go into the commit's metadata as a map (stream.stage.commit_map), so that a restart repeats only unfinished work.
Offsets are registered as they are delivered: gaps (compaction, transaction markers) do no harm.

A lost partition may come back to this process at a commit that it sent itself: then outcomes acknowledged in between
are not repeated. An offset identifies a record only as long as the log is not truncated; records written after a
truncation have a later leader epoch, and no map counts for them.

A record that crashes the process crashes every restart, too. So a commit also counts the attempts at its first
unfinished record: worker starts that crashed before they got past it. After SUSPECT_AFTER attempts the unfinished
records are read one at a time, to find the one that crashes; after REFUSE_AFTER attempts it becomes a dead letter.
Orderly ends (a revocation, a drained shutdown) are not counted.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from earlybird.stream.ports import Commit, Partition
from earlybird.stream.stage import commit_map

SUSPECT_AFTER = 3  # attempts at a partition's first unfinished record: from then on one record at a time
REFUSE_AFTER = 5  # attempts, of which the last ones with nothing else in flight: the record is to blame
REMEMBERED_COMMITS = 16  # any of the last ones sent may be the one the broker stored before it failed


@dataclass(slots=True)
class _PartitionOffsets:
    """Offsets of one assigned partition."""

    epoch: int
    low_water: int | None  # committed offset at assignment, then the end of the finished prefix; None: unknown
    skip: frozenset[int]  # finished before this assignment: from the map, or tracked while it was lost
    leader_epoch: int  # latest among delivered records; initially the one up to which `skip` holds
    order: deque[int] = field(default_factory=deque)  # delivered offsets from the first unfinished one on
    open: dict[int, int] = field(default_factory=dict)  # delivered offset -> outcomes still to be acknowledged
    ingested_us: dict[int, int] = field(default_factory=dict)  # open offset -> ingest time
    read_to: int = 0  # every readable record below this offset was delivered
    highest_finished: int | None = None
    committed: Commit | None = None
    sent: deque[Commit] = field(default_factory=lambda: deque(maxlen=REMEMBERED_COMMITS))
    changed: bool = False
    began_at: int | None = None  # first unfinished offset at assignment
    attempts: int = 0  # at that one, before this assignment
    alone: int = 0  # records still to be read one at a time
    begun: bool = False  # the commit that counts this attempt is with the broker

    def attempts_at(self, first: int) -> int:
        """Return the attempts at `first`, the first unfinished offset, with this one."""
        if first == self.began_at:
            return min(self.attempts + 1, REFUSE_AFTER)
        return SUSPECT_AFTER if self.alone else 1

    def advance(self, finished: int | None = None) -> None:
        if finished is not None:
            self.highest_finished, self.changed = max(finished, self.highest_finished or 0), True
        while self.order and self.order[0] not in self.open:
            self.low_water = self.order.popleft() + 1  # Kafka wants the offset to read next, hence + 1
        if not self.order and self.read_to >= (self.low_water or 0):
            self.alone = 0  # what comes now was written after the deaths
            if self.read_to > (self.low_water or 0):
                self.low_water, self.changed = self.read_to, True

    def finished_above(self, base: int) -> list[int]:
        """Return finished offsets from `base` on, ascending, with undelivered ones of `skip`."""
        below = range(base, self.low_water or base)
        delivered = [offset for offset in self.order if offset not in self.open]
        last = self.order[-1] if self.order else (self.low_water or 0) - 1
        return [*below, *delivered, *sorted(offset for offset in self.skip if offset > last)]


@dataclass(frozen=True, slots=True)
class Progress:
    """State of one partition, for heartbeat and metrics."""

    committed: int | None
    low_water: int | None
    highest_finished: int | None
    unfinished: int
    oldest_unfinished_ingested_us: int | None


class OffsetTracker:
    """Delivered and finished offsets of the assigned partitions. Not thread-safe: consumer thread only.

    Each assignment of a partition has its own epoch; what finishes under an older epoch is ignored.
    """

    def __init__(self, *, maps: bool = True, suspects: int = 1_024) -> None:
        """Create it. Without `maps`, a restart repeats records finished above the prefix.

        `suspects`: records of a partition that a process may have begun beyond its last commit.
        """
        self._maps, self._suspects = maps, suspects
        self._tracks: dict[Partition, _PartitionOffsets] = {}
        self._lost: dict[Partition, _PartitionOffsets] = {}  # lost partitions, until they come back
        self._epoch = 0
        self.maps_dropped: dict[str, int] = {}  # reason a map was not used -> count
        self.skipped = 0  # records not repeated thanks to a map

    def assign(self, committed: Mapping[Partition, Commit | None]) -> None:
        """Begin these partitions at their committed offsets, skipping offsets finished by their maps."""
        for partition, commit in committed.items():
            self._epoch += 1
            lost = self._lost.pop(partition, None)
            if commit is None:
                self._tracks[partition] = _PartitionOffsets(self._epoch, None, frozenset(), -1)
                continue
            (skip, attempts), leader_epoch = self._metadata(commit), commit.leader_epoch
            if lost is not None and (commit.offset, commit.metadata) in {sent[:2] for sent in lost.sent}:
                skip, leader_epoch = frozenset(lost.finished_above(commit.offset)), lost.leader_epoch
                attempts = max(attempts - 1, 0)  # this process counted its own start, and has not died
            track = _PartitionOffsets(self._epoch, commit.offset, skip, leader_epoch, committed=commit)
            track.sent.append(commit)
            track.began_at, track.attempts = commit.offset, attempts
            if attempts >= SUSPECT_AFTER:
                track.alone = self._suspects
            self._tracks[partition] = track

    def _metadata(self, commit: Commit) -> commit_map.Metadata:
        try:
            return commit_map.decode(commit.offset, commit.metadata)
        except commit_map.UnusableMap as error:
            self._drop(error.reason)
            return commit_map.Metadata()

    def lose(self, partitions: Iterable[Partition]) -> None:
        """Release lost partitions, which may return; outcomes in flight can still be acknowledged."""
        for partition in partitions:
            if (track := self._tracks.pop(partition, None)) is not None:
                self._lost[partition] = track

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Release revoked partitions for good."""
        for partition in partitions:
            self._tracks.pop(partition, None)

    def read_to(self, ends: Mapping[Partition, int]) -> None:
        """Note that every readable record below these offsets was delivered."""
        for partition, end in ends.items():
            track = self._tracks.get(partition)
            if track is not None and end > track.read_to:
                track.read_to = end
                track.advance()

    def epoch(self, partition: Partition) -> int | None:
        """Return the number of the current assignment; None when the partition is not ours."""
        track = self._tracks.get(partition)
        return None if track is None else track.epoch

    @property
    def suspects(self) -> list[Partition]:
        """Partitions whose next records are read one at a time, with nothing else in flight."""
        return [partition for partition, track in self._tracks.items() if track.alone]

    def begin(self, partition: Partition, offset: int) -> Commit | None:
        """Return the commit to store before the record at `offset` is read, if any.

        It counts the attempt: for the first record of an assignment, and for each suspect.
        """
        track = self._tracks.get(partition)
        if track is None or (track.begun and not track.alone):
            return None
        track.begun = not track.alone  # so that after the last suspect the commit is beyond it
        low_water = offset if track.low_water is None else track.low_water
        return Commit(low_water, self._text(track, low_water, track.attempts_at(low_water)), track.leader_epoch)

    def guilty(self, partition: Partition) -> int:
        """Return the attempts at the partition's next record if they are too many, else 0."""
        track = self._tracks.get(partition)
        blamed = track is not None and not track.order and track.began_at == track.low_water
        return track.attempts if track is not None and blamed and track.attempts >= REFUSE_AFTER else 0

    def deliver(
        self,
        partition: Partition,
        offset: int,
        outcomes: int,
        ingested_us: int | None = None,
        leader_epoch: int = -1,
    ) -> bool:
        """Register a delivered record; return whether to produce its outcomes.

        Without any it is finished at once. False if it was finished or seen before, or the partition is not ours.
        """
        track = self._tracks.get(partition)
        if track is None or offset in track.open or (track.low_water is not None and offset < track.low_water):
            return False
        if track.order and offset <= track.order[-1]:
            return False
        track.order.append(offset)
        if track.low_water is None:
            track.low_water = offset
        if leader_epoch > track.leader_epoch:
            if track.leader_epoch >= 0:
                track.skip = frozenset()  # later leader: these records were written after the skipped ones
            track.leader_epoch = leader_epoch
        if offset in track.skip:
            self.skipped += 1
            track.advance(offset)
            return False
        track.alone = max(0, track.alone - 1)
        if not outcomes:
            track.advance(offset)
            return True
        track.open[offset] = outcomes
        if ingested_us is not None:
            track.ingested_us[offset] = ingested_us
        return True

    def finish(self, partition: Partition, offset: int, epoch: int) -> None:
        """Count one acknowledged outcome of a record. Ignored under an older epoch."""
        track = self._tracks.get(partition)
        if track is None or track.epoch != epoch:
            track = self._lost.get(partition)
        if track is None or track.epoch != epoch:
            return
        remaining = track.open.get(offset)
        assert remaining, f"{partition} offset {offset} finished twice. This is a bug."
        if remaining > 1:
            track.open[offset] = remaining - 1
            return
        del track.open[offset]
        track.ingested_us.pop(offset, None)
        track.advance(offset)

    def commits(
        self, partitions: Iterable[Partition] | None = None, *, ending: bool = False
    ) -> dict[Partition, Commit]:
        """Return the commits for partitions changed since their last confirmed commit.

        `ending`: this worker gives them up in order, which is no attempt.
        """
        commits: dict[Partition, Commit] = {}
        for partition in self._tracks if partitions is None else partitions:
            track = self._tracks.get(partition)
            if track is None or track.low_water is None:
                continue
            if track.changed or (ending and track.open):
                attempts = track.attempts_at(track.low_water) - ending if track.open else 0
                text = self._text(track, track.low_water, attempts)
                commits[partition] = Commit(track.low_water, text, track.leader_epoch)
        return commits

    def committed(self, commits: Mapping[Partition, Commit], *, confirmed: bool) -> None:
        """Record that these were sent; unless the broker confirmed them, they are offered again."""
        for partition, commit in commits.items():
            if (track := self._tracks.get(partition)) is not None:
                track.committed = commit
                if not track.sent or track.sent[-1] != commit:
                    track.sent.append(commit)
                track.changed = not confirmed

    def span(self, partition: Partition) -> int:
        """Return the number of delivered records from the first unfinished one on."""
        track = self._tracks.get(partition)
        return 0 if track is None else len(track.order)

    def partitions(self) -> list[Partition]:
        """Return the assigned partitions."""
        return list(self._tracks)

    def progress(self, partition: Partition) -> Progress:
        """Return the state of one assigned partition."""
        track = self._tracks[partition]
        return Progress(
            committed=None if track.committed is None else track.committed.offset,
            low_water=track.low_water,
            highest_finished=track.highest_finished,
            unfinished=len(track.open),
            oldest_unfinished_ingested_us=min(track.ingested_us.values(), default=None),
        )

    def unfinished(self, partitions: Iterable[Partition] | None = None) -> int:
        """Return the number of records delivered and not finished."""
        chosen = self._tracks if partitions is None else partitions
        return sum(len(self._tracks[partition].open) for partition in chosen if partition in self._tracks)

    def _text(self, track: _PartitionOffsets, base: int, attempts: int) -> str:
        """Return the metadata of a commit at `base`."""
        text = commit_map.encode(base, track.finished_above(base) if self._maps else (), attempts)
        if text is None:
            self._drop("too_long")
        return text or ""

    def _drop(self, reason: str) -> None:
        self.maps_dropped[reason] = self.maps_dropped.get(reason, 0) + 1
