"""Topics as Parquet: exactly once over restarts, in order of availability, readable by others."""

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archived_signals import read_signals
from earlybird.schemas.codec import decode, encode
from earlybird.schemas.signal import Signal
from earlybird.stream.adapters import parquet
from earlybird.stream.archive.layout import files_of, topics_in
from earlybird.stream.archive.reader import ArchiveHistory, read_raw
from earlybird.stream.archive.writer import Archiver, archive_on, starts
from earlybird.stream.errors import SettingsError, SourceError
from earlybird.stream.ports import Partition, Record
from earlybird.stream.timeline.availability import StampedRecord, date_signal
from earlybird.stream.timeline.merge import Span, Window
from project import ROOT

pq = pytest.importorskip("pyarrow.parquet")

BEGIN_US = 1_714_521_600_000_000  # 2024-05-01 00:00 UTC
HOUR_US = 3_600_000_000


def raw(offset: int, at_us: int, partition: int = 0) -> StampedRecord:
    value = b'{"ingested_us": %d, "n": %d}' % (at_us, offset)
    return StampedRecord(Record("news.raw", partition, offset, b"k", value, at_us, (("traceparent", b"x"),)), False)


def a_signal(offset: int, at_us: int, partition: int = 0, **changes: Any) -> StampedRecord:
    fields: dict[str, Any] = {
        "signal_id": f"{partition}-{offset}",
        "item_key": f"wire:{offset}",
        "revision": 0,
        "action": "new",
        "source": "wire",
        "item_type": "news",
        "symbols": [{"symbol": "ACME", "origin": "provider"}],
        "label": "positive",
        "probs": {"negative": 0.1, "neutral": 0.2, "positive": 0.7},
        "score": 0.6,
        "confidence": 0.7,
        "calibrated": True,
        "exit": {"layer": 2, "max_layers": 12, "reason": "confidence", "puzzlement": 0.2},
        "input": {"n_tokens": 5, "truncated": False, "text_sha256": "t"},
        "novelty": {"cache_hit": False},
        "model": {
            "id": "m", "sha256": "s", "profile": "p", "policy": "full", "config_hash": "c", "numerics": "n",
            "dtype": "float32", "device": "cpu", "code_version": "1",
        },
        "digest": f"d{offset}",
        "raw": {"topic": "news.raw", "partition": partition, "offset": offset, "index": 0},
        "ts": {"ingested_us": at_us, "consumed_us": at_us + 1000, "emitted_us": at_us + 2000},
    } | changes  # fmt: skip
    value = encode(Signal.model_validate(fields, strict=False))
    return StampedRecord(Record("signals", partition, offset, fields["item_key"].encode(), value, at_us, ()), True)


def archive(root: Path, records: list[StampedRecord], **compaction: Any) -> None:
    with Archiver(root, ["signals"], least_rows=2) as archiver:
        for stamped in records:
            archiver.add(stamped)
        if compaction:
            archiver.compact(**compaction)


def offsets(root: Path, topic: str) -> list[tuple[int, int]]:
    history = ArchiveHistory(root)
    spans = history.spans([topic], Window())
    return [(s.record.partition, s.record.offset) for rows in history.read(spans, Window()) for s in rows]


def test_what_was_archived_is_read_back_as_it_was(tmp_path: Path) -> None:
    """Key, value, headers, position and time: a replay needs them all."""
    records = [raw(offset, BEGIN_US + offset * 600_000_000, offset % 3) for offset in range(40)]
    archive(tmp_path, records)
    history = ArchiveHistory(tmp_path)
    read = [s for rows in history.read(history.spans(["news.raw"], Window()), Window()) for s in rows]
    assert sorted(read, key=lambda s: s.record.offset) == records


def test_readers_get_everything_in_order_of_availability(tmp_path: Path) -> None:
    """Over partitions, hours, days, files that were compacted, and records out of order in time."""
    shuffled = random.Random(7)
    times = [BEGIN_US + shuffled.randrange(50 * HOUR_US) for _ in range(200)]
    archive(tmp_path, [a_signal(offset, at, offset % 2) for offset, at in enumerate(times[:120])])
    archive(tmp_path, [a_signal(offset + 120, at, offset % 2) for offset, at in enumerate(times[120:])], day_rows=50)
    assert [at for _, at in read_signals(tmp_path)] == sorted(times)
    begin, end = BEGIN_US + 3 * HOUR_US + 17, BEGIN_US + 30 * HOUR_US
    inside = sorted(at for at in times if begin <= at < end)
    assert [at for _, at in read_signals(tmp_path, begin, end)] == inside


