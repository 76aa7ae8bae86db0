"""Writes topics into Parquet files, exactly once over restarts.

An archive keeps no offsets anywhere but in the names of its files (see stream.archive.layout). A file appears whole, by
one rename, and the next record to archive is the one after the last file. So a process that is killed has either
archived a record or will do it again.
"""

import fcntl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Protocol, Self

import structlog

from earlybird.schemas.codec import DecodeError, decode
from earlybird.schemas.raw import RawItem
from earlybird.schemas.signal import Signal
from earlybird.stream.adapters import parquet
from earlybird.stream.archive.layout import ArchiveFile, files_of, files_of_day, hour_of, superseded_in, topics_in
from earlybird.stream.errors import SettingsError
from earlybird.stream.ports import Partition, Record
from earlybird.stream.timeline.availability import StampedRecord, broker_us, date_raw, date_signal
from earlybird.stream.timeline.merge import Span

log = structlog.get_logger(__name__)

FORMAT = "earlybird-archive/1"
MOST_ROWS = 50_000  # per file, before compaction
MOST_BYTES = 64 << 20
LEAST_ROWS = 1_000  # a sparser hour shares its file with the next hours of its day
REFRESH_S = 30.0  # between looks for partitions that were added
DAY_ROWS = 500_000  # a day with at most this many becomes one file per partition


