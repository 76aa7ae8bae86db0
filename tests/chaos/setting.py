"""What a session runs on and with, and the environment of its workers."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from project import ROOT
from tests.chaos.ledger import Topics

Delivery = Literal["at_least_once", "exactly_once"]
SESSION_MS = 3_000
STALL_S = 8.0  # of a consumer thread, beyond max.poll.interval.ms where a fault exceeds it


@dataclass(frozen=True)
class Setting:
    """One session; `faults` are names of tests.chaos.faults."""

    name: str
    faults: Sequence[str] = ()
    protocol: str = "classic"
    workers: int = 3
    rate: float = 80.0  # records a second
    step_ms: float = 10.0  # of the simulated engine
    real_engine: bool = False
    consumer_processes: int = 0
    redis: bool = False
    session_ms: int = SESSION_MS  # of the classic protocol
    options: Mapping[str, str] = field(default_factory=dict)  # settings of the workers, without the prefix


def environment(
    topics: Topics, setting: Setting, delivery: Delivery, slot: int, redis_url: str | None = None
) -> dict[str, str]:
    """The settings of the worker in this slot."""
    names = {"raw": [{"name": topics.raw}], "signals": topics.signals, "control": topics.control, "dlq": topics.dlq}
    tree = {
        "KAFKA__BOOTSTRAP_SERVERS": topics.bootstrap_servers,
        "KAFKA__GROUP_PROTOCOL": setting.protocol,
        "KAFKA__OPTIONS__FETCH_WAIT_MAX_MS": "20",
        "KAFKA__OPTIONS__TOPIC_METADATA_REFRESH_INTERVAL_MS": "1000",
        "GROUP": topics.group,
        "TOPICS": json.dumps(names),
        "ENGINE__THREADS": "1",
        "ENGINE__CONSUMER_PROCESSES": str(setting.consumer_processes),
        "HTTP__PORT": "0",
        "LOG__FORMAT": "json",
    }
    if setting.protocol == "classic":
        tree["KAFKA__OPTIONS__SESSION_TIMEOUT_MS"] = str(setting.session_ms)
    if delivery == "exactly_once":
        tree |= {"DELIVERY": delivery, "INSTANCE": f"slot-{slot}"}
    if redis_url is not None:
        tree["REDIS__URL"] = redis_url
    chaos = {"CHAOS_STEP_MS": str(setting.step_ms), "CHAOS_STALL_S": str(STALL_S), "CHAOS_HUNG_S": "20"}
    return {f"EARLYBIRD_{name}": value for name, value in (tree | dict(setting.options)).items()} | chaos


def complete(audit: Mapping[str, Any]) -> bool:
    """Whether nothing is missing, and nothing waits either."""
    return bool(audit["balanced"] and audit["waiting"] == 0)


def audited(settings: Mapping[str, str]) -> dict[str, Any]:
    """What `earlybird audit` says."""
    command = [sys.executable, "-m", "earlybird.stream.cli", "audit", "--json"]
    done = subprocess.run(command, env=os.environ | settings, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
