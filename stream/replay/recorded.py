"""Published signals as one sequence, in order of availability."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import starmap
from typing import get_args

from earlybird.schemas.codec import DecodeError, decode
from earlybird.schemas.signal import Signal
from earlybird.stream.config.client_options import KafkaEndpoint, KafkaOptions
from earlybird.stream.errors import SourceError
from earlybird.stream.observability.logging import get_logger
from earlybird.stream.ports import Partition, Record
from earlybird.stream.timeline.availability import DatedRecord, Rule, StampedRecord, date_signal
from earlybird.stream.timeline.merge import SLACK_US, Begin, History, MergedRecord, Reorder, Span, Window, merge

log = get_logger(__name__)

Wanted = Callable[[Record], bool]
"""Returns whether a record may be wanted, by its key and headers."""


@dataclass(frozen=True, slots=True)
class TopicRange:
    """A range of a signals topic, frozen when the replay starts; later records are excluded.

    `first` and `last` (not included): offsets, of all partitions or by partition number. `available`: by the broker's
    append time, or by `ingested_us`, for signals of back-dated history; those are all held in memory. `slack_us`: how
    far a partition's times are out of order at most; None: any, and all are held in memory. `options` are librdkafka's.
    """

    bootstrap_servers: str
    topic: str = "signals"
    first: int | Mapping[int, int] | None = None
    last: int | Mapping[int, int] | None = None
    available: Rule = "auto"
    slack_us: int | None = SLACK_US
    options: KafkaOptions | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for bounds that name no range."""
        for name, given in (("first", self.first), ("last", self.last)):
            offsets = [*given.keys(), *given.values()] if isinstance(given, Mapping) else [given]
            if given is not None and not all(type(offset) is int and offset >= 0 for offset in offsets):
                raise ValueError(f"{name}: 0 or more, or such offsets by partition number, was {given!r}")
        if isinstance(self.first, int) and isinstance(self.last, int) and self.first > self.last:
            raise ValueError(f"first: at most last ({self.last}), was {self.first}")
        if self.available not in get_args(Rule):
            raise ValueError(f"available: {', '.join(get_args(Rule))}, was {self.available!r}")
        if self.slack_us is not None and self.slack_us < 0:
            raise ValueError(f"slack_us: 0 or more, or None, was {self.slack_us}")

    def signals(
        self,
        start_us: int | None = None,
        end_us: int | None = None,
        wanted: Wanted | None = None,
        *,
        strict: bool = False,
    ) -> Iterator[tuple[Signal, int]]:
        """Yield signals available from `start_us` to before `end_us`, with their instants.

        Records that are not `wanted` are not decoded. The range is frozen on return. Records of it that the broker has
        deleted are logged, and refused if `strict`. Raises SourceError, also while reading.
        """
        from earlybird.stream.adapters.topic_range import TopicHistory

        ingested = self.available == "ingested"  # the broker's times are then meaningless
        window = Window(
            start_us,
            end_us,
            None if ingested else self.slack_us,
            not ingested,
            self._offsets(self.first),
            self._offsets(self.last),
        )
        history = TopicHistory(KafkaEndpoint(self.bootstrap_servers, self.options or {}))
        spans = history.spans([self.topic], window)
        if missing := (window.first.keys() | window.last.keys()) - spans.keys() - {None}:
            numbers = sorted(partition.number for partition in missing if partition is not None)
            raise SourceError(f"{self.topic}: has no partition {', '.join(map(str, numbers))}")
        report_cut(history.cut([self.topic], window), SourceError if strict else None)
        return in_order(history, spans, window, self.available, wanted)

    def _offsets(self, given: int | Mapping[int, int] | None) -> dict[Partition | None, int]:
        if given is None:
            return {}
        return {None: given} if isinstance(given, int) else {Partition(self.topic, n): at for n, at in given.items()}


def report_cut(cut: Mapping[Partition, Begin], refuse: Callable[[str], Exception] | None) -> None:
    """Log which partitions lack requested records, or raise `refuse`'s error."""
    for partition, begin in cut.items():
        place = f"{partition.topic}/{partition.number}"
        if refuse is not None:
            raise refuse(
                f"{place} begins at offset {begin}: earlier records that were asked for may be gone; strict refuses"
            )
        log.warning("replay.cut", partition=place, begins=str(begin), hint="earlier records may be gone: retention?")


def in_order(
    history: History, spans: Mapping[Partition, Span], window: Window, rule: Rule, wanted: Wanted | None = None
) -> Iterator[tuple[Signal, int]]:
    """Yield this history's signals with their instants, in order of availability.

    Raises SourceError for a signal that is out of order by more than the window's slack.
    """
    order: Reorder[Signal] = Reorder(window.slack_us)
    for reached, signal in recorded(history, spans, window, rule, wanted):
        record = reached.dated.record
        key = (record.topic, record.partition, record.offset)
        for at_us, next_one in order.push(reached.us, reached.dated.at_us, key, signal):
            yield next_one, at_us
    for at_us, next_one in order.rest():
        yield next_one, at_us


def recorded(
    history: History, spans: Mapping[Partition, Span], window: Window, rule: Rule, wanted: Wanted | None = None
) -> Iterator[tuple[MergedRecord, Signal]]:
    """Yield this history's signals with their dated records, merged by timeline.merge.

    Records that are no signals are logged and left out.
    """
    for reached in merge([_dated(_chosen(rows, wanted), rule) for rows in history.read(spans, window)], window):
        signal = reached.dated.signal
        assert signal is not None, "dated by its signal. This is a bug."
        yield reached, signal


def readable(rows: Iterator[StampedRecord]) -> Iterator[tuple[StampedRecord, Signal]]:
    """Yield the records that are signals.

    The first that is no signal is logged at once, their number at the end.
    """
    unreadable = 0
    for stamped in rows:
        try:
            yield stamped, decode(Signal, stamped.record.value or b"")
        except DecodeError as error:
            unreadable += 1
            if unreadable == 1:
                record = stamped.record
                place = f"{record.topic}/{record.partition}@{record.offset}"
                log.warning("record.unreadable", position=place, reason=str(error))
    if unreadable > 1:
        log.warning("records.unreadable", records=unreadable, first=place)


def _chosen(rows: Iterator[StampedRecord], wanted: Wanted | None) -> Iterator[StampedRecord]:
    return rows if wanted is None else (stamped for stamped in rows if wanted(stamped.record))


def _dated(rows: Iterator[StampedRecord], rule: Rule) -> Iterator[DatedRecord]:
    return starmap(lambda stamped, signal: date_signal(stamped.record, signal, rule), readable(rows))