def test_compaction_changes_files_not_content(tmp_path: Path) -> None:
    """Fewer files, the same rows, and the same place to go on from."""
    records = [raw(offset, BEGIN_US + (offset * 7 % 30) * 600_000_000) for offset in range(60)]
    archive(tmp_path, records)
    before, many = list(read_raw(tmp_path, ["news.raw"])), len(files_of(tmp_path, ["news.raw"]))
    archive(tmp_path, [], day_rows=1_000)
    assert len(files_of(tmp_path, ["news.raw"])) == 1 < many
    assert list(read_raw(tmp_path, ["news.raw"])) == before
    assert offsets(tmp_path, "news.raw") == [(0, offset) for offset in range(60)]
    with Archiver(tmp_path, []) as archiver:
        assert archiver.next_offsets() == {Partition("news.raw", 0): 60}


def test_compaction_that_was_cut_short_doubles_nothing(tmp_path: Path) -> None:
    """The merged file is there and the others are, too: readers see one of each row, the next writer tidies."""
    archive(tmp_path, [raw(offset, BEGIN_US) for offset in range(10)])
    archive(tmp_path, [raw(offset, BEGIN_US) for offset in range(10, 20)])
    old = {file.path: file.path.read_bytes() for file in files_of(tmp_path, ["news.raw"])}
    archive(tmp_path, [], day_rows=1_000)
    for path, content in old.items():
        path.write_bytes(content)
    assert offsets(tmp_path, "news.raw") == [(0, offset) for offset in range(20)]
    archive(tmp_path, [])
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


def test_a_file_says_what_it_holds(tmp_path: Path) -> None:
    """An hour of one partition, zstd, sorted by availability; schema, models, offsets and a hash in its metadata."""
    times = [BEGIN_US + n for n in (5, 1, 3)]
    archive(tmp_path, [a_signal(offset, at_us) for offset, at_us in enumerate(times)])
    (file,) = files_of(tmp_path, ["signals"])
    about = parquet.metadata_of(file.path)
    assert file.path.relative_to(tmp_path).as_posix() == (
        "signals/date=2024-05-01/T00-p0-00000000000000000000-00000000000000000003.parquet"
    )
    assert [about[name] for name in ("schema", "models", "rows", "first_offset", "next_offset")] == [
        Signal.SCHEMA, "s:c:n", "3", "0", "3",
    ]  # fmt: skip
    rows = list(parquet.read_rows(file.path))
    assert [row["available_us"] for row in rows] == sorted(times)
    assert about["content_sha256"] == parquet.rows_sha256(rows)
    column = pq.ParquetFile(file.path).metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """Under its name there is never half of one: readers may come at any time, and writers may die."""
    path = tmp_path / "file.parquet"
    file = parquet.TableFile(path, "raw")
    for offset in range(parquet.ROW_GROUP + 1):  # so that a part of it is written
        file.add(parquet.record_row(raw(offset, BEGIN_US), BEGIN_US))
    assert not path.exists() and list(tmp_path.iterdir())
    file.close()
    assert [each.name for each in tmp_path.iterdir()] == ["file.parquet"]
    assert len(list(parquet.read_rows(path))) == parquet.ROW_GROUP + 1


def test_sparse_history_makes_few_files(tmp_path: Path) -> None:
    """A text an hour for ten days: a file a day."""
    with Archiver(tmp_path, []) as archiver:
        for offset in range(240):
            archiver.add(raw(offset, BEGIN_US + offset * HOUR_US))
    assert len(files_of(tmp_path, ["news.raw"])) == 10
    assert offsets(tmp_path, "news.raw") == [(0, offset) for offset in range(240)]


def test_an_hour_that_is_over_is_one_file(tmp_path: Path) -> None:
    """A live archive writes every few minutes; strategies should not have to open all of that."""
    with Archiver(tmp_path, []) as archiver:
        for offset in range(12):
            archiver.add(raw(offset, BEGIN_US + offset * 300_000_000))
            archiver.flush()
        assert len(files_of(tmp_path, ["news.raw"])) == 12
        archiver.add(raw(12, BEGIN_US + HOUR_US))
    assert [file.hour for file in files_of(tmp_path, ["news.raw"])] == [0, 1]
    assert offsets(tmp_path, "news.raw") == [(0, offset) for offset in range(13)]


