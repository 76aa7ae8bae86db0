"""The files of an archive: where they lie, what their names say, which of them count.

    ROOT/TOPIC/date=2024-05-01/T13-p0-00000000000000001200-00000000000000001450.parquet

holds what partition 0 has between these offsets (the second not included) and became available in that hour (T: in
that day). The names are the archive's only state. A file is superseded where another one of the same partition covers
its hours and its offsets: that is what a compaction leaves behind that was cut short.
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
    """One file, as its name describes it. `hour` None: the whole day."""

    folder: Path  # of the day
    partition: Partition
    hour: int | None
    span: Span

    @classmethod
    def at(cls, root: Path, partition: Partition, available_us: int, span: Span) -> "ArchiveFile":
        """The hour file for records of this hour."""
        moment = datetime.fromtimestamp(available_us // 1_000_000, UTC)
        return cls(root / partition.topic / f"date={moment:%Y-%m-%d}", partition, moment.hour, span)

    @property
    def path(self) -> Path:
        hour = "" if self.hour is None else f"{self.hour:02}"
        start, end = self.span
        return self.folder / f"T{hour}-p{self.partition.number}-{start:020}-{end:020}.parquet"

    @property
    def date(self) -> str:
        """YYYY-MM-DD, UTC."""
        return self.folder.name.removeprefix("date=")

    @property
    def begins_us(self) -> int:
        """No record in it is available earlier."""
        day_us = round(datetime.fromisoformat(self.date).replace(tzinfo=UTC).timestamp()) * 1_000_000
        return day_us + (self.hour or 0) * HOUR_US

    @property
    def ends_us(self) -> int:
        """Every record in it is available before this."""
        return self.begins_us + (DAY_US if self.hour is None else HOUR_US)

    def covers(self, other: "ArchiveFile") -> bool:
        """Whether everything in the other file must be in this one."""
        return (
            self.partition == other.partition
            and self.folder == other.folder
            and self.hour in (None, other.hour)
            and self.span.start <= other.span.start
            and self.span.end >= other.span.end
        )


def hour_of(available_us: int) -> int:
    """Number of the hour since 1970."""
    return available_us // HOUR_US


def topics_in(root: Path) -> list[str]:
    """The topics that this archive has. Raises SourceError where there is no archive."""
    if not root.is_dir():
        raise SourceError(f"{root}: no archive there")
    return sorted(path.name for path in root.iterdir() if path.is_dir() and any(path.glob("date=*/T*.parquet")))


def files_of(root: Path, topics: Iterable[str]) -> list[ArchiveFile]:
    """The files that count, by partition, offset and time."""
    found = [file for topic in topics for folder in (root / topic).glob("date=*") for file in _files_in(folder)]
    return sorted(_in_force(found), key=lambda file: (file.partition, file.span, file.begins_us))


def files_of_day(folder: Path) -> list[ArchiveFile]:
    """The files of one day of a topic that count."""
    return _in_force(list(_files_in(folder)))


def superseded_in(folder: Path) -> list[ArchiveFile]:
    """The files of a day that another one covers."""
    found = list(_files_in(folder))
    in_force = set(_in_force(found))
    return [file for file in found if file not in in_force]


def _files_in(folder: Path) -> Iterator[ArchiveFile]:
    for path in folder.glob("T*.parquet"):
        match = _NAME.fullmatch(path.name)
        if match:
            hour, number, start, end = match.groups()
            partition = Partition(folder.parent.name, int(number))
            yield ArchiveFile(folder, partition, None if hour is None else int(hour), Span(int(start), int(end)))


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
