"""A table of symbols in the stage and in its replays: what it links is in every outcome, and in the provenance."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from archived_signals import read_signals
from earlybird.schemas.signal import Signal
from earlybird.stream import service
from earlybird.stream.adapters.clock import SystemClock
from earlybird.stream.adapters.memory import MemoryCache, MemorySink, MemorySource
from earlybird.stream.archive.reader import ArchiveHistory
from earlybird.stream.archive.writer import Archiver
from earlybird.stream.config import settings as settings_module
from earlybird.stream.config.settings import Settings
from earlybird.stream.config.symbols import Symbols
from earlybird.stream.errors import SettingsError
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.ports import Outgoing, Partition, Record
from earlybird.stream.replay.run import Options, plan_of, run_replay
from earlybird.stream.stage.stage import Stage
from earlybird.stream.startup_check import check
from earlybird.stream.subscription.selection import SignalFilter
from earlybird.stream.subscription.signal_headers import SignalHeaders
from earlybird.stream.timeline.availability import StampedRecord

pytest.importorskip("pyarrow")

NOW_US = 1_770_000_000_000_000
DAY_US = 86_400_000_000
ROWS = "alias,symbol,valid_from,valid_to\nNorvex,OLD,,2026-01-01\nNorvex,NRVX,2026-01-01,\nHaligon,HLGN,,\n"
ITEMS: list[dict[str, Any]] = [
    {"id": "1", "headline": "Norvex wins a large order"},
    {"id": "2", "headline": "Norvex wins a large order", "published_us": NOW_US - 60 * DAY_US},
    {"id": "3", "headline": "Norvex wins a large order", "symbols": [{"symbol": "ACME", "origin": "provider"}]},
    {"id": "4", "headline": "Rain is expected"},
    {"id": "1", "headline": "Haligon, not Norvex, wins an order", "action": "update", "revision": 2},
    {"id": "5", "headline": "Norvex gewinnt einen Auftrag", "lang": "de"},
    {"id": "1", "headline": None, "action": "delete", "revision": 3},
    {"id": "2", "headline": "Norvex wins a small order", "action": "update", "revision": 2,
     "published_us": NOW_US - 60 * DAY_US},
]  # fmt: skip


def record(offset: int, item: dict[str, Any]) -> StampedRecord:
    fields = {
        "item_key": f"wire:{item['id']}", "source": "wire", "source_item_id": item["id"], "item_type": "news",
        "ingested_us": NOW_US + offset, **{name: value for name, value in item.items() if name != "id"},
    }  # fmt: skip
    value = json.dumps(fields).encode()
    return StampedRecord(Record("news.raw", 0, offset, fields["item_key"].encode(), value, NOW_US + offset), False)


def using(table: Path | None, **engine: Any) -> Settings:
    loaded = settings_module.load()
    update = {"threads": 1, **engine}
    return loaded.model_copy(
        update={"symbols": Symbols(table=table), "engine": loaded.engine.model_copy(update=update)}
    )


def live(settings: Settings, records: list[StampedRecord]) -> list[Outgoing]:
    """What a stage publishes on signals."""
    engine = service.load_engine(settings)
    source, sink = MemorySource(bounded=True), MemorySink()
    source.append([stamped.record for stamped in records])
    source.assign([Partition("news.raw", 0)])
    origin, metrics = service.origin_of(engine, settings), Metrics(engine.max_layers)
    with capture_logs() as logs:
        stage = Stage(settings, engine, origin, source, sink, MemoryCache(DAY_US), SystemClock(), metrics)
        stage.run(threading.Event())
    loaded = [entry for entry in logs if entry["event"] == "symbols.loaded"]
    assert len(loaded) == (settings.symbols.table is not None)
    if loaded:
        assert (loaded[0]["aliases"], loaded[0]["undated"]) == (3, 2)
        assert "earlybird_texts_linked_total 5.0" in metrics.exposition().decode()
    return [sent for sent in sink.sent if sent.topic == "signals"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "symbols.csv"
    path.write_text(ROWS)
    return path


@pytest.fixture(scope="module")
def published(table: Path) -> list[Outgoing]:
    return live(using(table), [record(offset, item) for offset, item in enumerate(ITEMS)])


@pytest.fixture(scope="module")
def archive(published: list[Outgoing], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    with Archiver(folder, ["signals"]) as archiver:
        for offset, item in enumerate(ITEMS):
            archiver.add(record(offset, item))
        for offset, sent in enumerate(published):
            kept = Record("signals", 0, offset, sent.key, sent.value, NOW_US + DAY_US + offset)
            archiver.add(StampedRecord(kept, True))
    return folder


def signals_of(published: list[Outgoing]) -> dict[int, Signal]:
    found = [Signal.model_validate_json(sent.value or b"") for sent in published]
    return {signal.raw.offset: signal for signal in found}


def test_every_outcome_of_an_item_is_linked(table: Path, published: list[Outgoing]) -> None:
    """As of the item's time, also corrections and refused versions; headers say it as well as the body."""
    signals = signals_of(published)
    linked = {offset: [(s.symbol, s.origin) for s in signal.symbols] for offset, signal in signals.items()}
    assert linked == {
        0: [("NRVX", "linked")],
        1: [("OLD", "linked")],
        2: [("ACME", "provider")],
        3: [],
        4: [("HLGN", "linked"), ("NRVX", "linked")],
        5: [("NRVX", "linked")],
        6: [],
        7: [("OLD", "linked")],
    }
    assert [signals[offset].action for offset in (0, 4, 5, 6)] == ["new", "correct", "retract", "retract"]
    assert signals[0].primary_symbol == "NRVX" and signals[0].symbols[0].relevance == 1.0
    headers = {signal.raw.offset: dict(sent.headers) for signal, sent in zip(signals.values(), published, strict=True)}
    assert {offset: each["symbols"] for offset, each in headers.items()} == {
        offset: ",".join(symbol for symbol, _ in symbols).encode() for offset, symbols in linked.items()
    }
    hashes = {signal.symbol_table for signal in signals.values()}
    assert len(hashes) == 1 and None not in hashes