def test_archiving_on_keeps_what_came_when_it_is_stopped(tmp_path: Path) -> None:
    """Until told to stop; then everything that was read is in files."""
    coming = [[raw(0, BEGIN_US), raw(1, BEGIN_US + 1)], [], [raw(2, BEGIN_US + 2)]]

    class Lines:
        def poll(self, timeout_ms: int) -> list[StampedRecord]:
            return coming.pop(0)

        def refresh(self) -> None: ...

    with Archiver(tmp_path, []) as archiver:
        archive_on(archiver, Lines(), 3600.0, lambda: not coming)
        assert offsets(tmp_path, "news.raw") == [(0, 0), (0, 1), (0, 2)]


def test_reading_needs_neither_torch_nor_kafka() -> None:
    """A strategy's machine has no model."""
    heavy = "{'torch', 'confluent_kafka', 'transformers'}"
    code = f"import sys, earlybird.stream.archive.reader; print({heavy} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert ran.stdout.strip() == "set()"


def test_one_writer_a_folder(tmp_path: Path) -> None:
    """Two would archive everything twice."""
    with Archiver(tmp_path, []), pytest.raises(SettingsError, match="another process"):
        Archiver(tmp_path, [])


def test_topic_made_anew_is_refused(tmp_path: Path) -> None:
    """Its offsets mean other records; and what the broker deleted before it was archived is not asked for."""
    place = Partition("news.raw", 0)
    assert starts({place: 50}, {place: Span(10, 90)}) == {place: Span(50, 90)}
    assert starts({place: 50}, {place: Span(70, 90)}) == {place: Span(70, 90)}
    with pytest.raises(SettingsError, match="made anew"):
        starts({place: 50}, {place: Span(0, 20)})


def test_record_that_is_no_signal_is_kept_and_left_out(tmp_path: Path) -> None:
    """An archive loses nothing; a strategy gets signals only."""
    garbage = StampedRecord(Record("signals", 0, 1, None, b"\xff", BEGIN_US + 1), True)
    archive(tmp_path, [a_signal(0, BEGIN_US), garbage, a_signal(2, BEGIN_US + 2)])
    assert [signal.digest for signal, _ in read_signals(tmp_path)] == ["d0", "d2"]
    assert offsets(tmp_path, "signals") == [(0, 0), (0, 1), (0, 2)]


def test_an_archived_signal_is_available_when_the_live_one_was(tmp_path: Path) -> None:
    """Not before its text's last edit, whatever the broker's clock said; and in that order."""
    edited_us = BEGIN_US + 2 * HOUR_US
    edited = a_signal(0, BEGIN_US, ts={"updated_us": edited_us, "ingested_us": BEGIN_US, "consumed_us": BEGIN_US,
                                       "emitted_us": BEGIN_US})  # fmt: skip
    archive(tmp_path, [edited, a_signal(1, BEGIN_US + 1), a_signal(2, BEGIN_US + 2)])
    known = [(signal.digest, at_us) for signal, at_us in read_signals(tmp_path)]
    assert known == [("d1", BEGIN_US + 1), ("d2", BEGIN_US + 2), ("d0", edited_us)]
    live = date_signal(edited.record, decode(Signal, edited.record.value or b""), "auto")
    assert live.at_us == edited_us


def test_folder_without_an_archive_says_so(tmp_path: Path) -> None:
    """Not an empty result."""
    with pytest.raises(SourceError, match="no archive"):
        list(read_signals(tmp_path / "nothing"))
    archive(tmp_path, [raw(0, BEGIN_US)])
    with pytest.raises(SourceError, match="one topic of signals"):
        list(read_signals(tmp_path))


@pytest.mark.parametrize("library", ["pandas", "polars", "duckdb"])
def test_others_read_the_files(tmp_path: Path, library: str) -> None:
    """Plain columns with plain types."""
    module = pytest.importorskip(library)
    archive(tmp_path, [a_signal(offset, BEGIN_US + offset * HOUR_US) for offset in range(30)])
    pattern = str(tmp_path / "signals" / "*" / "*.parquet")
    if library == "pandas":
        frame = module.read_parquet(tmp_path / "signals")
        found = (len(frame), frame["score"].sum(), frame["symbols"].iloc[0][0])
    elif library == "polars":
        frame = module.read_parquet(pattern)
        found = (frame.height, frame["score"].sum(), frame["symbols"][0][0])
    else:
        found = module.sql(f"select count(*), sum(score), any_value(symbols)[1] from '{pattern}'").fetchall()[0]
    assert found == (30, pytest.approx(18.0), "ACME")


