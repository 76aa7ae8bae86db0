"""`bench burst`, and what evaluation and certificates make of a policy that follows the load."""

import json
from pathlib import Path

import pytest

from earlybird.engine.errors import ConfigError
from earlybird.engine.evaluation.calibrate import candidates
from earlybird.stream.cli import main

LADDER = "load:idle=(full),busy=(fixed:1),at=2"


def test_a_burst_meets_each_policy_and_the_ladder(capsys: pytest.CaptureFixture[str]) -> None:
    """Far more than can be computed at once: the ladder lies between its policies, and says how often it was busy."""
    assert main(["bench", "burst", "--policy", LADDER, "--texts", "90", "--burst", "1000", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    idle, busy, ladder = report["rows"]
    assert [row["policy"] for row in report["rows"]] == ["full", "fixed:1", LADDER]
    assert (idle["mean_depth"], busy["mean_depth"], idle["busy"], busy["busy"]) == (3.0, 1.0, 0.0, 0.0)
    assert 0 < ladder["busy"] < 1 and ladder["mean_depth"] == pytest.approx(3 - 2 * ladder["busy"])
    assert report["burst_texts"] == 30 and idle["longest_queue"] > 2


def test_a_burst_wants_a_policy_that_follows_the_load(capsys: pytest.CaptureFixture[str]) -> None:
    """By name."""
    assert main(["bench", "burst", "--policy", "fixed:1", "--texts", "90"]) == 2
    assert "load:... required" in capsys.readouterr().err


def test_evaluate_shows_a_ladder_policy_by_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is no queue in an evaluation; a certificate is of one policy."""
    texts = tmp_path / "t.jsonl"
    texts.write_text('{"text": "Norvex lifts its outlook", "label": "positive"}\n', "utf-8")
    assert main(["evaluate", str(texts), "--policies", LADDER, "--json"]) == 0
    shown = [point["policy"] for point in json.loads(capsys.readouterr().out)["points"]]
    assert shown == ["full", "fixed:1", "cwb:delta=0.5,window=2"]
    with pytest.raises(ConfigError, match="by itself"):
        candidates(LADDER, 3, learned=False)
