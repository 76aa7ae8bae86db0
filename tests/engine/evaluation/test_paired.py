"""A policy against fixed depths: counts text by text, and intervals that hold as often as they say."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from earlybird.engine.evaluation.outputs import Outputs
from earlybird.engine.evaluation.paired import against_depths, interval
from earlybird.engine.evaluation.sweep import sweep
from earlybird.stream.cli import main
from tests.engine.evaluation.test_outputs import synthetic


def own(policy: str, texts: int = 500) -> Outputs:
    """Outputs of an imagined model whose own policy is this one."""
    return dataclasses.replace(synthetic(texts, seed=3), policy=policy)


def test_differences_and_costs_are_those_of_the_points() -> None:
    """The same accuracies and operations as the sweep finds, depth by depth."""
    outputs = own("cwb:delta=0.5,window=2")
    points = {point.policy: point for point in sweep(outputs, [f"fixed:{depth}" for depth in range(1, 6)] + ["full"])}
    (mine,) = sweep(outputs, [outputs.policy])
    found = against_depths(outputs)
    assert [pair.against for pair in found] == list(points)
    for pair in found:
        other = points[pair.against]
        assert pair.difference == pytest.approx(mine.accuracy - other.accuracy)
        assert pair.won - pair.lost == round(pair.difference * len(outputs))
        assert pair.cost == pytest.approx(other.gflops / mine.gflops)
        assert pair.low < pair.difference < pair.high
    assert (found[-1].won, found[-1].lost) == (mine.won, mine.lost)  # against full depth, as the sweep counts


def test_policy_of_full_depth_equals_itself() -> None:
    """No text differs, and the cost is one."""
    pair = against_depths(own("full"))[-1]
    assert (pair.against, pair.won, pair.lost, pair.difference, pair.cost) == ("full", 0, 0, 0.0, 1.0)
    assert pair.low == -pair.high and 0 < pair.high < 0.01


def test_policy_that_follows_the_load_has_rows_per_rung() -> None:
    """There is no queue here: each rung is compared by itself."""
    found = against_depths(own("load:idle=(full),busy=(fixed:2),at=32"))
    assert [(pair.policy, pair.against) for pair in found if pair.cost == 1.0] == [
        ("full", "full"),
        ("fixed:2", "fixed:2"),
    ]


@pytest.mark.parametrize(("wins", "losses", "n"), [(0.05, 0.05, 300), (0.08, 0.02, 300), (0.02, 0.01, 1000)])
def test_intervals_hold_the_true_difference_in_95_of_100_draws(wins: float, losses: float, n: int) -> None:
    """20,000 draws of won and lost texts; normal approximations miss by a point or so."""
    shares = torch.tensor([wins, losses, 1 - wins - losses], dtype=torch.float64)
    rng = torch.Generator().manual_seed(0)
    draws = torch.multinomial(shares.repeat(20_000, 1), n, replacement=True, generator=rng)
    counts = torch.stack([(draws == 0).sum(1), (draws == 1).sum(1)], dim=1).tolist()
    held = sum(low <= wins - losses <= high for low, high in (interval(won, lost, n) for won, lost in counts))
    assert 0.945 < held / 20_000 < 0.975


def test_interval_by_hand() -> None:
    """19 won and 6 lost of 682: (13 ± 1.96 √(26 - 169/684)) / 684."""
    assert interval(19, 6, 682) == pytest.approx((0.00446, 0.03355), abs=1e-5)


def test_command_prints_them_in_every_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a table, as JSON and on the page."""
    outputs, page = tmp_path / "o.safetensors", tmp_path / "o.html"
    own("cwb:delta=0.5,window=2").save(outputs)
    assert main(["evaluate", "--from", str(outputs), "--html", str(page)]) == 0
    assert "against fixed depths" in capsys.readouterr().out and "against fixed depths" in page.read_text("utf-8")
    assert main(["evaluate", "--from", str(outputs), "--policies", "fixed:2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["own_against_depths"]
    assert [row["against"] for row in rows] == ["fixed:1", "fixed:2", "fixed:3", "fixed:4", "fixed:5", "full"]