WRITER = """
import sys
sys.path[:0] = {tests!r}
from pathlib import Path
from test_archive import BEGIN_US, raw
from earlybird.stream.archive.writer import Archiver
from earlybird.stream.ports import Partition
archiver = Archiver(Path({root!r}), [], least_rows=2)
offset = archiver.next_offsets().get(Partition("news.raw", 0), 0)
while True:
    archiver.add(raw(offset, BEGIN_US + offset * 100_000_000))
    offset += 1
    if offset % 17 == 0:
        archiver.flush()
    print(offset, flush=True)
"""


@pytest.mark.faults
def test_kill_9_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Killed again and again wherever it stands, the archive is the topic's beginning, each record once."""
    code = WRITER.format(tests=[str(Path(__file__).parent), str(ROOT / "tests" / "support")], root=str(tmp_path))
    rng = random.Random(3)
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdout is not None
        for _ in range(rng.randrange(20, 120)):
            assert process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        if topics_in(tmp_path):  # it may have died before its first file
            found = offsets(tmp_path, "news.raw")
            assert found == [(0, offset) for offset in range(len(found))]
    archive(tmp_path, [], day_rows=10_000)
    assert len(offsets(tmp_path, "news.raw")) > 100
    assert not list(tmp_path.rglob("*.part"))


def test_without_pyarrow_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a checkout: the project is on no index, so nobody knows what a name there would install."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SettingsError, match=r"install the extra, in a checkout pip install -e '\.\[archive\]'$"):
        parquet.arrow()


ODD: list[Record] = [
    Record("signals", 0, 0, None, None, 0),
    Record("signals", 0, 0, b"\xff\x00", b"{", -1),
    Record("signals", 0, 0, b"k", b"[" * 100_000, 2**62),
    Record("signals", 0, 0, b"k", b'{"schema_version":"2.0"}', None),
    Record(
        "signals", 0, 0, b"", b"", BEGIN_US, (("traceparent", b"\xc3\x28\xff"), ("", None), ("available-us", b"\xff"))
    ),
    Record("signals", 0, 0, b"k", a_signal(0, BEGIN_US).record.value, 2**63),
    Record("signals", 0, 0, b"k", a_signal(0, BEGIN_US).record.value, BEGIN_US, (("available-us", b"9" * 5_000),)),
    Record(
        "signals", 0, 0, b"k", a_signal(0, BEGIN_US, revision=2**63).record.value, BEGIN_US, (("h", b"x" * 900_000),)
    ),
    Record("signals", 0, 0, b"k", a_signal(0, BEGIN_US, revision=10**4000, source="a\0b").record.value, BEGIN_US),
    Record(
        "signals",
        0,
        0,
        b"k",
        a_signal(
            0, BEGIN_US, exit={"layer": 2**70, "max_layers": 2**71, "reason": "fixed", "puzzlement": 0.1}
        ).record.value,
        BEGIN_US,
    ),
]


def test_no_record_stops_an_archive(tmp_path: Path) -> None:
    """Numbers beyond 64 bits, times of any sender, broken contents, foreign headers: all is kept as it was, and what
    follows, too."""
    records: list[StampedRecord] = []
    for odd in ODD:
        for topic in ("signals", "news.raw"):
            offset = sum(stamped.record.topic == topic for stamped in records)
            records.append(StampedRecord(replace(odd, topic=topic, offset=offset), False))
        offset = sum(stamped.record.topic == "signals" for stamped in records)
        records.append(a_signal(offset, BEGIN_US + offset))
    archive(tmp_path, records, day_rows=1_000)
    history = ArchiveHistory(tmp_path)
    spans = history.spans(["signals", "news.raw"], Window())
    read = [stamped for rows in history.read(spans, Window()) for stamped in rows]

    def as_stored(stamped: StampedRecord) -> StampedRecord:
        at_us = stamped.record.timestamp_us
        fits = at_us is not None and abs(at_us) < 2**63
        return StampedRecord(replace(stamped.record, timestamp_us=at_us if fits else None), stamped.appended)

    expected = sorted(map(as_stored, records), key=lambda each: (each.record.topic, each.record.offset))
    assert sorted(read, key=lambda each: (each.record.topic, each.record.offset)) == expected
    signals = [signal for signal, _ in read_signals(tmp_path)]
    assert len(signals) == len(ODD) + 5 and max(signal.revision for signal in signals) == 10**4000
    columns = pq.read_table(next((tmp_path / "signals").rglob("*2024-05-01/*.parquet"))).to_pylist()
    assert [row["offset"] for row in columns if row["signal_id"] and row["revision"] is None] == [14, 16]
    assert [row["offset"] for row in columns if row["signal_id"] and row["exit_layer"] is None] == [18]


