"""What `bench engine` says beside its rows, and its options."""

import importlib
import json
from collections.abc import Iterator

import pytest
import torch

from earlybird.engine.bench import curve as curves
from earlybird.engine.bench import engine_command
from earlybird.engine.bench.idle import PAIRS, idle
from earlybird.engine.bench.measure import RunLength
from earlybird.engine.bench.memory import memory
from earlybird.engine.bench.paired_models import paired_models
from earlybird.engine.bench.profile import profile
from earlybird.engine.bench.registry import BUILDS, MORE, ROWS
from earlybird.engine.bench.row import Setting
from earlybird.engine.bench.threads import scaling
from earlybird.engine.bench.workload import BLOCK, GEOMETRIES, BenchText, forced_depths, texts, usual_lengths
from earlybird.engine.config import ModelConfig
from earlybird.stream import cli

SMALL = ModelConfig(97, 16, 32, 2, 64, 4, 40, "norm_then_project", "first", "gelu_new", 1e-12)
PACE = RunLength(rounds=1, seconds=0.0, longest_s=0.0, checked=BLOCK)


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Setting(SMALL, paired_models(SMALL), threads=1, slots=4, token_budget=100)


@pytest.fixture
def work() -> list[BenchText]:
    return texts(SMALL, usual_lengths(40), forced_depths(4, 0.5), 2)


def test_the_command_prints_one_json_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fields that others read; and the same report as tables."""
    monkeypatch.setitem(GEOMETRIES, "mini", SMALL)
    monkeypatch.setattr(engine_command, "QUICK", PACE)
    rows = ("hf_batch1", "packed_fp32", "packed_fp32_deterministic", "packed_int8")
    monkeypatch.setitem(ROWS, "cpu", rows)
    monkeypatch.setitem(MORE, "cpu", ("resident_fp32",))
    assert cli.main(["bench", "engine", "--all", "--quick", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    parts = {"machine", "limit", "rows", "idle", "deterministic", "threads", "memory"}
    assert set(report) >= parts and set(report["limit"]) == {"float32", "int8"}
    assert tuple(row["name"] for row in report["rows"]) == (*rows, "resident_fp32")
    assert [each["name"] for each in report["idle"]] == list(PAIRS["cpu"])
    fields = [
        "texts_per_s",
        "ratio",
        "ratio_best_peer",
        "share",
        "label_agreement",
        "depth_agreement",
        "max_logit_diff",
    ]
    assert all(row[name] is not None for row in report["rows"] for name in fields)
    assert report["rows"][0]["ratio"] == 1.0 == report["rows"][0]["ratio_best_peer"]
    assert set(report["deterministic"]) == {"packed_fp32_deterministic"}
    table = importlib.import_module("earlybird.engine.bench.table")
    table.show(report)
    shown = capsys.readouterr().out
    assert all(
        word in shown
        for word in ("packed_fp32_deterministic", "idle latency", "engine threads 1", "memory of an engine")
    )


@pytest.mark.parametrize(("device", "name"), [("cpu", "packed_fp32"), ("cuda", "resident_fp32")])
def test_an_idle_engine_is_held_to_one_text_alone(
    device: str, name: str, setting: Setting, work: list[BenchText]
) -> None:
    """Text by text, both ways."""
    (found,) = idle({name: PAIRS[device][name]}, setting, work[:4], lambda _: None)
    assert (found.name, found.dtype) == (name, "float32")
    assert found.idle_ms > 0 and found.alone_ms > 0 and found.ratio > 0


def test_threads_are_held_to_one_thread(setting: Setting, work: list[BenchText]) -> None:
    """Doubled up to what was asked for; the first is its own measure."""
    found = scaling(setting, work, 3, PACE)
    assert [each.threads for each in found] == [1, 2, 3] and found[0].ratio == 1.0
    assert all(each.texts_per_s > 0 and each.cpu_ms > 0 for each in found)


def test_memory_is_that_of_an_engine_and_nothing_else(setting: Setting) -> None:
    """A process of its own: what this one holds, transformers among it, does not count."""
    found = memory(SMALL, "float32", usual_lengths(40), forced_depths(4, 0.5), 100, setting)
    assert found.texts == 100 and 0 < found.weights_mb < 1
    assert 0 < found.bare_mb <= found.resident_mb[0] and len(found.resident_mb) == 3
    assert found.peak_mb >= found.resident_mb[-1] and abs(found.resident_mb[-1] - found.resident_mb[0]) < 10


@pytest.mark.parametrize("name", ["packed_fp32_deterministic", "packed_int8", "resident_fp32"])
def test_a_profile_adds_up(name: str, setting: Setting, work: list[BenchText]) -> None:
    """Products, attention and the host's own time are told apart; nothing is counted twice."""
    found = profile(name, BUILDS[name](setting), setting, work, 90.0)
    parts = {part.kind: part for part in found.parts}
    assert {"products", "attention", "pointwise", "exits", "Python"} <= set(parts) or name == "resident_fp32"
    assert all(part.us_per_text >= 0 for part in parts.values())
    assert parts["products"].share > 0 and found.products_of_limit > 0


def test_without_a_card_a_run_on_one_ends_with_a_clear_word(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, before anything is built."""
    if torch.cuda.is_available():
        pytest.skip("A CUDA DEVICE IS HERE")
    assert cli.main(["bench", "engine", "--device", "cuda"]) == 2
    assert "no CUDA device is usable here" in capsys.readouterr().err


def test_memory_over_any_number_of_texts_can_be_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And nothing else is run."""
    monkeypatch.setitem(GEOMETRIES, "mini", SMALL)
    assert cli.main(["bench", "engine", "--million", "64", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["memory"][0]["texts"] == 64 and "rows" not in report


def test_a_curve_has_a_point_for_each_setting_and_load(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the bundled model; and what a text costs when nothing else is there."""
    monkeypatch.setattr(curves, "SETTINGS", ((1, 128), (16, 512)))
    monkeypatch.setattr(curves, "LOADS", (0.1, 0.5))
    monkeypatch.setattr(curves, "QUICK_TEXTS", 40)
    assert cli.main(["bench", "engine", "--curve", "--quick"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("1 slots, 128 tokens", "16 slots, 512 tokens", "batch-1 early exit"))


@pytest.mark.parametrize(
    "arguments", [["--threads", "0"], ["--mean-exit", "0.01"], ["--model", "bundled"], ["--million", "1"]]
)
def test_impossible_options_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """In one line."""
    assert cli.main(["bench", "engine", *arguments]) == 2
    assert "required" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def threads_left_alone() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before
