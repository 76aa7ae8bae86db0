"""The account of a range of raw records: which elements have their outcome, in five bytes an element.

Raw records come first, each partition in the order of its offsets; then the outcomes, in any order. For months of
records this is what has to be remembered of each element: whether it was answered, and what its signal said, so that
a second one can be held against it.
"""

import re
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from zlib import crc32

from earlybird.schemas.codec import DecodeError, decode
from earlybird.schemas.rejection import Reason, Rejection
from earlybird.schemas.signal import ExitReason, RawPosition, Signal
from earlybird.stream.parsing.records import Limits, read
from earlybird.stream.ports import Partition, Position, Record
from earlybird.stream.timeline.merge import Span

MOST_NAMED = 1_000
"""Positions that are kept to be named; all are counted."""

_SIGNALLED, _REJECTED, _TIMED = 1, 2, 4  # _TIMED: the clock had a say in an outcome
_UNANSWERED = re.compile(rb"\x00+")


class Elements:
    """The elements of one raw partition, numbered in the order of their positions."""

    def __init__(self) -> None:
        self.total = 0
        self.states = bytearray()
        self.said = array("I")  # of the first signal's digest
        self._offsets, self._counts, self._firsts = array("q"), array("q"), array("q")  # runs of records of one size
        self._next = -1

    def add(self, offset: int, count: int) -> None:
        """A record with so many elements."""
        if offset != self._next or count != self._counts[-1]:
            self._offsets.append(offset)
            self._counts.append(count)
            self._firsts.append(self.total)
        self._next = offset + 1
        self.total += count
        self.states.extend(bytes(count))
        self.said.extend([0] * count)

    def number(self, offset: int, index: int) -> int | None:
        """The element's number; None where there is no such element."""
        run = bisect_right(self._offsets, offset) - 1
        if run < 0 or index >= self._counts[run]:
            return None
        number = self._firsts[run] + (offset - self._offsets[run]) * self._counts[run] + index
        following = self._firsts[run + 1] if run + 1 < len(self._firsts) else self.total
        return number if number < following else None

    def place(self, number: int) -> tuple[int, int]:
        """Offset and index of an element."""
        run = bisect_right(self._firsts, number) - 1
        records, index = divmod(number - self._firsts[run], self._counts[run])
        return self._offsets[run] + records, index

    def unanswered(self) -> Iterator[tuple[int, int]]:
        """First and last number of each stretch without outcomes."""
        for found in _UNANSWERED.finditer(self.states):
            yield found.start(), found.end() - 1


