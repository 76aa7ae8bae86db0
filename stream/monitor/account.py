"""Audit of a range of raw records by element, in five bytes per element.

Raw records are added first, each partition in offset order; then the outcomes, in any order. To cover months of
records, only this is kept per element: whether it was answered, and a checksum of its signal's digest, with which a
second signal is compared.
"""

import re
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from zlib import crc32

from earlybird.schemas.codec import DecodeError, decode
from earlybird.schemas.rejection import Reason, Rejection
from earlybird.schemas.signal import ExitReason, RawPosition, Signal
from earlybird.stream.parsing.records import Element, Skip
from earlybird.stream.ports import Partition, Position, Record
from earlybird.stream.timeline.merge import Span

MOST_NAMED = 1_000
"""Limit on the positions kept for the report; all are counted."""

# _TIMED: a deadline or shedding affected an outcome. _SKIPPED: there is none to come. _WAITING: it is to come.
_SIGNALLED, _REJECTED, _TIMED, _SKIPPED, _WAITING = 1, 2, 4, 8, 16
_UNANSWERED = re.compile(rb"\x00+")


class Elements:
    """The elements of one raw partition, numbered in the order of their positions."""

    def __init__(self) -> None:
        self.total = 0
        self.states = bytearray()
        self.said = array("I")  # CRC32 of the first signal's digest
        self._offsets, self._counts, self._firsts = array("q"), array("q"), array("q")  # runs of records of equal count
        self._next = -1

    def add(self, offset: int, count: int) -> None:
        """Add a record with `count` elements."""
        if offset != self._next or count != self._counts[-1]:
            self._offsets.append(offset)
            self._counts.append(count)
            self._firsts.append(self.total)
        self._next = offset + 1
        self.total += count
        self.states.extend(bytes(count))
        self.said.extend([0] * count)

    def number(self, offset: int, index: int) -> int | None:
        """Return the element's number, or None if there is no such element."""
        run = bisect_right(self._offsets, offset) - 1
        if run < 0 or index >= self._counts[run]:
            return None
        number = self._firsts[run] + (offset - self._offsets[run]) * self._counts[run] + index
        following = self._firsts[run + 1] if run + 1 < len(self._firsts) else self.total
        return number if number < following else None

    def place(self, number: int) -> tuple[int, int]:
        """Return the offset and index of an element."""
        run = bisect_right(self._firsts, number) - 1
        records, index = divmod(number - self._firsts[run], self._counts[run])
        return self._offsets[run] + records, index

    def unanswered(self) -> Iterator[tuple[int, int]]:
        """Yield the first and last number of each stretch without outcomes."""
        for found in _UNANSWERED.finditer(self.states):
            yield found.start(), found.end() - 1


