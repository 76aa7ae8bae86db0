"""The examples run as a user starts them."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from earlybird.stream.adapters.embedded import EmbeddedBroker
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.ports import Record
from project import ROOT

EXAMPLES = ROOT / "examples"
NO_EXTRAS = "NO EXTRAS: pip install -e '.[strategies,nautilus,evaluate,dev]'"


def run(*command: str, cwd: Path = ROOT, timeout_s: float = 300, **environment: str) -> str:
    """What a command prints. It must end well, and warn of nothing but the invented model."""
    ended = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert [line for line in ended.stderr.splitlines() if "replay.in_sample" not in line] == []
    return ended.stdout


def test_a_strategy_can_be_tested() -> None:
    """With pytest, beside the strategy."""
    shown = run(
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        "test_strategy.py",
        cwd=EXAMPLES,
    )
    assert "1 passed" in shown


def test_bars() -> None:
    """Scores on bars, from an invented recording."""
    pytest.importorskip("exchange_calendars", reason=NO_EXTRAS)
    first, *entries = run(sys.executable, "examples/bars.py").splitlines()
    assert first.endswith("entries at the open of:") and len(entries) == 5


def test_nautilus_backtest() -> None:
    """Orders are filled in nautilus' engine."""
    pytest.importorskip("nautilus_trader", reason=NO_EXTRAS)
    words = run(sys.executable, "examples/nautilus_backtest.py").split()
    assert words[1] == "signals," and int(words[2]) > 0


@pytest.mark.parametrize(
    ("example", "library"),
    [("backtrader_backtest", "backtrader"), ("vectorbt_backtest", "vectorbt"), ("zipline_pipeline", "zipline")],
)
def test_a_backtest_elsewhere(example: str, library: str) -> None:
    """In the library itself, on scores of the invented recording."""
    pytest.importorskip("exchange_calendars", reason=NO_EXTRAS)
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"NO {library.upper()}: pip install -e '.[strategies,{library}]'")
    words = run(sys.executable, f"examples/{example}.py", PYTHONWARNINGS="ignore").split()
    assert int(words[0]) > 0 and words[1] == "scores,"


def test_event_study_draws_a_picture(tmp_path: Path) -> None:
    """Ten deciles as a table, and as a file that browsers show."""
    pytest.importorskip("exchange_calendars", reason=NO_EXTRAS)
    pytest.importorskip("matplotlib", reason=NO_EXTRAS)
    shown = run(sys.executable, "examples/event_study.py", "--picture", str(tmp_path / "study.svg"))
    assert len([line for line in shown.splitlines() if line.startswith("decile")]) == 10
    assert "<svg" in (tmp_path / "study.svg").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("default")  # of jupyter's own packages
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell by cell, to its pictures; it is kept without outputs."""
    pytest.importorskip("exchange_calendars", reason=NO_EXTRAS)
    pytest.importorskip("matplotlib", reason=NO_EXTRAS)
    pytest.importorskip("ipykernel", reason=NO_EXTRAS)
    nbformat = pytest.importorskip("nbformat", reason=NO_EXTRAS)
    nbclient = pytest.importorskip("nbclient", reason=NO_EXTRAS)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))  # nothing of the user's configuration
    notebook = nbformat.read(EXAMPLES / "replay_to_plot.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in code), "clear the outputs before a commit"
    where = {"metadata": {"path": str(EXAMPLES)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    pictures = [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 2


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    """A broker with one raw topic."""
    with EmbeddedBroker({"news.raw": 1}) as broker:
        yield broker


def test_a_foreign_feed_becomes_raw_items(broker: EmbeddedBroker, tmp_path: Path) -> None:
    """The script as it stands, with `earlybird` on the PATH."""
    command = tmp_path / "earlybird"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m earlybird.stream.cli "$@"\n')
    command.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    python = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    where: dict[str, Any] = {
        "EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "EARLYBIRD_LOG__LEVEL": "error",
    }
    shown = run("bash", "foreign_feed.sh", cwd=EXAMPLES, PATH=path, PYTHONPATH=python, **where)
    assert shown.startswith("published 3 texts")
    tail = Tail(broker.bootstrap_servers, ["news.raw"], start="beginning")
    records: list[Record] = []
    while len(records) < 3:
        records += tail.poll(50)
    tail.close()
    items = [json.loads(record.value or b"") for record in records]
    assert [item["item_key"] for item in items] == ["acme:8812", "acme:8813", "acme:8812"]
    assert [item["headline"] for item in items][-1] == "Norvex cuts full-year outlook"
    symbols = [[symbol["symbol"] for symbol in item["symbols"]] for item in items]
    assert symbols == [["NRVX"], ["GRYF", "NRVX"], ["NRVX"]]
    assert items[2]["updated_us"] > items[0]["published_us"]
