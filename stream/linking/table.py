"""A table of names and their symbols, as CSV, TSV, JSON lines or Parquet.

| column | meaning |
|---|---|
| `alias` | a name as it is written in texts |
| `symbol` | its symbol in any spelling; empty: a name that is no instrument, and hides shorter ones (`Apple Daily`) |
| `exchange` | carried to the signal |
| `valid_from`, `valid_to` | ISO 8601; from the first instant to before the second one; empty: always |
| `context` | words of which one must stand in the text, separated by blanks; empty: none is needed |
| `relevance` | 0 to 1, default 1 |

Only the first two must be there. The order of rows means nothing.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any

from earlybird.schemas.base import EARLIEST_US, LATEST_US
from earlybird.schemas.identity import canonical, sha256_hex
from earlybird.schemas.raw import LONGEST_EXCHANGE
from earlybird.schemas.symbols import canonical_symbol
from earlybird.stream.adapters.parquet import arrow
from earlybird.stream.errors import SettingsError
from earlybird.stream.linking.words import framed, split
from earlybird.stream.timeline.instants import feed_us

COLUMNS = ("alias", "symbol", "exchange", "valid_from", "valid_to", "context", "relevance")
LONGEST_ALIAS = 128
_MOST_FAULTS = 20  # shown
_SEPARATORS = re.compile(r"[\s,;|]+")
_DATE = re.compile(r"(\d{4})-\d\d-\d\d([T ].*)?")

Row = tuple[str, Mapping[str, Any]]
"""A row with its place, FILE:LINE."""


@dataclass(frozen=True, slots=True, order=True)
class Alias:
    """One row of the table."""

    name: str
    symbol: str  # canonical; empty: no instrument
    exchange: str
    from_us: int
    to_us: int  # exclusive
    context: tuple[str, ...]  # framed words in lower case, one of which must stand in the text; empty: none is needed
    relevance: float

    def holds(self, at_us: int) -> bool:
        """Return whether the row is valid at this instant."""
        return self.from_us <= at_us < self.to_us


@dataclass(frozen=True)
class SymbolTable:
    """The rows of a table, each once, in an order of their own."""

    aliases: tuple[Alias, ...]

    @classmethod
    def read(cls, path: Path) -> "SymbolTable":
        """Read a file; its ending names the form.

        Raises SettingsError, which names the faulty lines.
        """
        aliases, faults = set[Alias](), list[str]()
        for place, row in _rows(path):
            try:
                aliases.add(_alias(row))
            except ValueError as error:
                faults.append(f"{place}: {error}")
        if len(faults) > _MOST_FAULTS:
            faults[_MOST_FAULTS:] = [f"{path}: and {len(faults) - _MOST_FAULTS} more"]
        if not aliases and not faults:
            faults = [f"{path}: no rows"]
        if faults:
            raise SettingsError("\n".join(faults))
        return cls(tuple(sorted(aliases)))

    @cached_property
    def hash(self) -> str:
        """16 hex digits over all rows, whatever their order and the form of the file."""
        rows = [
            (alias.name, alias.symbol, alias.exchange, alias.from_us, alias.to_us, alias.context,
             round(alias.relevance * 1_000_000))
            for alias in self.aliases
        ]  # fmt: skip
        return sha256_hex(canonical(rows))[:16]

    @property
    def undated(self) -> int:
        """Number of rows with a symbol and no first day.

        A backtest takes these names as known for ever.
        """
        return sum(bool(alias.symbol) and alias.from_us == EARLIEST_US for alias in self.aliases)


def _rows(path: Path) -> Iterator[Row]:
    form = path.suffix.lower()
    try:
        if form in (".csv", ".tsv"):
            yield from _delimited(path, "," if form == ".csv" else "\t")
        elif form in (".jsonl", ".ndjson"):
            yield from _lines(path)
        elif form == ".parquet":
            yield from _parquet(path)
        else:
            raise SettingsError(f"{path}: a name ending in .csv, .tsv, .jsonl or .parquet required")
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None


def _delimited(path: Path, delimiter: str) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter, strict=True)
        try:
            _check_columns(f"{path}:1", reader.fieldnames or ())
            for row in reader:
                yield f"{path}:{reader.line_num}", row
        except csv.Error as error:
            raise SettingsError(f"{path}:{reader.reader.line_num}: {error}") from None


def _lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise SettingsError(f"{path}:{number}: no JSON: {error}") from None
            if not isinstance(row, dict):
                raise SettingsError(f"{path}:{number}: an object required, was {type(row).__name__}")
            _check_columns(f"{path}:{number}", row)
            yield f"{path}:{number}", row


def _parquet(path: Path) -> Iterator[Row]:
    pa = arrow()
    try:
        table = pa.parquet.read_table(path)
    except pa.ArrowException as error:
        raise SettingsError(f"{path}: {error}") from None
    _check_columns(str(path), table.column_names)
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"{path}: row {number}", row


def _check_columns(place: str, names: Any) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise SettingsError(f"{place}: no such column: {', '.join(map(str, unknown))}; known: {', '.join(COLUMNS)}")
    if missing := [name for name in COLUMNS[:2] if name not in names]:
        raise SettingsError(f"{place}: column required: {', '.join(missing)}")


def _alias(row: Mapping[str, Any]) -> Alias:
    """Check one row. Raises ValueError."""
    if None in row:  # as csv names what stands behind the last column
        raise ValueError("more values than columns; a value with the separator in it is put in quotes")
    name, written = _text(row, "alias"), _text(row, "symbol")
    words = split(name)
    if not words or len(name) > LONGEST_ALIAS:
        raise ValueError(f"alias: 1 to {LONGEST_ALIAS} characters with a letter or digit required, was {name[:200]!r}")
    if not (words[0][-1].isalnum() and words[-1][-1].isalnum()) or "://" in name or "@" in name:
        raise ValueError(f"alias: letters or digits required at both ends, and no link or handle, was {name!r}")
    try:
        symbol = canonical_symbol(written) if written else ""
    except ValueError as error:
        raise ValueError(f"symbol: {error}, was {written[:200]!r}") from None
    exchange = _text(row, "exchange")
    if len(exchange) > LONGEST_EXCHANGE:
        raise ValueError(f"exchange: at most {LONGEST_EXCHANGE} characters allowed, was {len(exchange)}")
    from_us, to_us = _instant(row, "valid_from", EARLIEST_US), _instant(row, "valid_to", LATEST_US + 1)
    if from_us >= to_us:
        raise ValueError("valid_to: later than valid_from required")
    spelling = framed(words)
    return Alias(spelling, symbol, exchange, from_us, to_us, _context(row, spelling.lower()), _relevance(row))


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name}: text required, was {value!r:.200}")
    return (value or "").strip()


def _instant(row: Mapping[str, Any], name: str, otherwise: int) -> int:
    value = row.get(name)
    text = value.isoformat() if isinstance(value, date) else _text(row, name)
    if not text:
        return otherwise
    # Tables of securities write 1900-01-01 and 9999-12-31 for no limit.
    if (found := _DATE.fullmatch(text)) and not 1973 < int(found[1]) < 2100:
        return EARLIEST_US if int(found[1]) <= 1973 else LATEST_US + 1
    try:
        return feed_us(text, "iso-utc")
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _context(row: Mapping[str, Any], spelling: str) -> tuple[str, ...]:
    given = row.get("context")
    parts = [str(part) for part in given] if isinstance(given, list) else _SEPARATORS.split(_text(row, "context"))
    found = {framed(split(part)).lower() for part in parts} - {""}
    if within := sorted(word.strip() for word in found if word in spelling):
        raise ValueError(f"context: {within[0]!r} is a word of the alias itself, which says nothing")
    return tuple(sorted(found))


def _relevance(row: Mapping[str, Any]) -> float:
    given = row.get("relevance")
    if given is None or given == "":
        return 1.0
    try:
        number = float(given)
    except (TypeError, ValueError):
        number = -1.0
    if not (isfinite(number) and 0.0 <= number <= 1.0) or isinstance(given, bool):
        raise ValueError(f"relevance: a number from 0 to 1 required, was {given!r:.200}")
    return round(number, 6)
