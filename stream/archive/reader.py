"""Reads archived topics back, without Kafka.

Strategies get records in order of availability, replays partition by partition.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from earlybird.schemas.signal import Signal
from earlybird.stream.adapters import parquet
from earlybird.stream.adapters.signal_files import SignalFileStart
from earlybird.stream.archive.layout import ArchiveFile, files_of, topics_in
from earlybird.stream.errors import SourceError
from earlybird.stream.ports import Partition, Record
from earlybird.stream.timeline.availability import StampedRecord
from earlybird.stream.timeline.merge import Begin, Span, Window


class ArchiveHistory:
    """A History of archived topics."""

    def __init__(self, root: Path) -> None:
        """Raises SourceError where there is no archive."""
        topics_in(root)
        self._root = root

    def spans(self, topics: Iterable[str], window: Window) -> dict[Partition, Span]:
        """See History.spans.

        A topic may have been empty; raises SourceError where none of them was archived.
        """
        spans: dict[Partition, Span] = {}
        wanted = list(topics)
        for file in files_of(self._root, wanted):
            known = spans.get(file.partition, file.span)
            spans[file.partition] = Span(min(known.start, file.span.start), max(known.end, file.span.end))
        if not spans:
            there = ", ".join(topics_in(self._root)) or "nothing"
            raise SourceError(f"{self._root}: holds no {', '.join(wanted)}, only {there}")
        return {partition: window.clip(partition, span) for partition, span in sorted(spans.items())}

    def cut(self, topics: Iterable[str], window: Window) -> dict[Partition, Begin]:
        """See History.cut.

        Without a bound the request is for everything in the archive, so nothing is missing.
        """
        if window.start_us is None and not window.first:
            return {}
        begins: dict[Partition, Begin] = {}
        for file in files_of(self._root, topics):
            known = begins.get(file.partition, Begin(file.span.start, file.begins_us))
            begins[file.partition] = Begin(min(known.offset, file.span.start), min(known.at_us or 0, file.begins_us))
        return {partition: begin for partition, begin in begins.items() if window.lacks_before(partition, begin)}

    def read(self, spans: Mapping[Partition, Span], window: Window) -> list[Iterator[StampedRecord]]:
        return [self._partition(partition, span, window) for partition, span in spans.items()]

    def _partition(self, partition: Partition, span: Span, window: Window) -> Iterator[StampedRecord]:
        files = [
            file
            for file in files_of(self._root, [partition.topic])
            if file.partition == partition
            and file.span.end > span.start
            and file.span.start < span.end
            and (window.earliest_us is None or file.ends_us > window.earliest_us)
            and (window.latest_us is None or file.begins_us <= window.latest_us)
        ]
        for row in _merged(files, lambda file: file.span.start, lambda row: row["offset"]):
            if span.start <= row["offset"] < span.end:
                yield parquet.record_of(row)


def signal_files(
    path: Path, start_us: int | None, end_us: int | None, topic: str | None = None
) -> list[SignalFileStart]:
    """Return the files that can hold signals of this time range.

    `path` is an archive (with several topics of signals, name the `topic`), or the output of `replay`, folder or file.
    Raises SourceError.
    """
    if (replayed := _replayed_file(path)) is not None:
        return [SignalFileStart(replayed, 0)]
    return [
        SignalFileStart(file.path, file.begins_us)
        for file in files_of(path, _signal_topic(path, topic))
        if (start_us is None or file.ends_us > start_us) and (end_us is None or file.begins_us < end_us)
    ]


def _replayed_file(path: Path) -> Path | None:
    replayed = path / "signals.parquet" if path.is_dir() else path
    return replayed if replayed.is_file() else None


def read_raw(path: Path, topics: Iterable[str]) -> Iterator[tuple[Record, int]]:
    """Yield raw records and the instants from which they were available, in that order.

    Raises SourceError.
    """
    files = files_of(path, list(topics))
    for row in _merged(files, lambda file: file.begins_us, lambda row: row["available_us"]):
        yield parquet.record_of(row).record, row["available_us"]


def _merged(
    files: list[ArchiveFile], begins: Callable[[ArchiveFile], int], place: Callable[[parquet.Row], int]
) -> Iterator[parquet.Row]:
    """Yield the rows of all files by `place`.

    Each file is opened, and held in memory, when the first of its rows may be due.
    """
    waiting = sorted(files, key=lambda file: (begins(file), file.path), reverse=True)
    heap: list[tuple[tuple[int, str, int, int], int, Iterator[parquet.Row], parquet.Row]] = []
    opened = 0

    def push(number: int, rows: Iterator[parquet.Row]) -> None:
        for row in rows:
            heapq.heappush(heap, ((place(row), row["topic"], row["partition"], row["offset"]), number, rows, row))
            return

    while waiting or heap:
        while waiting and (not heap or begins(waiting[-1]) <= heap[0][0][0]):
            opened += 1
            push(
                opened, iter(sorted(parquet.read_rows(waiting.pop().path), key=lambda row: (place(row), row["offset"])))
            )
        if heap:
            _, number, rows, row = heapq.heappop(heap)
            yield row
            push(number, rows)


def _signal_topic(root: Path, topic: str | None) -> list[str]:
    if topic is not None:
        return [topic]
    known = topics_in(root)
    found = [name for name in known if _holds_signals(root, name)]
    if len(found) != 1:
        raise SourceError(f"{root}: one topic of signals expected, was {', '.join(found) or 'none'}")
    return found


def _holds_signals(root: Path, topic: str) -> bool:
    files = files_of(root, [topic])
    return bool(files) and parquet.metadata_of(files[0].path).get("schema") == Signal.SCHEMA
