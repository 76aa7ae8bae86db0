"""The bench of own code beside libraries: each way carries every text, and says what it took."""

import json
import subprocess
import sys

import pytest

from project import ROOT


def test_every_way_is_measured() -> None:
    """In a process of its own, since it forks."""
    for module in ("zmq", "msgspec"):
        pytest.importorskip(module)
    command = [sys.executable, "-m", "earlybird.stream.cli", "bench", "libraries", "--texts", "65", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)["rows"]
    assert [row["way"] for row in rows] == ["shared rings", "pyzmq"] * 3 + ["dict, pydantic-core", "Struct, msgspec"]
    assert all(row["us"] > 0 for row in rows) and "times the first" in done.stderr
