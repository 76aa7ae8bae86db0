"""The bench of replays compares like with like: every row the same items, and all of them counted."""

import json
from argparse import Namespace
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from earlybird.schemas.raw import Action
from earlybird.stream.archive.writer import Archiver
from earlybird.stream.bench import replay_command as bench_replay
from earlybird.stream.bench.recompute import measure
from earlybird.stream.bench.replay_command import TOPIC, archived_items, invented_items, rates
from earlybird.stream.bench.report import Whole
from earlybird.stream.bench.workers import BenchTarget
from earlybird.stream.config.client_options import KafkaEndpoint
from earlybird.stream.ports import Record
from earlybird.stream.timeline.availability import StampedRecord

pytest.importorskip("pyarrow")


def archive(folder: Path, items: list[StampedRecord]) -> None:
    with Archiver(folder, []) as archiver:
        for stamped in items:
            archiver.add(stamped)


def test_a_measured_recomputation_counts_every_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals, a retraction and a rejection; the clock starts behind the model, at the first record."""
    monkeypatch.setenv("EARLYBIRD_TOPICS__RAW", json.dumps([{"name": TOPIC}]))
    items = invented_items(20)
    gone = json.loads(items[0].record.value or b"") | {"action": Action.DELETE, "headline": None, "text": None}
    garbage, deletion = (replace(items[0].record, offset=20 + n, value=v) for n, v in enumerate((b"\xff", gone)))
    deletion = replace(deletion, value=json.dumps(gone).encode())
    garbage = replace(garbage, key=None)  # with the key of an item it would be a retraction, too
    archive(tmp_path, [*items, StampedRecord(garbage, True), StampedRecord(deletion, True)])
    found = measure(tmp_path)
    assert found.texts == 22 and found.wall_s > 0 and found.cpu_s > 0


def test_rows_get_what_all_can_read_in_order_of_availability(tmp_path: Path) -> None:
    """Deletes, arrays and garbage stay out; offsets are made anew, so that nobody misses one."""
    at_us = 1_770_000_000_000_000

    def raw(partition: int, offset: int, value: object) -> StampedRecord:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        return StampedRecord(
            Record("news.raw", partition, offset, b"k", content, at_us + 10 * offset + partition), True
        )

    item = {"item_key": "wire:1", "headline": "Acme wins", "ingested_us": at_us}
    values = [item, b"\xff", [item], item | {"headline": None}, {"item_key": "x:2", "text": "up", "ingested_us": at_us}]
    archive(tmp_path, [raw(partition, offset, value) for partition in range(2) for offset, value in enumerate(values)])
    found = [each.record for each in archived_items(tmp_path, ["news.raw"])]
    assert [(r.topic, r.partition, r.offset, r.timestamp_us) for r in found] == [
        (TOPIC, 0, n, at_us + more) for n, more in enumerate((0, 1, 40, 41))
    ]


def test_rates_are_medians_over_the_rounds() -> None:
    """One round that was disturbed moves the extremes, not the figure."""
    runs = [Whole("ours", 1, 100, wall_s, 1.0) for wall_s in (1.0, 2.0, 10.0)] + [Whole("theirs", 1, 10, 1.0, 1.0)]
    table = rates(runs)
    cells = [list(column.cells) for column in table.columns]
    assert cells[2:5] == [["50", "10"], ["10", "10"], ["100", "10"]] and cells[-1] == ["1.00", "5.00"]


def test_a_missing_peer_is_named_with_its_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it is to be typed: what stands in brackets is no markup."""
    monkeypatch.setattr(bench_replay, "find_spec", lambda _: None)
    monkeypatch.setattr(
        bench_replay, "open_target", lambda _: nullcontext(BenchTarget(KafkaEndpoint(""), "raw", 1, "signals"))
    )
    monkeypatch.setattr(bench_replay, "publish", lambda *_: None)
    bench_replay.run(Namespace(archive=None, texts=1, peer_texts=1, rounds=0, bootstrap=None, json=False))
    said = " ".join(capsys.readouterr().out.split())
    assert "install the extra, in a checkout pip install -e '.[engine]'" in said
