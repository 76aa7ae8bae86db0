"""Files for Lean, read by the class of the example as Lean reads them: line by line."""

import importlib.util
import json
import sys
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from earlybird.schemas.signal import Signal, SignalAction
from earlybird.stream.client import Received, Signals
from earlybird.stream.strategies.invented import invented
from earlybird.stream.strategies.lean import write_lean
from project import ROOT

T0 = 1_700_000_000_000_000
SECOND = 1_000_000
CORRECT, RETRACT = SignalAction.CORRECT, SignalAction.RETRACT


class PythonData:
    """Lean's own, as far as it refuses values: doubles become decimals, which have no NaN."""

    def __init__(self) -> None:
        self.storage: dict[str, Any] = {}

    def __setitem__(self, name: str, value: Any) -> None:
        if isinstance(value, float) and value != value:
            raise OverflowError(name)
        self.storage[name.lower()] = Decimal(value) if isinstance(value, float) else value

    def __getitem__(self, name: str) -> Any:
        return self.storage[name.lower()]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """examples/lean_algorithm.py, with stand-ins for what only Lean has."""
    lean = ModuleType("AlgorithmImports")
    names = ("QCAlgorithm", "Resolution", "Slice", "SubscriptionDataConfig", "TimeZones")
    vars(lean).update(
        dict.fromkeys(names, object), PythonData=PythonData, Globals=SimpleNamespace(data_folder=tmp_path)
    )
    vars(lean).update(
        SubscriptionDataSource=lambda path, medium, form: (Path(path), medium, form),
        SubscriptionTransportMedium=SimpleNamespace(LOCAL_FILE="local"),
        FileFormat=SimpleNamespace(CSV="csv"),
    )
    monkeypatch.setitem(sys.modules, "AlgorithmImports", lean)
    spec = importlib.util.spec_from_file_location("lean_algorithm", ROOT / "examples" / "lean_algorithm.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def replayed(*signals: Signal, **about: Any) -> Signals:
    return Signals.replay([(signal, T0 + number * SECOND) for number, signal in enumerate(signals)], **about)


def read(example: Any, symbol: str) -> list[Any]:
    """What Lean hands out, in the file's order."""
    config = SimpleNamespace(symbol=SimpleNamespace(value=symbol))
    path, medium, form = example.EarlybirdSignal().get_source(config, datetime(2023, 11, 14), False)
    assert (medium, form) == ("local", "csv")
    lines = path.read_text(encoding="utf-8").split("\n")
    return [data for line in lines if (data := example.EarlybirdSignal().reader(config, line, None, False)) is not None]


def test_data_comes_out_when_it_could_be_known(example: Any, tmp_path: Path) -> None:
    """The end time is the availability and the latency, whatever the text's own time; to the microsecond."""
    first = invented("a,\n1", T0 - 3_600 * SECOND, 0.9, symbols=["NRVX", "BTC/USD"])
    first = first.model_copy(update={"headline": "Norvex lifts “outlook”\nagain"})
    folder = tmp_path / "custom" / "earlybird"
    assert write_lean(replayed(first, invented("2", T0, -0.5, symbols=["NRVX"]), latency=7), folder) == 3
    one, two = read(example, "NRVX")
    assert one.time == one.end_time == datetime(2023, 11, 14, 22, 13, 20, 7)
    assert two.end_time - one.end_time == timedelta(seconds=1)
    assert (float(one["score"]), float(one.value), one["item_key"], one["action"]) == (0.9, 0.9, "wire:a,\n1", "new")
    assert one["headline"] == first.headline and two["headline"] is None
    assert [data["item_key"] for data in read(example, "BTC/USD")] == ["wire:a,\n1"]


def test_only_changes_of_an_item_are_written(example: Any, tmp_path: Path) -> None:
    """A symbol that a correction drops hears of it; duplicates and late versions change nothing."""
    signals = [
        invented("1", T0, 0.9, symbols=["NRVX", "AMD"]),
        invented("1", T0, 0.9, symbols=["NRVX", "AMD"]),  # twice
        invented("1", T0, 0.6, symbols=["AMD"], revision=2, action=CORRECT),
        invented("1", T0, -0.9, symbols=["NRVX"], revision=1, action=CORRECT),  # late
        invented("1", T0, symbols=[], revision=3, action=RETRACT),
    ]
    write_lean(replayed(*signals), tmp_path / "custom" / "earlybird")
    told = {
        symbol: [(data["action"], float(data["score"]), data["label"]) for data in read(example, symbol)]
        for symbol in ("NRVX", "AMD")
    }
    assert told == {
        "NRVX": [("new", 0.9, "positive"), ("retract", 0.0, "")],
        "AMD": [("new", 0.9, "positive"), ("correct", 0.6, "positive"), ("retract", 0.0, "")],
    }


def test_files_are_named_once_they_are_whole(tmp_path: Path) -> None:
    """A run that ends early leaves nothing that a backtest would read; what is there is never mixed with it."""
    now, past = (Received.of(invented(str(number), T0), T0 - number) for number in range(2))
    with pytest.raises(ValueError, match="order of availability"):
        write_lean([now, past], tmp_path)
    assert not list(tmp_path.glob("*.json"))
    write_lean(replayed(invented("1", T0)), tmp_path / "new")
    (path,) = (tmp_path / "new").iterdir()
    assert path.name == "NVDA.json" and json.loads(path.read_text(encoding="utf-8"))["item_key"] == "wire:1"
    with pytest.raises(ValueError, match="empty folder"):
        write_lean(replayed(invented("1", T0)), tmp_path / "new")


def test_lines_that_are_many_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written piece by piece."""
    monkeypatch.setattr("earlybird.stream.strategies.lean._HELD", 3)
    signals = [invented(str(number), T0, symbols=["NRVX", f"S{number % 2}"]) for number in range(10)]
    assert write_lean(replayed(*signals), tmp_path) == 20
    lines = [json.loads(line) for line in (tmp_path / "NRVX.json").read_text(encoding="utf-8").splitlines()]
    assert [line["item_key"] for line in lines] == [f"wire:{number}" for number in range(10)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["NRVX.json", "S0.json", "S1.json"]
