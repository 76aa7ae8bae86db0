"""Layout of an archive: file locations, file names and superseded files.

    ROOT/TOPIC/date=2024-05-01/T13-p0-00000000000000001200-00000000000000001450.parquet

holds the records of partition 0 between these offsets (the second not included) that became available in that hour (T
without a number: in that day). The names are the archive's only state. A file is superseded where another one of the
same partition covers its hours and its offsets; an interrupted compaction leaves such files behind.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from earlybird.stream.errors import SourceError
from earlybird.stream.ports import Partition
from earlybird.stream.timeline.merge import Span

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US

_NAME = re.compile(r"T(\d\d)?-p(\d+)-(\d{20})-(\d{20})\.parquet")


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One archive file as its name describes it; `hour` None: the whole day."""

    folder: Path  # the day's folder
    partition: Partition
    hour: int | None
    span: Span

    @classmethod
    def at(cls, root: Path, partition: Partition, available_us: int, span: Span) -> "ArchiveFile":
        """Return the file for records that became available in this instant's hour."""
        moment = datetime.fromtimestamp(available_us // 1_000_000, UTC)
        return cls(root / partition.topic / f"date={moment:%Y-%m-%d}", partition, moment.hour, span)

    @property
    def path(self) -> Path:
        hour = "" if self.hour is None else f"{self.hour:02}"
        start, end = self.span
        return self.folder / f"T{hour}-p{self.partition.number}-{start:020}-{end:020}.parquet"

    @property
    def date(self) -> str:
        """The day as YYYY-MM-DD, in UTC."""
        return self.folder.name.removeprefix("date=")

    @property
    def begins_us(self) -> int:
        """Earliest instant at which a record of this file can be available."""
        day_us = round(datetime.fromisoformat(self.date).replace(tzinfo=UTC).timestamp()) * 1_000_000
        return day_us + (self.hour or 0) * HOUR_US

    @property
    def ends_us(self) -> int:
        """Instant before which every record of this file is available."""
        return self.begins_us + (DAY_US if self.hour is None else HOUR_US)

    def covers(self, other: "ArchiveFile") -> bool:
        """Return whether this file must hold all records of the other."""
        return (
            self.partition == other.partition
            and self.folder == other.folder
            and self.hour in (None, other.hour)
            and self.span.start <= other.span.start
            and self.span.end >= other.span.end
        )


def hour_of(available_us: int) -> int:
    """Return the number of the hour since 1970."""
    return available_us // HOUR_US


def topics_in(root: Path) -> list[str]:
    """Return the archived topics; raises SourceError where there is no archive."""
    if not root.is_dir():
        raise SourceError(f"{root}: no archive there")
    return sorted(path.name for path in root.iterdir() if path.is_dir() and any(path.glob("date=*/T*.parquet")))


def files_of(root: Path, topics: Iterable[str]) -> list[ArchiveFile]:
    """Return the files in force, by partition, offset and time."""
    found = [file for topic in topics for folder in (root / topic).glob("date=*") for file in _files_in(folder)]
    return sorted(_in_force(found), key=lambda file: (file.partition, file.span, file.begins_us))


def files_of_day(folder: Path) -> list[ArchiveFile]:
    """Return the files in force of one day of a topic."""
    return _in_force(list(_files_in(folder)))


def superseded_in(folder: Path) -> list[ArchiveFile]:
    """Return the files of a day that another file covers."""
    found = list(_files_in(folder))
    in_force = set(_in_force(found))
    return [file for file in found if file not in in_force]


def _files_in(folder: Path) -> Iterator[ArchiveFile]:
    for path in folder.glob("T*.parquet") if _is_day(folder.name) else ():
        match = _NAME.fullmatch(path.name)
        if match:
            hour, number, start, end = match.groups()
            partition = Partition(folder.parent.name, int(number))
            yield ArchiveFile(folder, partition, None if hour is None else int(hour), Span(int(start), int(end)))


def _is_day(name: str) -> bool:
    try:
        return bool(datetime.fromisoformat(name.removeprefix("date=")))
    except ValueError:
        return False


def _in_force(files: list[ArchiveFile]) -> list[ArchiveFile]:
    groups: dict[tuple[Path, Partition], list[ArchiveFile]] = {}
    for file in files:
        groups.setdefault((file.folder, file.partition), []).append(file)
    return [
        file
        for group in groups.values()
        for file in group
        if not any(other is not file and other.covers(file) for other in group)
    ]
