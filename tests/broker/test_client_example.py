"""The strategy that the README shows: the same text runs live and over history, and decides alike."""

import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from earlybird.schemas.rejection import Reason
from earlybird.schemas.signal import Signal, SignalAction
from earlybird.stream.adapters.embedded import EmbeddedBroker
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.client import Signals
from earlybird.stream.parsing.records import Refusal
from earlybird.stream.ports import Position, Record
from earlybird.stream.stage.messages import Entry
from earlybird.stream.stage.outcome import signal_record
from earlybird.stream.strategies.invented import invented

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "strategy.py"
T0 = 1_700_000_000_000_000

TEXTS: list[Signal] = [
    invented("1", T0, 0.9),
    invented("2", T0, -0.8, symbols=["AMD"]),
    invented("3", T0, 0.1, symbols=["AMD"]),  # too unsure: filtered
    invented("1", T0, -0.9, revision=1, action=SignalAction.CORRECT),
    invented("1", T0, 0.9),  # the first revision once more
    invented("2", T0, symbols=[], revision=1, action=SignalAction.RETRACT),
]
DECISIONS = ["NVDA +1 new wire:1", "AMD -1 new wire:2", "NVDA -1 correct wire:1", "AMD +0 retract wire:2"]


@pytest.fixture
def address() -> Iterator[str]:
    """A broker with the topics of a stage, of one partition."""
    with EmbeddedBroker({"signals": 1, "signals.control": 1}) as broker:
        sink = KafkaSink(broker.bootstrap_servers)
        entry = Entry(
            Refusal(Position("news.raw", 0, 0), Reason.STALE, "", None), Record("news.raw", 0, 0, None, None), 0, 0
        )
        for signal in TEXTS:
            sink.send(signal_record(signal, entry, "signals"), receipt=signal)
        while sink.unacknowledged():
            sink.receipts(50)
        yield broker.bootstrap_servers
        sink.close()


def test_the_example_runs_on_a_broker(address: str) -> None:
    """As a user starts it."""
    with subprocess.Popen(
        [sys.executable, str(EXAMPLE), address],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        try:
            decided = [process.stdout.readline().split(maxsplit=1)[1].strip() for _ in DECISIONS]
        finally:
            process.terminate()
    assert decided == DECISIONS


def test_the_example_runs_over_history(capsys: pytest.CaptureFixture[str]) -> None:
    """The same function in a replay, decision by decision."""
    act = runpy.run_path(str(EXAMPLE))["act"]
    recorded = [(signal, T0 + number) for number, signal in enumerate(TEXTS)]
    with capture_logs():  # nobody knows what an invented model has learned from
        Signals.replay(recorded, min_confidence=0.6).on(act).run()
    assert [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()] == DECISIONS


def test_the_example_prints_the_same_in_every_run() -> None:
    """Whatever order a set of names has in this process; instants as people read them."""
    code = (
        "from strategy import act;"
        "from earlybird.stream.strategies.invented import invented;"
        "from earlybird import Signals; names = [f'S{n}' for n in range(30)];"
        f"Signals.replay([(invented('1', {T0}, 0.9, symbols=names), {T0})]).on(act).run()"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=EXAMPLE.parent, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert runs[0] == runs[1] and runs[0].startswith("2023-11-14T22:13:20.000+00:00 S0 +1 new wire:1")


def test_the_example_fits_a_screen() -> None:
    """Some twenty lines. README and the pages show this very text, and so does the module of old."""
    text = EXAMPLE.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) <= 22 and max(map(len, lines)) <= 120
    assert text == (ROOT / "stream" / "strategies" / "example.py").read_text(encoding="utf-8")
    assert text in (ROOT / "README.md").read_text(encoding="utf-8")