class Archiver(AbstractContextManager["Archiver"]):
    """The writer of an archive, one per folder; not thread-safe.

    Buffers one run of offsets per partition.
    """

    def __init__(
        self,
        root: Path,
        signal_topics: Iterable[str],
        code_version: str = "",
        least_rows: int = LEAST_ROWS,
        topic_ids: Mapping[str, str] | None = None,
    ) -> None:
        """`signal_topics` hold signals, all others raw records. `topic_ids`: ids of the topics on the broker.

        Raises SettingsError when another writer has the folder, or without pyarrow.
        """
        parquet.arrow()
        self.root, self._signal_topics, self._code_version = root, frozenset(signal_topics), code_version
        self._least_rows, self._topic_ids = least_rows, topic_ids or {}
        self.archived = 0  # records in files
        self._runs: dict[Partition, list[parquet.Row]] = {}
        self._bytes: dict[Partition, int] = {}
        self._last_us: dict[Partition, int] = {}  # availability of the last record
        root.mkdir(parents=True, exist_ok=True)
        self._lock = (root / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise SettingsError(f"{root}: another process archives there") from None
        self._tidy()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            self.flush()
        self._lock.close()

    def next_offsets(self) -> dict[Partition, int]:
        """Return the next offset to archive, per archived partition.

        Raises SettingsError for a topic that was deleted and made anew: its offsets name other records.
        """
        last: dict[Partition, ArchiveFile] = {}
        for file in files_of(self.root, topics_in(self.root)):
            if file.partition not in last or file.span.end > last[file.partition].span.end:
                last[file.partition] = file
        for partition, file in last.items():
            archived, there = _topic_id(file), self._topic_ids.get(partition.topic, "")
            if archived and there and archived != there:
                raise SettingsError(
                    f"{partition.topic}: archived with topic id {archived}, and the broker's has {there}: it was made "
                    "anew. Use another folder"
                )
        return {partition: file.span.end for partition, file in last.items()}

    def add(self, stamped: StampedRecord) -> None:
        """Add the next record of its partition; offsets ascend from `next_offsets` on."""
        record = stamped.record
        partition = Partition(record.topic, record.partition)
        row = self._row(stamped)
        if (run := self._runs.get(partition)) and self._ends(run, row["available_us"]):
            self._write(partition)
        last_us = self._last_us.get(partition)
        written = partition not in self._runs
        if written and last_us is not None and hour_of(last_us) != hour_of(row["available_us"]):
            self.compact_hour(partition, last_us)
        self._last_us[partition] = row["available_us"]
        run = self._runs.setdefault(partition, [])
        run.append(row)
        self._bytes[partition] = self._bytes.get(partition, 0) + _size(record)
        if len(run) >= MOST_ROWS or self._bytes[partition] >= MOST_BYTES:
            self._write(partition)

    def flush(self) -> None:
        """Write all records that were added to files."""
        for partition in list(self._runs):
            self._write(partition)

    def compact(self, day_rows: int = DAY_ROWS) -> int:
        """Merge files per hour, and per small day; return the number of files removed."""
        self.flush()
        before = len(files_of(self.root, topics_in(self.root)))
        days: dict[tuple[Path, Partition], list[ArchiveFile]] = {}
        for file in files_of(self.root, topics_in(self.root)):
            days.setdefault((file.folder, file.partition), []).append(file)
        for files in days.values():
            if sum(int(parquet.metadata_of(file.path)["rows"]) for file in files) <= day_rows:
                self._merge(files, None)
                continue
            for hour in {file.hour for file in files if file.hour is not None}:
                self._merge([file for file in files if file.hour == hour], hour)
        return before - len(files_of(self.root, topics_in(self.root)))

    def compact_hour(self, partition: Partition, available_us: int) -> None:
        """Merge the files of one partition's completed hour."""
        here = ArchiveFile.at(self.root, partition, available_us, Span(0, 0))
        files = [file for file in files_of_day(here.folder) if file.partition == partition and file.hour == here.hour]
        self._merge(files, here.hour)

    def _ends(self, run: list[parquet.Row], next_us: int) -> bool:
        """Return whether a record of this time must not join the run.

        A run ends with its day, and with its hour if it is long.
        """
        hour, following = hour_of(run[0]["available_us"]), hour_of(next_us)
        return hour // 24 != following // 24 or (hour != following and len(run) >= self._least_rows)

    def _write(self, partition: Partition) -> None:
        run = self._runs.pop(partition, [])
        self._bytes.pop(partition, None)
        if run:
            span = Span(run[0]["offset"], run[-1]["offset"] + 1)
            file = ArchiveFile.at(self.root, partition, run[0]["available_us"], span)
            if len({hour_of(row["available_us"]) for row in run}) > 1:
                file = replace(file, hour=None)
            self._store(file, run, self._topic_ids.get(partition.topic, ""))
            self.archived += len(run)

    def _merge(self, files: list[ArchiveFile], hour: int | None) -> None:
        if len(files) < 2:
            return
        span = Span(min(file.span.start for file in files), max(file.span.end for file in files))
        merged = ArchiveFile(files[0].folder, files[0].partition, hour, span)
        rows = [row for file in files for row in parquet.read_rows(file.path)]
        ids = {topic_id for file in files if (topic_id := _topic_id(file))}
        self._store(merged, rows, ids.pop() if ids else "")  # first: from now on the others are superseded
        for file in files:
            if file != merged:
                file.path.unlink()  # then they may be deleted

    def _store(self, file: ArchiveFile, rows: list[parquet.Row], topic_id: str) -> None:
        rows.sort(key=lambda row: (row["available_us"], row["offset"]))
        signals = file.partition.topic in self._signal_topics
        metadata = {
            "format": FORMAT,
            "schema": Signal.SCHEMA if signals else RawItem.SCHEMA,
            "topic": file.partition.topic,
            "topic_id": topic_id,  # empty where the broker tells none
            "partition": str(file.partition.number),
            "first_offset": str(file.span.start),
            "next_offset": str(file.span.end),
            "rows": str(len(rows)),
            "content_sha256": parquet.rows_sha256(rows),
            "code_version": self._code_version,
        }
        if signals:
            models = {(row["model_sha256"], row["config_hash"], row["numerics"]) for row in rows if row["signal_id"]}
            metadata["models"] = " ".join(sorted(":".join(model) for model in models))
        parquet.write_table(file.path, "signals" if signals else "raw", rows, metadata)

    def _row(self, stamped: StampedRecord) -> parquet.Row:
        record = stamped.record
        if record.topic not in self._signal_topics:
            return parquet.record_row(stamped, date_raw(stamped, "auto").base_us)
        signal = _signal(record)
        available_us = broker_us(record) if signal is None else date_signal(record, signal, "auto").at_us
        return parquet.record_row(stamped, available_us) | parquet.signal_row(signal)

    def _tidy(self) -> None:
        """Remove what a killed process has left."""
        for part in self.root.glob("*/date=*/.*.part"):
            part.unlink()
        for folder in self.root.glob("*/date=*"):
            for file in superseded_in(folder):
                file.path.unlink()


class Reader(Protocol):
    """Reads records of its assigned partitions."""

    def poll(self, timeout_ms: int) -> list[StampedRecord]:
        """Return the records that are there; empty on timeout."""

    def refresh(self) -> None:
        """Read partitions that were added since, from their beginning."""


def starts(archived: Mapping[Partition, int], there: Mapping[Partition, Span]) -> dict[Partition, Span]:
    """Return what remains to be archived of each partition.

    Logs an error for records that the broker deleted first. Raises SettingsError where the broker has less than the
    archive: that is another topic of the same name.
    """
    remaining = {}
    for partition, span in there.items():
        following = archived.get(partition, span.start)
        if following > span.end:
            raise SettingsError(
                f"{partition.topic}/{partition.number}: archived up to offset {following}, and the topic ends at "
                f"{span.end}; was it made anew? Use another folder"
            )
        if following < span.start:
            log.error("archive.gap", topic=partition.topic, partition=partition.number, lost=span.start - following)
        remaining[partition] = Span(max(following, span.start), span.end)
    return remaining


def archive_all(archiver: Archiver, partitions: Iterable[Iterator[StampedRecord]]) -> None:
    """Archive all records of these partitions, then return."""
    for partition in partitions:
        for stamped in partition:
            archiver.add(stamped)
    archiver.flush()


def archive_on(archiver: Archiver, reader: Reader, flush_s: float, stop: Callable[[], bool]) -> None:
    """Archive records until `stop`, flushing every `flush_s` seconds; partitions added meanwhile are read, too."""
    refresh_s = min(flush_s, REFRESH_S)
    flush_due_s, refresh_due_s = time.monotonic() + flush_s, time.monotonic() + refresh_s
    while not stop():
        for stamped in reader.poll(200):
            archiver.add(stamped)
        now_s = time.monotonic()
        if now_s >= refresh_due_s:
            reader.refresh()
            refresh_due_s = now_s + refresh_s
        if now_s >= flush_due_s:
            archiver.flush()
            flush_due_s = now_s + flush_s
    archiver.flush()


def _size(record: Record) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


def _topic_id(file: ArchiveFile) -> str:
    return parquet.metadata_of(file.path).get("topic_id", "")


def _signal(record: Record) -> Signal | None:
    try:
        return decode(Signal, record.value or b"")
    except DecodeError:
        return None