def test_a_strategy_that_filters_by_a_linked_symbol_sees_all_of_its_items(published: list[Outgoing]) -> None:
    """The correction that names another company, and the delete, which names none, take back what was linked."""
    wanted = SignalFilter.of(symbols=["NRVX"])
    passed = []
    for offset, sent in enumerate(published):
        record = Record("signals", 0, offset, sent.key, sent.value, NOW_US, sent.headers)
        if wanted.admits(SignalHeaders.of_record(record)):
            passed.append(Signal.model_validate_json(sent.value or b"").raw.offset)
    assert sorted(passed) == [0, 4, 5, 6]


def test_the_result_is_that_of_a_stage_without_a_table(published: list[Outgoing]) -> None:
    """Same ids, labels and probabilities: the model reads the same text, and the cache's answers hold for both."""
    plain = signals_of(live(using(None), [record(offset, item) for offset, item in enumerate(ITEMS)]))
    for offset, signal in signals_of(published).items():
        other = plain[offset]
        assert (signal.signal_id, signal.probs, signal.exit) == (other.signal_id, other.probs, other.exit)
        assert (signal.digest == other.digest) == (signal.symbols == other.symbols) and other.symbol_table is None
    assert any(signal.digest != plain[offset].digest for offset, signal in signals_of(published).items())


def replay(folder: Path, output: Path, settings: Settings) -> dict[str, Any]:
    wanted = Options(output, mode="recompute", archive=folder, run_id="again", compare=True)
    history = ArchiveHistory(folder)
    return run_replay(settings, wanted, history, plan_of(settings, wanted, history))


@pytest.mark.parametrize("different", [{}, {"runner": "reference"}])
def test_a_replay_with_the_same_table_gives_the_same_digests(
    table: Path, archive: Path, tmp_path: Path, different: dict[str, Any]
) -> None:
    """Also where it lies in another file, in another order."""
    head, *rows = ROWS.splitlines()
    moved = tmp_path / "moved.tsv"
    moved.write_text("\n".join([head, *reversed(rows)]).replace(",", "\t"))
    found = replay(archive, tmp_path / "again", using(moved, **different))
    assert found["comparison"]["expected"] == "equal digests" and found["comparison"]["holds"]
    assert found["comparison"]["equal_digests"] == len(ITEMS)
    tables = {signal.symbol_table for signal, _ in read_signals(tmp_path / "again")}
    assert found["symbol_tables"] == sorted(filter(None, tables)) and len(tables) == 1


@pytest.mark.parametrize("rows", [None, ROWS.replace("HLGN", "HLGX")])
def test_a_replay_with_another_table_says_so(archive: Path, tmp_path: Path, rows: str | None) -> None:
    """As of another model: no digest is expected to be equal."""
    other = None
    if rows is not None:
        other = tmp_path / "other.csv"
        other.write_text(rows)
    comparison = replay(archive, tmp_path / "again", using(other))["comparison"]
    assert (comparison["expected"], comparison["why"]) == ("nothing", "another table of symbols made the record")
    assert comparison["differing"] and not comparison["label_flips"]


def test_the_start_and_the_check_refuse_a_faulty_table(tmp_path: Path) -> None:
    """Before a record is read; with the line."""
    path = tmp_path / "table.csv"
    path.write_text("alias,symbol\nNorvex,NRVX,x\n")
    fault = f"{path}:2: more values than columns"
    with pytest.raises(SettingsError, match="more values than columns"):
        live(using(path), [])
    with pytest.raises(SettingsError) as raised:
        check(using(path), model=False)
    assert fault in str(raised.value)