class Account:
    """Audit of outcomes against raw records.

    Add all raw records of `spans`, then all outcomes, then what is committed, and read the results. An outcome of a
    record after its span is ignored, since the record is newer than the audit; so is one of a record before it, if the
    start of the span was chosen.
    """

    def __init__(
        self,
        spans: Mapping[Partition, Span],
        read: Callable[[Record], list[Element | Skip]],
        *,
        bounded: bool = False,
        aside: Collection[str] = (),
    ) -> None:
        """Start an audit of `spans`.

        `read`: the stage's reader. `bounded`: the user chose the starts of the spans; else they are the starts of the
        topics. `aside`: raw topics that are not audited.
        """
        self.actions: Counter[str] = Counter()  # of the first signal per element
        self.rejections: Counter[str] = Counter()  # by reason, of the first dead letter per element
        self.exit_layers: Counter[int] = Counter()  # of computed texts
        self.cache_hits = self.outcomes = self.unreadable = self.strays = 0
        self.waiting: int | None = None  # elements without an outcome whose records are not committed; None: unknown
        self.stray_positions: list[Position] = []
        self.first_us: int | None = None  # append times of the first and the last outcome
        self.last_us: int | None = None
        self._spans, self._read, self._bounded, self._aside = spans, read, bounded, frozenset(aside)
        self._elements = {partition: Elements() for partition in spans}
        self._differing: list[tuple[Partition, int]] = []  # signals that differ from the first one

    def add_raw(self, record: Record) -> None:
        """Add one record of a raw topic."""
        found = self._read(record)
        elements = self._elements[Partition(record.topic, record.partition)]
        elements.add(record.offset, len(found))
        for number, element in enumerate(found, elements.total - len(found)):
            if isinstance(element, Skip):
                elements.states[number] = _SKIPPED

    def add_signal(self, record: Record) -> None:
        """Add one record of the signals topic."""
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
        """Add one record of the dead-letter topic."""
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

    def note_committed(self, committed: Mapping[Partition, tuple[int, Collection[int]]]) -> None:
        """Count as waiting, not as missing, what the stage has still to finish.

        `committed`: per partition the offset to read next, and the offsets above it that are finished. It must be
        older than the last outcome that was added: what is committed has its outcome among them.
        """
        self.waiting = 0
        for partition, (next_offset, finished) in committed.items():
            elements = self._elements[partition]
            for first, last in list(elements.unanswered()):
                for number in range(first, last + 1):
                    offset, _ = elements.place(number)
                    if offset >= next_offset and offset not in finished:
                        elements.states[number] = _WAITING
                        self.waiting += 1

    @property
    def elements(self) -> int:
        """Number of elements of raw records."""
        return sum(elements.total for elements in self._elements.values())

    @property
    def skipped(self) -> int:
        """Number of elements that concern no item: control and keep-alive messages, ..."""
        return sum(elements.states.count(_SKIPPED) for elements in self._elements.values())

    @property
    def missing(self) -> int:
        """Number of elements without an outcome, except those that are known to wait."""
        return sum(elements.states.count(0) for elements in self._elements.values())

    @property
    def repeated(self) -> int:
        """Number of outcomes published more than once, as at-least-once delivery allows.

        The retraction of a rejected update is not one of them.
        """
        both = (_SIGNALLED | _REJECTED, _SIGNALLED | _REJECTED | _TIMED)
        states = [elements.states for elements in self._elements.values()]
        answered = sum(len(each) - sum(map(each.count, (0, _SKIPPED, _WAITING))) for each in states)
        return self.outcomes - answered - sum(sum(map(each.count, both)) for each in states)

    @property
    def disagreeing(self) -> list[Position]:
        """Positions published twice with different digests.

        Positions where a deadline or shedding affected an outcome are excluded: their digests may differ.
        """
        return [
            Position(*partition, *self._elements[partition].place(number))
            for partition, number in self._differing
            if not self._elements[partition].states[number] & _TIMED
        ]

    @property
    def span_s(self) -> float:
        """Time from the first outcome to the last, in seconds."""
        return ((self.last_us or 0) - (self.first_us or 0)) / 1e6

    @property
    def balanced(self) -> bool:
        """Whether every element has its outcome or waits for it, and repeated outcomes are equal."""
        return not self.missing and not self.disagreeing and not self.unreadable

    def missing_stretches(self) -> Iterator[str]:
        """Yield the positions of missing outcomes as text.

        Either TOPIC/PARTITION/OFFSET/INDEX, or the first and the last position of a stretch.
        """
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
    """Return all figures, for the table and for --json."""
    disagreeing, span_s = account.disagreeing, account.span_s
    stretches = account.missing_stretches()
    return {
        "records": account.elements,
        "skipped": account.skipped,
        "signals": account.actions["new"] + account.actions["correct"],
        "corrections": account.actions["correct"],
        "retractions": account.actions["retract"],
        "rejections": dict(sorted(account.rejections.items())),
        "cache_hits": account.cache_hits,
        "exit_layers": dict(sorted(account.exit_layers.items())),
        "repeated": account.repeated,
        "waiting": account.waiting,
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
