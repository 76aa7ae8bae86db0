"""The short form of `make chaos`, and that it finds what a careless worker loses."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from kafka_node import KafkaUnavailable, libraries
from project import ROOT
from tests.chaos import plan
from tests.chaos.setting import Delivery

pytestmark = [pytest.mark.chaos, pytest.mark.faults, pytest.mark.broker, pytest.mark.timeout(1_800)]


@pytest.fixture(autouse=True)
def _kafka() -> None:
    """Skip aloud where there is none."""
    try:
        libraries()
    except KafkaUnavailable as error:
        if os.environ.get("CI"):
            pytest.fail(f"NO KAFKA IN CI: {error}")
        pytest.skip(f"NO REAL KAFKA: {error}")


def chaos(out: Path, *options: str, **variables: str) -> tuple[int, dict[str, Any]]:
    """The exit status and the report of a run; its lines come as they are written."""
    command = [sys.executable, "-m", "tests.chaos", "--short", "--json", str(out), *options]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}/tests/support:{ROOT}/deploy/kafka"} | variables
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    return status, json.loads(out.read_text())


@pytest.mark.parametrize("delivery", get_args(Delivery))
def test_nothing_is_lost_by_any_fault(tmp_path: Path, delivery: Delivery) -> None:
    """Every record has its outcome after each fault, and what is repeated says the same."""
    status, report = chaos(tmp_path / "report.json", "--delivery", delivery)
    assert report["broken"] == [] and status == 0
    parts = [part for part in plan.short() if delivery in part.deliveries]
    planned = [fault for part in parts for setting in part.settings for fault in setting.faults]
    assert sorted(strike["fault"] for strike in report["strikes"]) == sorted(planned)
    assert all(strike["inputs"] for strike in report["strikes"]) and report["kills"] > 3


def test_what_a_careless_worker_loses_is_found(tmp_path: Path) -> None:
    """One that commits what it has read loses by a kill what it had under way."""
    options = (
        "--session",
        "classic",
        "--only",
        "all workers killed",
        "--delivery",
        "at_least_once",
        "--patience",
        "10",
    )
    status, report = chaos(tmp_path / "report.json", *options, CHAOS_CARELESS="1")
    assert status == 1
    assert report["sessions"][0]["lost"] > 0 and report["sessions"][0]["audit"] is False


def test_members_close_in_the_middle_of_joining() -> None:
    """Within 100 ms of joining; those that wait for others' answers are in tests/broker/adapters/test_leaving.py."""
    command = [sys.executable, "-m", "tests.chaos.closing", "--members", "48", "--at-once", "12"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}/tests/support:{ROOT}/deploy/kafka"}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert "48 of 48 closed" in done.stdout, done.stderr
