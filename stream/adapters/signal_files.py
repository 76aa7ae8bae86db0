"""Signals from Parquet files, filtered by columns, in order of availability.

Unwanted messages are never decoded. Files are sorted by availability. A window of some tens of thousands of rows is
in memory at a time, with only the columns that filters need; messages are read from the files on request, forwards.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from earlybird.schemas.codec import DecodeError, decode
from earlybird.schemas.signal import Signal
from earlybird.stream.adapters.columns import SIGNAL, schema_of, table_of
from earlybird.stream.adapters.parquet import arrow, reading, signal_row
from earlybird.stream.adapters.signal_criteria import Criteria, matching
from earlybird.stream.errors import SourceError
from earlybird.stream.observability.logging import get_logger

log = get_logger(__name__)

FACTS = ("signal_id", "item_key", "symbols", "label", "confidence", "source", "item_type")
_ORDER = ("available_us", "partition", "offset", "row")
# Columns with few distinct values are read as dictionaries.
_REPEATING = ["model_sha256", "config_hash", "numerics", "model_id", "run_id"]
_MESSAGES = 1_024  # messages read from a file at once
_FOREVER = 2**63 - 1


class SignalFileStart(NamedTuple):
    """A file of signals, and the instant before which none of its records is available."""

    path: Path
    begins_us: int


class SignalFile:
    """One Parquet file, read forwards: rows by group, messages by row."""

    def __init__(self, path: Path) -> None:
        """Open the file; raises SourceError."""
        self.path = path
        self._pa = arrow()
        with reading(self._pa, path):
            self.names = set(self._pa.parquet.read_schema(path).names)
            repeating = [name for name in _REPEATING if name in self.names]
            self._file = self._pa.parquet.ParquetFile(path, read_dictionary=repeating)
        metadata = self._file.metadata
        if not {"available_us", "value", *FACTS} <= self.names:
            raise SourceError(f"{path}: holds no signals of ours")
        sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        self._starts = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
        self._group = 0  # number of the next row group
        self._batches: Iterator[Any] = iter(())
        self._values: Any = ()
        self._values_from = self._values_group = -1

    @property
    def more(self) -> bool:
        """True while row groups are left."""
        return self._group < len(self._starts) - 1

    def next_rows(self, columns: Sequence[str]) -> Any:
        """Return the next group's rows as an Arrow table, numbered in `row`.

        Columns that an older file lacks are read from its messages.
        """
        pa, first = self._pa, self._starts[self._group]
        missing = [name for name in columns if name in SIGNAL and name not in self.names]
        present = [name for name in columns if name in self.names]
        with reading(pa, self.path):
            table = self._file.read_row_group(self._group, present, use_threads=False)
            for column in self._columns_of_messages(missing) if missing else ():
                table = table.append_column(*column)
        self._group += 1
        return table.append_column("row", pa.array(range(first, first + table.num_rows), pa.int64()))

    def message(self, row: int) -> bytes | None:
        """Return the message in this row; fast where rows ascend from call to call."""
        if row < self._values_from:
            self._values_group = -1
        with reading(self._pa, self.path):
            while not self._values_from <= row < self._values_from + len(self._values):
                self._advance(row)
        value: bytes | None = self._values[row - self._values_from].as_py()
        return value

    def _columns_of_messages(self, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """Yield these columns of the next group, made from its messages."""
        (values,) = self._file.read_row_group(self._group, ["value"], use_threads=False).columns
        schema = self._pa.schema([field for field in schema_of(self._pa, "replayed") if field.name in names])
        table = table_of(self._pa, [signal_row(_signal(value.as_py())) for value in values], schema, str(self.path))
        yield from zip(table.column_names, table.columns, strict=True)

    def _advance(self, row: int) -> None:
        group = bisect_right(self._starts, row) - 1
        if group != self._values_group:
            self._values_group, self._values_from, self._values = group, self._starts[group], ()
            self._batches = self._file.iter_batches(
                batch_size=_MESSAGES, row_groups=[group], columns=["value"], use_threads=False
            )
        self._values_from += len(self._values)
        self._values = next(self._batches).column(0)


@dataclass(frozen=True, slots=True)
class Rows:
    """Signals of some files in order of availability; never empty."""

    table: Any  # Arrow table in one chunk: available_us, FACTS (or all columns, as requested), `file` and `row`
    files: Mapping[int, SignalFile]
    places: Sequence[tuple[int, int]]  # file, row

    def __len__(self) -> int:
        return len(self.places)

    def candidates(self, wanted: Criteria, known: Collection[str]) -> list[int]:
        """Return the numbers of the wanted rows and of rows of the same items.

        The items are those in `known` and those with a wanted row here.
        """
        pc = arrow().compute
        mask = matching(self.table, wanted)
        keys = self.table["item_key"].combine_chunks()
        followed = arrow().array([*known, *pc.unique(keys.filter(mask)).to_pylist()], keys.type)
        numbers: list[int] = pc.indices_nonzero(pc.or_(mask, pc.is_in(keys, followed))).to_pylist()
        return numbers

    def columns(self, names: Sequence[str], numbers: Sequence[int] | None = None) -> list[list[Any]]:
        """Return these columns of these rows (None: all) as Python values."""
        chosen = self.table.select(names)
        chosen = chosen if numbers is None else chosen.take(arrow().array(numbers, "int64"))
        return [chosen[name].to_pylist() for name in names]

    def whole(self, numbers: Sequence[int]) -> Any | None:
        """Return these rows with all columns of a signal; None where these were not read."""
        if not set(SIGNAL) <= set(self.table.column_names):
            return None
        if numbers[-1] - numbers[0] == len(numbers) - 1:  # contiguous, since they ascend
            return self.table.slice(numbers[0], len(numbers))
        return self.table.take(arrow().array(numbers, "int64"))

    def message(self, number: int) -> bytes:
        """Return a row's message; fast where numbers ascend from call to call."""
        file, row = self.places[number]
        return self.files[file].message(row) or b""