def test_enormous_headers_fill_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run ends by its bytes, wherever a record has them."""
    monkeypatch.setattr("earlybird.stream.archive.writer.MOST_BYTES", 1_000_000)
    with Archiver(tmp_path, []) as archiver:
        for offset in range(3):
            stamped = raw(offset, BEGIN_US)
            archiver.add(StampedRecord(replace(stamped.record, headers=(("h", b"x" * 600_000),)), False))
        assert archiver.archived == 2


def test_an_archive_of_the_first_version_is_read(tmp_path: Path) -> None:
    """Its columns are as they were; six of signals were added since."""
    archive(tmp_path, [a_signal(0, BEGIN_US), raw(0, BEGIN_US)])
    kinds = {path.parts[-3]: pq.read_schema(path) for path in tmp_path.rglob("*.parquet")}
    assert {str(field.type) for field in kinds["signals"] if field.name.endswith("_us")} == {"int64"}
    assert kinds["signals"].names == [
        "available_us", "signal_id", "item_key", "revision", "action", "source", "item_type", "symbols", "label",
        "p_negative", "p_neutral", "p_positive", "score", "confidence", "exit_layer", "exit_reason", "cache_hit",
        "model_sha256", "config_hash", "numerics", "digest", "run_id", "published_us", "updated_us", "ingested_us",
        "emitted_us", "dup_of", "model_id", "dup_count", "relevance", "headline", "url", "topic", "partition", "offset",
        "timestamp_us", "appended", "key", "value", "headers",
    ]  # fmt: skip
    assert kinds["news.raw"].names == ["available_us", *kinds["signals"].names[-8:]]


def test_a_disk_that_takes_no_more_is_one_sentence(ground: Any, tmp_path: Path) -> None:
    """Status 2 and no traceback; what was archived before stays, and the next start goes on."""
    ground.publish(50)
    settings = {
        "EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS": ground.bootstrap_servers,
        "COVERAGE_PROCESS_CONFIG": "",  # a traced process would meet the limit with its own file
    }
    code = (
        "import resource, sys; from earlybird.stream.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); sys.exit(main(sys.argv[2:]))"
    )

    def archive(largest: int) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", code, str(largest), "archive", str(tmp_path / "archive"), "--once"]
        return subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, cwd=ROOT, timeout=300)

    full, later = archive(100), archive(1 << 30)
    assert (full.returncode, full.stderr.count("\n")) == (2, 1), full.stderr
    assert "File too large" in full.stderr
    assert (later.returncode, later.stdout.split()[0]) == (0, "50"), later.stderr


def test_a_topic_made_anew_is_not_archived_behind_the_former_one(tmp_path: Path) -> None:
    """It has more records than were archived: those below would be skipped, and nobody would hear of it."""
    ids = {"news.raw": "A" * 21 + "B"}
    for hour in range(3):
        with Archiver(tmp_path, ["signals"], topic_ids=ids) as archiver:
            archiver.add(raw(hour, BEGIN_US + hour * HOUR_US))
    with Archiver(tmp_path, ["signals"]) as archiver:
        assert archiver.compact() == 2
    with Archiver(tmp_path, ["signals"], topic_ids=ids) as archiver:
        assert archiver.next_offsets() == {Partition("news.raw", 0): 3}
    with (
        Archiver(tmp_path, ["signals"], topic_ids={"news.raw": "A" * 21 + "C"}) as archiver,
        pytest.raises(SettingsError, match="made anew"),
    ):
        archiver.next_offsets()


def test_a_folder_that_is_no_day_is_not_ours(tmp_path: Path) -> None:
    """Another tool's partition, with a file that looks like one of ours."""
    archive(tmp_path, [a_signal(0, BEGIN_US)])
    (file,) = files_of(tmp_path, ["signals"])
    foreign = tmp_path / "signals" / "date=2024-13-99"
    foreign.mkdir()
    (foreign / file.path.name).write_bytes(file.path.read_bytes())
    assert len(list(read_signals(tmp_path))) == 1
    with Archiver(tmp_path, ["signals"]) as archiver:
        assert archiver.next_offsets() == {Partition("signals", 0): 1}
