"""CSV and Parquet files as lines: the header names the fields, and no row takes another one's place."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from earlybird.schemas.raw import RAW, RawNews
from earlybird.stream.errors import FeedError
from earlybird.stream.publishing.field_map import FLAT, FieldMap
from earlybird.stream.publishing.files import FeedFile, merged
from earlybird.stream.publishing.line_format import BadLine, FeedItem, Line, LineFormat

T0 = 1_700_000_000_000_000
HEADER = "id,kind,source,text,published_at,symbols\n"


def read(path: Path, *more: str) -> list[Line]:
    return list(merged([FeedFile(path)], LineFormat(FieldMap([*FLAT, *more]), assume_delay_us=0)))


def row(number: int, text: str = "Norvex opens plant") -> str:
    return f"{number},news,wire,{text},2023-11-14T22:13:20Z,NRVX;brk-b\n"


def write(path: Path, text: str) -> Path:
    content = text.encode("utf-8-sig")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def news(line: Line) -> RawNews:
    assert isinstance(line, FeedItem), line
    item = RAW.validate_json(line.value)
    assert isinstance(item, RawNews)
    return item


@pytest.mark.parametrize("name", ["f.csv", "f.csv.gz"])
def test_a_table_is_as_good_as_json(tmp_path: Path, name: str) -> None:
    """Whatever mark stands before it and however it is packed; ids stay texts, empty fields are absent."""
    found = read(write(tmp_path / name, HEADER + row(1) + '2,news,wire,"One, ""two""\nthree",2023-11-14T22:13:20Z,\n'))
    assert [news(line).headline for line in found] == ["Norvex opens plant", 'One, "two"\nthree']
    assert [symbol.symbol for symbol in news(found[0]).symbols] == ["NRVX", "BRK.B"] and not news(found[1]).symbols
    assert [line.place.rpartition(":")[2] for line in found] == ["2", "3"]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_the_header_shows_what_separates(tmp_path: Path, separator: str) -> None:
    """As spreadsheets of some countries write it."""
    text = (HEADER + row(1).replace(";", " ")).replace(",", separator)
    assert news(read(write(tmp_path / "f.csv", text))[0]).source_item_id == "1"


def test_a_row_of_another_length_costs_itself_alone(tmp_path: Path) -> None:
    """Its fields may have shifted: a text in the place of a source is worse than none."""
    text = HEADER + row(1) + "2,news,wire,cut\n" + "3,news,a,b,c,d,e\n\n" + row(5)
    found = read(write(tmp_path / "f.csv", text))
    assert [line.place.rpartition(":")[2] for line in found] == ["2", "3", "4", "6"]
    assert [getattr(line, "why", "") for line in found] == [
        "", "6 fields as in the header expected, was 4", "6 fields as in the header expected, was 7", "",
    ]  # fmt: skip


def test_a_field_without_an_end_is_bounded(tmp_path: Path) -> None:
    """A quote that is never closed does not take the whole file into memory, nor the rest of it."""
    text = HEADER + row(1) + '2,news,wire,"' + "y" * 17_000_000 + "\n" + row(3)
    found = read(write(tmp_path / "f.csv", text))
    assert [isinstance(line, FeedItem) for line in found] == [True, False, True]
    assert getattr(found[1], "why", "").startswith("no CSV: field larger than field limit")


def test_bytes_that_are_no_text_cost_their_row(tmp_path: Path) -> None:
    """The others are published."""
    (tmp_path / "f.csv").write_bytes((HEADER + row(1) + row(2)).encode() + row(3).encode().replace(b"opens", b"\xff"))
    assert [isinstance(line, FeedItem) for line in read(tmp_path / "f.csv")] == [True, True, False]


def test_a_table_without_rows_is_empty(tmp_path: Path) -> None:
    """With a header or without."""
    assert not read(write(tmp_path / "a.csv", "")) and not read(write(tmp_path / "b.csv", HEADER))


def test_parquet_rows_keep_their_types(tmp_path: Path) -> None:
    """Times of any resolution with their zone, lists, nulls and NaN, which is how pandas writes that there is none."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    at = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    for unit in ("s", "ms", "us", "ns"):
        table = pa.table(
            {
                "id": [1, 2], "kind": ["news"] * 2, "source": ["wire"] * 2, "text": ["Norvex opens plant", None],
                "published_at": pa.array([at, at], pa.timestamp(unit, "UTC")), "symbols": [["NRVX", "brk-b"], None],
                "mood": [0.5, float("nan")],
            }
        )  # fmt: skip
        pq.write_table(table, tmp_path / "f.parquet")
        first, second = read(tmp_path / "f.parquet", "vendor_sentiment=mood")
        item = news(first)
        assert (item.published_us, item.source_item_id, item.vendor_sentiment) == (T0, "1", 0.5)
        assert [symbol.symbol for symbol in item.symbols] == ["NRVX", "BRK.B"]
        assert second == BadLine(f"{tmp_path}/f.parquet:2", "no text: nothing in headline, summary, body", T0)


def test_a_time_of_parquet_without_a_zone_is_not_taken_for_utc(tmp_path: Path) -> None:
    """As in every other file: the map has to say so."""
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"at": pa.array([datetime(2023, 11, 14, 22, 13, 20)], pa.timestamp("ns")), "t": ["Norvex"]})
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "f.parquet")
    specs = ["headline=t", "source='w'", "published_us=at:iso"]
    for spec, fits in (("published_us=at:iso", False), ("published_us=at:iso-utc", True)):
        form = LineFormat(FieldMap([*specs, spec]), assume_delay_us=0)
        assert isinstance(next(merged([FeedFile(tmp_path / "f.parquet")], form)), FeedItem) is fits


def test_a_damaged_parquet_file_is_one_sentence(tmp_path: Path) -> None:
    """With its name."""
    pytest.importorskip("pyarrow")
    (tmp_path / "f.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(FeedError, match=r"f\.parquet: no Parquet: "):
        read(tmp_path / "f.parquet")
