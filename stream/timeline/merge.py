"""Records of many partitions as one sequence in time, and a range of it.

Deterministic: ties are ordered by position.
"""

import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

from earlybird.stream.errors import SettingsError, SourceError
from earlybird.stream.ports import Partition
from earlybird.stream.timeline.availability import DatedRecord, StampedRecord
from earlybird.stream.timeline.instants import instant_us, written

T = TypeVar("T")

SLACK_US = 3_600_000_000
"""Default limit of how far records of a partition may be out of order in time."""


_WRONG_CLOCK_US = 24 * 3_600_000_000


class Span(NamedTuple):
    """Offsets of one partition, from `start` up to but not including `end`."""

    start: int
    end: int


class Begin(NamedTuple):
    """A partition's first offset, and the broker's time there, as far as known."""

    offset: int
    at_us: int | None = None

    def __str__(self) -> str:
        return f"{self.offset}" if self.at_us is None else f"{self.offset} ({written(self.at_us)})"


@dataclass(frozen=True, slots=True)
class Window:
    """The range to replay, by times of availability and by offsets.

    Times: `start_us <= t < end_us`; None: no bound. Offsets, by partition or (None) for all, bound what is read at all.
    `slack_us` None: a partition may be in any order. `seek`: the broker's times are near those of availability, so that
    records far outside need not be read.
    """

    start_us: int | None = None
    end_us: int | None = None
    slack_us: int | None = SLACK_US
    seek: bool = True
    first: Mapping[Partition | None, int] = field(default_factory=dict)
    last: Mapping[Partition | None, int] = field(default_factory=dict)

    def holds(self, at_us: int) -> bool:
        """Return whether this instant is inside."""
        return (self.start_us is None or at_us >= self.start_us) and (self.end_us is None or at_us < self.end_us)

    def clip(self, partition: Partition, span: Span) -> Span:
        """Return the part of the span that the offsets allow; may be empty, never negative."""
        start = max(span.start, self.first.get(partition, self.first.get(None, 0)))
        end = min(span.end, self.last.get(partition, self.last.get(None, span.end)))
        return Span(start, max(start, end))

    def lacks_before(self, partition: Partition, begin: Begin) -> bool:
        """Return whether the window needs records before the partition's first.

        Where the broker's times are meaningless, or there is no first record, deleted records may have been in the
        window.
        """
        if self.first.get(partition, self.first.get(None, 0)) >= begin.offset:
            return False
        if self.start_us is None or not self.seek:
            return True
        return begin.at_us is not None and begin.at_us > self.start_us

    @property
    def earliest_us(self) -> int | None:
        """Broker time before which no record can matter; None: any can."""
        if not self.seek or self.start_us is None or self.slack_us is None:
            return None
        return self.start_us - self.slack_us

    @property
    def latest_us(self) -> int | None:
        """Broker time after which no later record can matter; None: any can.

        Nothing that follows a record of a later time can be in the window.
        """
        if not self.seek or self.end_us is None or self.slack_us is None:
            return None
        return self.end_us + self.slack_us


class History(Protocol):
    """Recorded topics: on a broker, or archived."""

    def spans(self, topics: Iterable[str], window: Window) -> dict[Partition, Span]:
        """Return the offsets there are now for this window, per partition.

        Later records are not included.
        """

    def cut(self, topics: Iterable[str], window: Window) -> dict[Partition, Begin]:
        """Return the partitions that lack records at the window's beginning."""

    def read(self, spans: Mapping[Partition, Span], window: Window) -> list[Iterator[StampedRecord]]:
        """Return one iterator of records per partition, each in offset order."""


class MergedRecord(NamedTuple):
    """A dated record, and the merged time reached by then.

    That time is the latest of the merged partitions' records so far; it never descends.
    """

    us: int
    dated: DatedRecord


def merge(partitions: Iterable[Iterator[DatedRecord]], window: Window) -> Iterator[MergedRecord]:
    """Merge all partitions by the time each has reached, keeping their offset order."""
    streams = [_climbing(partition, window.slack_us) for partition in partitions]
    for reached in heapq.merge(*streams, key=_merge_key):
        if window.holds(reached.dated.at_us):
            yield reached


