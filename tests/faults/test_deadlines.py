"""A worker in a hurry on a real Kafka, killed and started again: every text has its outcome, and a replay agrees."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from earlybird.schemas.codec import decode
from earlybird.schemas.rejection import Reason
from earlybird.schemas.signal import ExitReason, Signal
from earlybird.stream import cli

pytestmark = [pytest.mark.faults, pytest.mark.broker]

TEXTS = 400
UNSURE = "cwb:delta=0.2,window=0"  # the bundled policy is sure of most texts after one layer, and cuts none of them
HURRY = {"POLICY": UNSURE, "LIMITS__DEADLINE_MS": "1", "LIMITS__SHED_AFTER_MS": "900000", "LIMITS__MAX_IN_FLIGHT": "64"}


def backlog(make_item: Callable[..., dict[str, Any]]) -> list[dict[str, Any]]:
    """Texts of now, copies among them; every tenth is half an hour old, and so is a correction of every twentieth."""
    now_us = time.time_ns() // 1000
    old_us = now_us - 1_800_000_000
    items = [
        make_item(number, "Bolt Corp warns on profit" if number % 7 == 0 else None)
        | {"ingested_us": old_us if number % 10 == 0 else now_us, "revision": 1}
        for number in range(TEXTS)
    ]
    corrections = [
        make_item(number, f"Acme corrects report {number}") | {"ingested_us": old_us, "revision": 2, "action": "update"}
        for number in range(5, TEXTS, 20)
    ]
    return items + corrections


def test_a_hurried_worker_that_is_killed_accounts_for_every_text_and_can_be_replayed(
    ground: Any,
    start_stage: Callable[..., Any],
    make_item: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its successor sheds all that it meets, what the dead one had published but not committed too: no fault to the
    audit, and a replay without any clock, from the topics and from an archive, says what was published first."""
    settings = ground.mortal(**HURRY, TIMING__COMMIT_INTERVAL_MS="1000")
    items = backlog(make_item)
    ground.publish(items)
    with ground.watch() as watch:
        stage = start_stage(ground.bootstrap_servers, **settings)
        watch.until(lambda: watch.answered >= len(items) // 3)
        stage.end(signal.SIGKILL)
        stage = start_stage(ground.bootstrap_servers, **settings | {"LIMITS__SHED_AFTER_MS": "1"})
        found = watch.until_answered(len(items))
        assert stage.end() == 0
        watch.until_read()
    assert found.balanced, found.report()
    assert found.rejections[Reason.SHED] >= TEXTS // 10 + TEXTS // 20
    assert found.actions["retract"] >= TEXTS // 20
    signals = [decode(Signal, record.value or b"") for record in watch.signals]
    results = {(s.raw.partition, s.raw.offset): s.exit.reason for s in signals if s.exit is not None}
    assert ExitReason.DEADLINE in results.values(), "this test says nothing when everybody was in time"

    for name, value in ground.environment(KAFKA__BOOTSTRAP_SERVERS=ground.bootstrap_servers, POLICY=UNSURE).items():
        monkeypatch.setenv(f"EARLYBIRD_{name}", value)
    archive = tmp_path / "archive"
    assert cli.main(["archive", "--once", str(archive)]) == 0
    replay = ["replay", "recompute", "--compare", "--slack", "all", "--run-id", "again", "--output"]
    assert cli.main([*replay, str(tmp_path / "topics")]) == 0
    assert cli.main([*replay, str(tmp_path / "files"), "--archive", str(archive)]) == 0
    topics, files = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("topics", "files"))
    assert topics["comparison"]["expected"] == "equal digests" and topics["comparison"]["holds"]
    assert topics["counts"] == files["counts"] and files["comparison"] == topics["comparison"]
    assert topics["counts"]["rejections"] == {"shed": len(items) - len(results)}
    assert topics["recorded_deadlines"] == sum(reason is ExitReason.DEADLINE for reason in results.values())
