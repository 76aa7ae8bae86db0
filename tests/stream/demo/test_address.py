"""Where the demo runs, for a command in another terminal."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from earlybird.stream.demo.address import announced, running_demo


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_demo_is_found_while_it_runs() -> None:
    """And the newest of two; one that ends does not take the other's place away."""
    assert running_demo() is None
    with announced("127.0.0.1:1"):
        assert running_demo() == "127.0.0.1:1"
        with announced("127.0.0.1:2"):
            assert running_demo() == "127.0.0.1:2"
    assert running_demo() is None


def test_a_demo_that_was_killed_is_not_found(tmp_path: Path) -> None:
    """Its file stays behind; its process does not."""
    with announced("127.0.0.1:1"):
        (file,) = tmp_path.iterdir()
        ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
        file.write_text(json.dumps({"pid": int(ended.stdout), "bootstrap_servers": "127.0.0.1:1"}))
        assert running_demo() is None


def test_a_file_of_others_is_not_believed(tmp_path: Path) -> None:
    """The folder may be shared: a link is not followed, and rubbish is no demo."""
    with announced("127.0.0.1:1"):
        (file,) = tmp_path.iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(json.dumps({"pid": os.getpid(), "bootstrap_servers": "evil:9092"}))
    file.symlink_to(elsewhere)
    assert running_demo() is None
    with announced("127.0.0.1:2"):
        assert running_demo() == "127.0.0.1:2"
    assert "evil" in elsewhere.read_text()
    for rubbish in ("", "[]", "{}", '{"pid": "x"}', '{"pid": 0.5, "bootstrap_servers": 3'):
        file.write_text(rubbish)
        assert running_demo() is None