def read_signal_rows(
    places: Sequence[SignalFileStart], columns: Sequence[str], start_us: int | None, end_us: int | None
) -> Iterator[Rows]:
    """Yield all signals with `start_us <= available_us < end_us` in order of availability.

    Ties are ordered by partition and offset. Records that are no signals are counted in the log. Raises SourceError.
    """
    pc = arrow().compute
    unreadable, reached_us = 0, 0
    for files, table in _windows(places, [*_ORDER, *columns]):
        inside = _between(table, start_us, end_us)
        unreadable += inside["signal_id"].null_count
        kept = inside.filter(pc.is_valid(inside["signal_id"])) if inside["signal_id"].null_count else inside
        if kept.num_rows:
            kept = _sorted(kept)
            if kept["available_us"][0].as_py() < reached_us:
                raise SourceError(f"{places[0].path.parent}: rows are not in the order of availability")
            reached_us = kept["available_us"][-1].as_py()
            yield Rows(kept, files, list(zip(kept["file"].to_pylist(), kept["row"].to_pylist(), strict=True)))
    if unreadable:
        log.warning("archive.unreadable", path=str(places[0].path.parent), records=unreadable)


def _signal(message: bytes | None) -> Signal | None:
    try:
        return decode(Signal, message or b"")
    except DecodeError:
        return None


def _between(table: Any, start_us: int | None, end_us: int | None) -> Any:
    pc = arrow().compute
    if start_us is not None:
        table = table.filter(pc.greater_equal(table["available_us"], start_us))
    return table if end_us is None else table.filter(pc.less(table["available_us"], end_us))


def _sorted(table: Any) -> Any:
    names = [name for name in _ORDER if name in table.column_names]
    order = arrow().compute.sort_indices(table.select(names), [(name, "ascending") for name in names])
    return table.combine_chunks().take(order).combine_chunks()


def _windows(places: Sequence[SignalFileStart], columns: Sequence[str]) -> Iterator[tuple[dict[int, SignalFile], Any]]:
    """Yield windows of rows that no later row can precede, unsorted within.

    Each row carries the number of its file.
    """
    waiting = sorted(enumerate(places), key=lambda each: (each[1].begins_us, each[1].path), reverse=True)
    files: dict[int, SignalFile] = {}
    rest: dict[int, Any] = {}  # rows per file that were read and are not yet due
    while waiting or rest:
        while waiting and (not rest or waiting[-1][1].begins_us <= _cut(files, rest)):
            number, place = waiting.pop()
            files[number] = SignalFile(place.path)
            if files[number].more:
                rest[number] = _next_rows(files[number], number, columns)
        cut = min([_cut(files, rest), *(place.begins_us for _, place in waiting[-1:])])
        due = {number: _count_before(table, cut) for number, table in rest.items()}
        if due:
            window = _joined([rest[number].slice(0, count) for number, count in due.items()])
            yield {number: files[number] for number in due}, window
        for number, count in due.items():
            rest[number] = rest[number].slice(count)
            while files[number].more and _last(rest[number], cut) <= cut:
                rest[number] = _joined([rest[number], _next_rows(files[number], number, columns)])
            if not rest[number].num_rows:
                del rest[number], files[number]


def _next_rows(file: SignalFile, number: int, columns: Sequence[str]) -> Any:
    table = file.next_rows(columns)
    return table.append_column("file", arrow().array([number] * table.num_rows, "int32"))


def _joined(tables: Sequence[Any]) -> Any:
    return arrow().concat_tables(tables, promote_options="default")


def _cut(files: Mapping[int, SignalFile], rest: Mapping[int, Any]) -> int:
    """Return the instant before which these files have no further rows.

    It is the earliest last row read among the files with more.
    """
    return min((_last(table, 0) for number, table in rest.items() if files[number].more), default=_FOREVER)


def _count_before(table: Any, cut: int) -> int:
    count: int = arrow().compute.sum(arrow().compute.less(table["available_us"], cut)).as_py() or 0
    return count


def _last(table: Any, default: int) -> int:
    last: int = table["available_us"][-1].as_py() if table.num_rows else default
    return last
