"""The broker of a development tree, as `make kafka` and `make kafka-stop` drive it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kafka_node import free_port
from project import ROOT

pytestmark = pytest.mark.broker

LOCAL = ROOT / "deploy" / "kafka" / "local.py"


@pytest.mark.parametrize("nodes", [1, 3])
def test_each_action_says_what_is_so_afterwards(tmp_path: Path, kafka: Any, nodes: int) -> None:
    """Stopping a broker does not end with the words for one that was not there."""
    port = free_port(nodes)

    def local(action: str) -> tuple[int, str]:
        command = [sys.executable, str(LOCAL), action, "--home", str(tmp_path / "kafka"), "--port", str(port)]
        command += ["--nodes", str(nodes)] if action == "start" else []
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        return done.returncode, done.stdout.partition(" (")[0].strip()

    answers = (0, "Kafka answers at " + ",".join(f"127.0.0.1:{port + node}" for node in range(nodes)))
    try:
        assert local("start") == answers
        assert local("status") == answers
        assert local("stop") == (0, "Kafka has stopped")
        assert local("stop") == (0, "Kafka does not run")
        assert local("status") == (1, "Kafka does not run")
    finally:
        local("stop")
