"""The measurement of own code beside libraries: each way carries every text, and says what it took."""

import json
import subprocess
import sys

import pytest

from project import ROOT


def test_every_way_is_measured() -> None:
    """In a process of its own, since it forks."""
    for module in ("zmq", "msgspec"):
        pytest.importorskip(module)
    command = [sys.executable, "tests/support/libraries.py", "--texts", "65", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = list(json.loads(done.stdout).values())
    assert [list(ways) for ways in found] == [["shared rings", "pyzmq"]] * 3 + [
        ["dict, pydantic-core", "Struct, msgspec"]
    ]
    assert all(us >= 0 for ways in found for us in ways.values()) and "times the first" in done.stderr