class Reorder(Generic[T]):
    """A buffer whose items arrive roughly by time and leave exactly by time."""

    def __init__(self, slack_us: int | None) -> None:
        """`slack_us`: how far behind `reached_us` an item may lie; None: any distance.

        With None all items are held to the end.
        """
        self._slack_us = slack_us
        self._held: list[tuple[int, tuple[object, ...], T]] = []
        self._released_us = 0

    def push(self, reached_us: int, at_us: int, key: tuple[object, ...], item: T) -> Iterator[tuple[int, T]]:
        """Add one item of a unique `key`; yield items that no later one can precede.

        Raises SourceError on an item that is out of order by more than the slack.
        """
        if at_us < self._released_us:
            behind_s = (self._released_us - at_us) / 1e6
            raise SourceError(
                f"{'/'.join(map(str, key[:3]))}: {behind_s:,.0f} s behind what was already replayed; "
                "use a larger --slack, or --slack all"
            )
        heapq.heappush(self._held, (at_us, key, item))
        if self._slack_us is None:
            return
        self._released_us = max(self._released_us, reached_us - self._slack_us)
        while self._held and self._held[0][0] <= self._released_us:
            at_us, _, item = heapq.heappop(self._held)
            yield at_us, item

    def rest(self) -> Iterator[tuple[int, T]]:
        """Yield all items that are still held."""
        while self._held:
            at_us, _, item = heapq.heappop(self._held)
            yield at_us, item


@dataclass(slots=True)
class Pace:
    """Waits for recorded time, played `speed` times as fast; None: never waits."""

    speed: float | None = None
    now_s: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = time.sleep
    _origin: tuple[float, int] | None = None

    def until(self, at_us: int) -> None:
        """Wait until this instant."""
        if self.speed is None:
            return
        if self._origin is None:
            self._origin = self.now_s(), at_us
        begun_s, first_us = self._origin
        due_s = begun_s + (at_us - first_us) / 1e6 / self.speed
        if (left_s := due_s - self.now_s()) > 0:
            self.wait(left_s)


def parse_window(starts: Iterable[str], ends: Iterable[str], now_us: int) -> Window:
    """Parse all of `--from` and of `--to`, each as `parse_bounds` does; without slack. Raises SettingsError."""
    (start_us, first), (end_us, last) = parse_bounds(starts, now_us, "--from"), parse_bounds(ends, now_us, "--to")
    if start_us is not None and end_us is not None and start_us >= end_us:
        raise SettingsError(f"--from must be before --to, was {start_us} and {end_us}")
    return Window(start_us, end_us, slack_us=0, first=first, last=last)


def parse_bounds(
    texts: Iterable[str], now_us: int, name: str = "bound"
) -> tuple[int | None, dict[Partition | None, int]]:
    """Parse `--from` or `--to` (`name`): at most one instant, and offsets.

    An instant is written as in stream.timeline.instants; `offset=N` bounds every partition, `TOPIC/PARTITION=N` one.
    Raises SettingsError.
    """
    instant: int | None = None
    offsets: dict[Partition | None, int] = {}
    for text in texts:
        bound, equals, number = text.rpartition("=")
        if equals:
            if not number.isdecimal():
                raise SettingsError(f"{name}: an offset like offset=100 or news.raw/0=100 expected, was {text!r}")
            offsets[_partition_named(bound)] = int(number)
        elif instant is not None:
            raise SettingsError(f"{name}: one instant expected, was a second: {text!r}")
        else:
            instant = instant_us(text, now_us, name)
    return instant, offsets


def _climbing(partition: Iterator[DatedRecord], slack_us: int | None) -> Iterator[MergedRecord]:
    """Yield each record with the latest time so far.

    A record far ahead of the next one has a wrong clock and moves no time: otherwise all that follows would be behind.
    """
    reached_us, far_us = 0, max(_WRONG_CLOCK_US, slack_us or 0)
    dated = next(partition, None)
    while dated is not None:
        following = next(partition, None)
        if following is None or dated.base_us <= following.base_us + far_us:
            reached_us = max(reached_us, dated.base_us)
        yield MergedRecord(reached_us, dated)
        dated = following


def _merge_key(reached: MergedRecord) -> tuple[int, str, int, int]:
    record = reached.dated.record
    return reached.us, record.topic, record.partition, record.offset


def _partition_named(name: str) -> Partition | None:
    if name == "offset":
        return None
    topic, slash, number = name.rpartition("/")
    if not slash or not number.isdecimal():
        raise SettingsError(f"offset or TOPIC/PARTITION expected before =, was {name!r}")
    return Partition(topic, int(number))
