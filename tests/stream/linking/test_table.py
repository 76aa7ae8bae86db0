"""A table of names: what its rows mean, and what is wrong with them, by line."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earlybird.schemas.base import EARLIEST_US, LATEST_US
from earlybird.stream.errors import SettingsError
from earlybird.stream.linking.linker import Linker
from earlybird.stream.linking.table import COLUMNS, Alias, SymbolTable

ROWS: list[dict[str, Any]] = [
    {"alias": "Norvex, Inc.", "symbol": "$nrvx", "exchange": "XNAS", "valid_from": "2020-01-02", "valid_to": "",
     "context": "", "relevance": "0.5"},
    {"alias": "Crown", "symbol": "brk-b", "exchange": "", "valid_from": "1900-01-01", "valid_to": "9999-12-31",
     "context": "shares; stock", "relevance": ""},
    {"alias": "Crown Prince", "symbol": "", "exchange": "", "valid_from": "", "valid_to": "2024-05-01T12:00:00+02:00",
     "context": "", "relevance": "1"},
]  # fmt: skip
FOREVER = LATEST_US + 1
ALIASES = (
    Alias(" Crown ", "BRK.B", "", EARLIEST_US, FOREVER, (" shares ", " stock "), 1.0),
    Alias(" Crown  Prince ", "", "", EARLIEST_US, 1_714_557_600_000_000, (), 1.0),
    Alias(" Norvex  Inc ", "NRVX", "XNAS", 1_577_923_200_000_000, FOREVER, (), 0.5),
)


def written(folder: Path, form: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"table.{form}"
    if form == "parquet":
        pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif form == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            table = csv.DictWriter(file, COLUMNS, delimiter="," if form == "csv" else "\t")
            table.writeheader()
            table.writerows(rows)
    return path


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
def test_a_row_means_the_same_in_every_form(tmp_path: Path, form: str) -> None:
    """Symbols are canonical, dates are instants, far years are no limits."""
    table = SymbolTable.read(written(tmp_path, form, ROWS))
    assert table.aliases == ALIASES
    assert table.hash == SymbolTable(ALIASES).hash
    assert table.undated == 1  # the name that is no instrument needs no date


def test_types_of_parquet_and_json_are_taken(tmp_path: Path) -> None:
    """Numbers, dates and lists, where they have them."""
    from datetime import UTC, date, datetime

    row = {"alias": "Crown", "symbol": "CRWN", "relevance": 0.25, "context": ["shares", "stock"]}
    times = {"valid_from": datetime(2020, 1, 2, tzinfo=UTC), "valid_to": date(2021, 1, 2)}
    (typed,) = SymbolTable.read(written(tmp_path, "parquet", [row | times])).aliases
    (plain,) = SymbolTable.read(
        written(tmp_path, "jsonl", [row | {"valid_from": "2020-01-02", "valid_to": "2021-01-02"}])
    ).aliases
    assert (
        typed
        == plain
        == Alias(" Crown ", "CRWN", "", 1_577_923_200_000_000, 1_609_545_600_000_000, (" shares ", " stock "), 0.25)
    )


@given(st.permutations([*ROWS, ROWS[0]]))
def test_the_order_of_rows_means_nothing(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    """Neither for the hash nor for the rows; a row that comes twice counts once."""
    assert SymbolTable.read(written(tmp_path_factory.mktemp("table"), "jsonl", rows)).aliases == ALIASES


def test_every_change_of_meaning_changes_the_hash(tmp_path: Path) -> None:
    """And so does the setting that says which texts are linked."""
    changes = [
        {"alias": "Norvex Corp"}, {"symbol": "NRVY"}, {"exchange": "XNYS"}, {"valid_from": "2020-01-03"},
        {"valid_to": "2025-01-01"}, {"context": "shares"}, {"relevance": "0.6"},
    ]  # fmt: skip
    tables = [SymbolTable.read(written(tmp_path, "csv", [ROWS[0] | change])) for change in ({}, *changes)]
    hashes = {Linker(table, every=every).hash for table in tables for every in (False, True)}
    assert len(hashes) == 2 * (len(changes) + 1)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"alias": ""}, "alias: 1 to 128 characters"),
        ({"alias": "?"}, "alias: 1 to 128 characters"),
        ({"alias": "x" * 129}, "alias: 1 to 128 characters"),
        ({"alias": "@norvex"}, "alias: letters or digits required at both ends"),
        ({"alias": "(Norvex)"}, "alias: letters or digits required at both ends"),
        ({"symbol": "A,B"}, "symbol: commas"),
        ({"exchange": "x" * 65}, "exchange: at most 64 characters allowed, was 65"),
        ({"valid_from": "yesterday"}, "valid_from: "),
        ({"valid_from": "2020-13-01"}, "valid_from: "),
        ({"valid_from": "2024-01-01", "valid_to": "2024-01-01"}, "valid_to: later than valid_from required"),
        ({"context": "norvex shares"}, "context: 'norvex' is a word of the alias itself"),
        ({"relevance": "1.5"}, "relevance: a number from 0 to 1 required, was '1.5'"),
        ({"relevance": "nan"}, "relevance: a number from 0 to 1 required"),
        ({"relevance": "high"}, "relevance: a number from 0 to 1 required, was 'high'"),
    ],
)
def test_a_faulty_row_is_named_by_its_line(tmp_path: Path, change: dict[str, str], fault: str) -> None:
    """With the column and what is wrong; the rows around it are not blamed."""
    path = written(tmp_path, "csv", [ROWS[1], ROWS[0] | change, ROWS[2]])
    with pytest.raises(SettingsError) as raised:
        SymbolTable.read(path)
    assert str(raised.value).startswith(f"{path}:3: {fault}") and "\n" not in str(raised.value)


def test_all_faulty_rows_are_named_but_not_thousands(tmp_path: Path) -> None:
    """The first twenty, and how many more."""
    path = written(tmp_path, "csv", [ROWS[0] | {"relevance": "2"}] * 50)
    with pytest.raises(SettingsError) as raised:
        SymbolTable.read(path)
    lines = str(raised.value).splitlines()
    assert len(lines) == 21 and lines[19].startswith(f"{path}:21: ") and lines[20] == f"{path}: and 30 more"


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.csv", b"alias,ticker\nx,y\n", "a.csv:1: no such column: ticker; known: alias, symbol,"),
        ("a.csv", b"alias,exchange\nx,y\n", "a.csv:1: column required: symbol"),
        ("a.csv", b"", "a.csv:1: column required: alias, symbol"),
        ("a.csv", b"alias,symbol\n", "a.csv: no rows"),
        ("a.csv", b"alias,symbol\nAcme, Inc,ACME\n", "a.csv:2: more values than columns"),
        ("a.csv", b'alias,symbol\n"Acme"x,ACME\n', "a.csv:2: "),
        ("a.csv", b"alias,symbol\n\xff,ACME\n", "a.csv: not UTF-8"),
        ("a.jsonl", b'{"alias": "Acme", "symbol": "ACME"}\n{"alias": "Acme"', "a.jsonl:2: no JSON"),
        ("a.jsonl", b"[1]\n", "a.jsonl:1: an object required, was list"),
        ("a.jsonl", b'{"alias": "Acme"}\n', "a.jsonl:1: column required: symbol"),
        ("a.jsonl", b'{"alias": 5, "symbol": "ACME"}\n', "a.jsonl:1: alias: text required, was 5"),
        ("a.txt", b"", "a.txt: a name ending in .csv, .tsv, .jsonl or .parquet required"),
        ("a.parquet", b"no parquet", "a.parquet: "),
        ("gone.csv", None, "gone.csv: No such file or directory"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str, content: bytes | None, fault: str) -> None:
    """Before a row of it is used."""
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingsError) as raised:
        SymbolTable.read(tmp_path / name)
    assert str(raised.value).startswith(f"{tmp_path / ''}/{fault}")
