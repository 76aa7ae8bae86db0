"""Rows of CSV and Parquet files as numbered JSON lines: the header names the fields."""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import IO, Any

from earlybird.stream.adapters.parquet import arrow
from earlybird.stream.publishing.lines import Numbered, Unreadable

_SEPARATORS = ",;\t|"
_LONGEST_FIELD = 16 * 1024 * 1024  # of a CSV file; a quote that is never closed takes no more of the file than this
_ROWS = 1_024


def csv_lines(content: IO[bytes]) -> Iterator[Numbered]:
    """Yield every row of a CSV file as a JSON object of texts.

    Its number is that of its first line. The first row names the fields. They are separated by what is most frequent in
    it: comma, semicolon, tab or bar. Empty fields are left out. A row of another length is unreadable, since its fields
    may have shifted.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    text = (line.decode("utf-8", "surrogateescape") for line in content)
    first = next(text, "").removeprefix("\ufeff")
    separator = max(_SEPARATORS, key=first.count)
    names = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
    rows, number = csv.reader(text, delimiter=separator), 2
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, Unreadable(f"no CSV: {error}")
        else:
            if row and len(row) != len(names):
                yield number, Unreadable(f"{len(names)} fields as in the header expected, was {len(row)}")
            elif row:
                yield number, _json(dict(zip(names, row, strict=True)))
        number = rows.line_num + 2  # the header was read apart


def parquet_rows(content: IO[bytes]) -> Iterator[Numbered]:
    """Yield every row of a Parquet file as a JSON object, numbered from 1.

    A time is written in ISO 8601, with its offset if its column has a zone. Raises OSError for a damaged file
    and SettingsError without pyarrow.
    """
    pa, number = arrow(), 0
    try:
        for batch in pa.parquet.ParquetFile(content).iter_batches(_ROWS):
            columns = [_microseconds(pa, column) for column in batch.columns]
            for row in pa.RecordBatch.from_arrays(columns, names=batch.schema.names).to_pylist():
                number += 1
                yield number, _json(row)
    except pa.ArrowException as error:
        raise OSError(f"no Parquet: {error}") from None


def _microseconds(pa: Any, column: Any) -> Any:
    """Return a column of times in microseconds: Python has no finer ones."""
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        return column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return column


def _json(row: Mapping[str, Any]) -> bytes:
    told = {name: value for name, value in row.items() if value is not None and value != "" and not _nan(value)}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"), default=_plain).encode(errors="surrogateescape")


def _nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)  # how pandas writes that there is none


def _plain(value: object) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value) if value % 1 else int(value)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