class Account:
    """Give it all raw records of `spans`, then all outcomes; then read it. An outcome of a record behind its span came
    later than the account, and is left aside; so is one of a record before it, if the span has a chosen beginning."""

    def __init__(
        self, spans: Mapping[Partition, Span], limits: Limits, *, bounded: bool = False, aside: Collection[str] = ()
    ) -> None:
        """`limits`: the stage's own. `bounded`: the spans begin where somebody chose, not where the topics do.
        `aside`: raw topics that are not looked at."""
        self.actions: Counter[str] = Counter()  # of first signals
        self.rejections: Counter[str] = Counter()  # by reason, of first rejections
        self.exit_layers: Counter[int] = Counter()  # of texts that were computed
        self.cache_hits = self.outcomes = self.unreadable = self.strays = 0
        self.stray_positions: list[Position] = []
        self.first_us: int | None = None  # when the broker got the first outcome, and the last
        self.last_us: int | None = None
        self._spans, self._limits, self._bounded, self._aside = spans, limits, bounded, frozenset(aside)
        self._elements = {partition: Elements() for partition in spans}
        self._differing: list[tuple[Partition, int]] = []  # signals that do not say what the first one said

    def add_raw(self, record: Record) -> None:
        """One record of a raw topic."""
        count = len(read(record, self._limits))
        self._elements[Partition(record.topic, record.partition)].add(record.offset, count)

    def add_signal(self, record: Record) -> None:
        """One record of the signals topic."""
        try:
            signal = decode(Signal, record.value or b"")
        except DecodeError:
            self.unreadable += 1
            return
        if (found := self._found(signal.raw, record)) is None:
            return
        elements, number = found
        said = crc32(signal.digest.encode()) or 1
        if signal.exit is not None and signal.exit.reason is ExitReason.DEADLINE:
            elements.states[number] |= _TIMED
        if elements.states[number] & _SIGNALLED:
            if elements.said[number] != said:
                self._differing.append((Partition(signal.raw.topic, signal.raw.partition), number))
            return
        elements.states[number] |= _SIGNALLED
        elements.said[number] = said
        self.actions[signal.action.value] += 1
        hit = signal.novelty is not None and signal.novelty.cache_hit
        self.cache_hits += hit
        if signal.exit is not None and not hit:
            self.exit_layers[signal.exit.layer] += 1

    def add_rejection(self, record: Record) -> None:
        """One record of the dead-letter topic."""
        try:
            rejection = decode(Rejection, record.value or b"")
        except DecodeError:
            self.unreadable += 1
            return
        if (found := self._found(rejection.raw, record)) is None:
            return
        elements, number = found
        if rejection.reason is Reason.SHED:
            elements.states[number] |= _TIMED
        if not elements.states[number] & _REJECTED:
            elements.states[number] |= _REJECTED
            self.rejections[rejection.reason.value] += 1

    @property
    def elements(self) -> int:
        """Elements of raw records."""
        return sum(elements.total for elements in self._elements.values())

    @property
    def missing(self) -> int:
        """Elements without an outcome."""
        return sum(elements.states.count(0) for elements in self._elements.values())

    @property
    def repeated(self) -> int:
        """Outcomes published more than once: at-least-once at work; a rejected update's retraction is none."""
        both = (_SIGNALLED | _REJECTED, _SIGNALLED | _REJECTED | _TIMED)
        states = [elements.states for elements in self._elements.values()]
        return self.outcomes - sum(len(each) - each.count(0) + sum(map(each.count, both)) for each in states)

    @property
    def disagreeing(self) -> list[Position]:
        """Published twice with different digests. Where the clock had a say the second time it may well differ."""
        return [
            Position(*partition, *self._elements[partition].place(number))
            for partition, number in self._differing
            if not self._elements[partition].states[number] & _TIMED
        ]

    @property
    def span_s(self) -> float:
        """From the first outcome to the last, in seconds."""
        return ((self.last_us or 0) - (self.first_us or 0)) / 1e6

    @property
    def balanced(self) -> bool:
        """Every element has its outcome, and those that were said twice said the same."""
        return not self.missing and not self.disagreeing and not self.unreadable

    def missing_stretches(self) -> Iterator[str]:
        """Where outcomes are missing: TOPIC/PARTITION/OFFSET/INDEX, or from one to another."""
        for partition, elements in sorted(self._elements.items()):
            for first, last in elements.unanswered():
                begin, end = ("/".join(map(str, elements.place(number))) for number in (first, last))
                through = "" if first == last else f" to {end}"
                yield f"{partition.topic}/{partition.number}/{begin}{through}"

    def _found(self, raw: RawPosition, record: Record) -> tuple[Elements, int] | None:
        partition = Partition(raw.topic, raw.partition)
        span = self._spans.get(partition)
        outside = span is not None and (raw.offset >= span.end or (self._bounded and raw.offset < span.start))
        if outside or raw.topic in self._aside:
            return None
        elements = self._elements.get(partition)
        number = None if elements is None else elements.number(raw.offset, raw.index)
        if (at_us := record.timestamp_us) is not None:
            self.first_us = min(at_us, self.first_us or at_us)
            self.last_us = max(at_us, self.last_us or at_us)
        if elements is None or number is None:
            self.strays += 1
            if len(self.stray_positions) < MOST_NAMED:
                self.stray_positions.append(Position(raw.topic, raw.partition, raw.offset, raw.index))
            return None
        self.outcomes += 1
        return elements, number


def report(account: Account) -> dict[str, object]:
    """All figures, for people and for --json."""
    disagreeing, span_s = account.disagreeing, account.span_s
    stretches = account.missing_stretches()
    return {
        "records": account.elements,
        "signals": account.actions["new"] + account.actions["correct"],
        "corrections": account.actions["correct"],
        "retractions": account.actions["retract"],
        "rejections": dict(sorted(account.rejections.items())),
        "cache_hits": account.cache_hits,
        "exit_layers": dict(sorted(account.exit_layers.items())),
        "repeated": account.repeated,
        "missing": account.missing,
        "missing_at": list(islice(stretches, MOST_NAMED)),
        "strays": account.strays,
        "strays_at": [str(position) for position in account.stray_positions],
        "disagreeing": len(disagreeing),
        "disagreeing_at": [str(position) for position in disagreeing[:MOST_NAMED]],
        "unreadable": account.unreadable,
        "span_s": span_s,
        "outcomes_per_s": round(account.outcomes / span_s, 1) if span_s else None,
        "balanced": account.balanced,
    }
