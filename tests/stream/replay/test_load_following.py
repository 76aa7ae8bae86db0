"""What the load chose is in the record, and a recomputation takes it from there."""

import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from archived_signals import read_signals
from earlybird.schemas.signal import Signal
from earlybird.stream import service
from earlybird.stream.adapters.clock import SystemClock
from earlybird.stream.adapters.memory import MemoryCache, MemorySink, MemorySource
from earlybird.stream.archive.reader import ArchiveHistory
from earlybird.stream.archive.writer import Archiver
from earlybird.stream.config import settings as settings_module
from earlybird.stream.config.settings import Settings
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.ports import Partition, Record
from earlybird.stream.replay.run import Options, plan_of, run_replay
from earlybird.stream.stage.stage import Stage
from earlybird.stream.timeline.availability import StampedRecord
from earlybird.stream.timeline.merge import Window

pytest.importorskip("pyarrow")

NOW_US = 1_770_000_000_000_000
SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
IDLE, BUSY = "cwb:delta=0.2,window=0", "fixed:1"
LADDER = f"load:idle=({IDLE}),busy=({BUSY}),at=4"
COUNT = 60


def using(policy: str = LADDER, **engine: Any) -> Settings:
    loaded = settings_module.load()
    update = {"threads": 1, "slots": 2, **engine}
    return loaded.model_copy(update={"policy": policy, "engine": loaded.engine.model_copy(update=update)})


def raw(offset: int) -> StampedRecord:
    """A news item; the second half repeats the texts of the first, days later, when the cache has forgotten them."""
    at_us = NOW_US + offset * SECOND_US + (3 * DAY_US if offset >= COUNT // 2 else 0)
    number = offset % (COUNT // 2)
    item = {
        "item_key": f"wire:{offset}",
        "source": "wire",
        "source_item_id": str(offset),
        "item_type": "news",
        "ingested_us": at_us,
        "headline": f"Acme wins order {number} worth {number * 7 % 90} million"
        if number % 3
        else f"Mixed day {number}",
    }
    return StampedRecord(Record("news.raw", 0, offset, b"k", json.dumps(item).encode(), at_us), False)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw texts and what a live stage made of them: all at once, so that they queue for its two slots."""
    records, settings = [raw(offset) for offset in range(COUNT)], using()
    engine = service.load_engine(settings)
    source, sink = MemorySource(bounded=True), MemorySink()
    source.append([stamped.record for stamped in records])
    source.assign([Partition("news.raw", 0)])
    origin, metrics = service.origin_of(engine, settings), Metrics(engine.max_layers, engine.rungs)
    Stage(settings, engine, origin, source, sink, MemoryCache(DAY_US), SystemClock(), metrics).run(threading.Event())
    folder = tmp_path_factory.mktemp("archive")
    with Archiver(folder, ["signals"]) as archiver:
        for stamped in records:
            archiver.add(stamped)
        said = [sent for sent in sink.sent if sent.topic == "signals"]
        for offset, sent in enumerate(said):
            record = Record("signals", 0, offset, sent.key, sent.value, NOW_US + 4 * DAY_US + offset)
            archiver.add(StampedRecord(record, True))
    counted = metrics.exposition().decode()
    for policy, texts in Counter(_policy(Signal.model_validate_json(sent.value or b"")) for sent in said).items():
        assert f'earlybird_load_policy_texts_total{{policy="{policy}"}} {float(texts)}' in counted
    return folder


def replay(folder: Path, output: Path, settings: Settings, **options: Any) -> dict[str, Any]:
    wanted = Options(output, mode="recompute", archive=folder, run_id="again", **options)
    history = ArchiveHistory(folder)
    return run_replay(settings, wanted, history, plan_of(settings, wanted, history))


def recorded(folder: Path) -> dict[int, Signal]:
    rows = ArchiveHistory(folder)
    spans = rows.spans(["signals"], Window())
    (signals,) = rows.read(spans, Window())
    found = [Signal.model_validate_json(stamped.record.value or b"") for stamped in signals]
    return {signal.raw.offset: signal for signal in found}


def _policy(signal: Signal) -> str | None:
    return signal.exit.policy if signal.exit else None


@pytest.mark.parametrize("different", [{}, {"slots": 7}, {"runner": "reference"}, {"runner": "resident"}])
def test_the_recorded_choice_gives_the_same_signals(archive: Path, tmp_path: Path, different: dict[str, Any]) -> None:
    """On any layout: equal digests, and each text under the policy that it had; twice the same text under two."""
    live = recorded(archive)
    chosen = {offset: _policy(signal) for offset, signal in live.items()}
    assert set(chosen.values()) == {IDLE, BUSY}, "this test says nothing when the load chose one policy for all"
    assert any(chosen[offset] != chosen[offset + COUNT // 2] for offset in range(COUNT // 2))
    assert all(signal.exit and signal.exit.layer == 1 for signal in live.values() if _policy(signal) == BUSY)
    found = replay(archive, tmp_path, using(**different), compare=True)
    if different.get("runner") != "resident":  # its arithmetic is another
        assert found["comparison"]["expected"] == "equal digests"
        assert found["comparison"]["equal_digests"] == COUNT
    assert found["comparison"]["holds"] and found["recorded_busy"] == list(chosen.values()).count(BUSY)
    again = {signal.raw.offset: signal for signal, _ in read_signals(tmp_path)}
    assert {offset: _policy(signal) for offset, signal in again.items()} == chosen
    assert {signal.model.policy for signal in again.values()} == {LADDER}


def test_without_a_record_every_text_takes_the_first_policy(archive: Path, tmp_path: Path) -> None:
    """A backtest of raw texts has no queue; neither has one by a policy that the record does not name."""
    other = f"load:idle=({IDLE}),busy=(fixed:2),at=4"
    replay(archive, tmp_path, using(other))
    assert {_policy(signal) for signal, _ in read_signals(tmp_path)} == {IDLE}


def test_a_plain_policy_ignores_what_the_load_had_chosen(archive: Path, tmp_path: Path) -> None:
    """And names no policy beside that of the model."""
    found = replay(archive, tmp_path, using(IDLE))
    assert found["recorded_busy"] == 0
    assert {(_policy(s), s.model.policy) for s, _ in read_signals(tmp_path)} == {(None, IDLE)}
