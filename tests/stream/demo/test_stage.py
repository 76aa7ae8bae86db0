"""The demo's stage as it starts."""

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from earlybird.stream import cli
from earlybird.stream.demo.stage import DemoStage
from earlybird.stream.errors import StreamError
from project import ROOT


def test_what_the_worker_lacks_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A wrong model, or no torch: not the traceback of a process that nobody has started."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(name='torch')\n", encoding="utf-8")
    with monkeypatch.context() as patched:
        patched.setenv("EARLYBIRD_MODEL", "/nope")
        assert cli.main(["demo", "--once"]) == 2
    assert capsys.readouterr().err.startswith("earlybird: model: a folder required, was /nope (EARLYBIRD_MODEL)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    assert cli.main(["demo", "--once"]) == 2
    assert capsys.readouterr().err.startswith("earlybird: the engine needs torch: install the extra")


def test_a_picture_that_cannot_be_written_is_refused_before_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is started for it."""
    assert cli.main(["demo", "--once", "--svg", "/nonexistent/x.svg"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "earlybird: --svg /nonexistent/x.svg: cannot be written, No such file or directory\n"


def test_a_stage_that_is_not_awaited_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that loads its libraries does not hear SIGTERM for seconds; its whole session is killed."""
    started = list["subprocess.Popen[Any]"]()

    class Noted(subprocess.Popen[Any]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    with pytest.raises(StreamError, match="the worker was not ready within 0 s"), DemoStage(0.0):
        pytest.fail("it cannot be ready")
    *_, worker = started
    assert worker.returncode == -signal.SIGKILL
