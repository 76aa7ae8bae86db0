"""The demo's stage as it starts."""

import signal
import subprocess
from typing import Any

import pytest

from earlybird.stream.demo.stage import DemoStage
from earlybird.stream.errors import StreamError


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
