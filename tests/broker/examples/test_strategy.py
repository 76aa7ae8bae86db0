"""The strategy that the README shows: the same text runs live and over history, and decides alike."""

import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import venv
import zipfile
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
from project import ROOT

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


def decided(*command: str, cwd: Path, env: dict[str, str] | None = None) -> list[str]:
    """The first decisions that a strategy prints, without their times."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=cwd, env=env) as process:
        assert process.stdout is not None
        try:
            return [process.stdout.readline().split(maxsplit=1)[1].strip() for _ in DECISIONS]
        finally:
            process.terminate()


def test_the_example_runs_on_a_broker(address: str) -> None:
    """As a user starts it."""
    assert decided(sys.executable, str(EXAMPLE), address, cwd=ROOT) == DECISIONS


def test_an_interrupt_ends_the_example_quietly(address: str) -> None:
    """Ctrl-C is how a person ends it."""
    interruptible = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{interruptible}; import runpy; runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    command = [sys.executable, "-c", code, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert "Traceback" not in process.communicate()[1]
    assert process.returncode == 0


def test_a_wrong_address_ends_the_example_with_one_sentence() -> None:
    """Its traceback ends with one sentence, and shows no frames of the client's own thread."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        absent = f"127.0.0.1:{nobody.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, str(EXAMPLE), absent], capture_output=True, text=True, cwd=ROOT, check=False
        )
    *frames, last = done.stderr[done.stderr.index("Traceback") :].splitlines()
    assert f"no Kafka at {absent}, tried for" in last
    assert "reader.py" not in "".join(frames)


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
    """Some twenty lines. README and the pages show this very text."""
    text = EXAMPLE.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) <= 22 and max(map(len, lines)) <= 120
    assert text in (ROOT / "README.md").read_text(encoding="utf-8")


def clean() -> dict[str, str]:
    """This process's environment without the checkout on its path."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds our wheel and what the bare install asks for."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT / "earlybird", source / "earlybird", symlinks=True)
    for name in ("schemas", "engine", "stream"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        tops = {name.split("/")[0] for name in content.namelist()}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"earlybird"}, "nothing generic is installed"
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    subprocess.run(
        [*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)], check=True, env=clean()
    )
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    # What pyproject asks for comes from this environment; its own .pth files, our checkout's among them, do not count.
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    return python


def test_the_wheel_runs_beside_modules_of_these_names(address: str, bare_python: Path, tmp_path: Path) -> None:
    """A strategy whose folder has an engine.py, a schemas/ and a stream.py of its own, as such folders have."""
    shutil.copy(EXAMPLE, tmp_path / "strategy.py")
    (tmp_path / "schemas").mkdir()
    for name in ("engine.py", "stream.py", "schemas/__init__.py"):
        (tmp_path / name).write_text("raise AssertionError('a module of the strategy itself')\n", encoding="utf-8")
    assert decided(str(bare_python), "strategy.py", address, cwd=tmp_path, env=clean()) == DECISIONS
