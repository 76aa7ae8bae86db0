"""The papers' tables: rows in their order, figures that a walk by hand gives, empty cells with their reason."""

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from earlybird.engine.config import AdapterConfig, EngineConfig, ModelConfig
from earlybird.engine.engine import Engine
from earlybird.engine.errors import ConfigError
from earlybird.engine.evaluation import paper_berxit, paper_elbert
from earlybird.engine.evaluation.outputs import Outputs
from earlybird.engine.evaluation.paper import EMPTY, Models, PaperTable, cross_layer
from earlybird.engine.evaluation.speed import Run, Slots
from earlybird.engine.evaluation.sweep import sweep
from earlybird.engine.training.data import Example
from earlybird.stream.cli import main
from imagined_outputs import synthetic


@cache  # the points of a sweep are computed once per outputs
def given(texts: str = "news", seed: int = 1) -> list[Outputs]:
    """Return one model per strategy, two seeds of joint."""
    strategies = (("joint", None), ("elbert", None), ("fastbert", None), ("berxit", None), ("pf_berxit", "convolution"))
    found = [
        synthetic(200, seed, noise=number, model=f"{name}-seed-0", strategy=name, module=module, texts=texts)
        for number, (name, module) in enumerate(strategies)
    ]
    return [*found, synthetic(200, seed, noise=9, model="joint-seed-1", strategy="joint", texts=texts)]


@pytest.fixture(scope="module")
def models() -> Models:
    """All models on one file of texts."""
    return Models({"news": given()})


@pytest.fixture(scope="module")
def berxit(models: Models) -> list[PaperTable]:
    """Tables 1, 2, 5 and 6 of stored outputs."""
    return paper_berxit.tables(models, not_at_hand)


def not_at_hand(outputs: Outputs, policy: str, slots: int) -> None:
    """Stand for stored outputs, whose models cannot run."""


def fake_run(outputs: Outputs, policy: str, slots: int) -> Run:
    """Return a rate that grows with the slots and shrinks with the cost."""
    (point,) = sweep(outputs, [policy])
    return Run(slots, policy, point.accuracy, point.saved, 10.0 * slots / (1 - point.saved))


def rows(table: PaperTable) -> dict[str, list[Any]]:
    """Values by the name in the first column; rows without a name are left out."""
    return {row[0].text: [cell.value for cell in row[1:]] for row in table.rows if row[0].text}


def test_table_1_is_the_mean_over_exits_and_the_median_over_seeds(berxit: list[PaperTable]) -> None:
    """In the paper's order; strategies without a model stay as empty rows, which a note names."""
    one = berxit[0]
    names = [row[0].text for row in one.rows]
    assert names[:8] == ["JOINT", "ALT", "2ST", "BERxiT", "PF (orig)", "PF (conv)", "PF (attn)", "PF (mlp)"]
    assert names[8:] == ["elbert (not in the paper)", "fastbert (not in the paper)"]
    by_hand = []
    for outputs in given():
        if outputs.strategy == "joint":
            right = [(outputs.logits[:, d].argmax(-1) == outputs.label).float().mean() for d in range(6)]
            by_hand.append(float(sum(right) / 6))
    assert rows(one)["JOINT"] == [pytest.approx(sum(by_hand) / 2)]
    assert rows(one)["ALT"] == [None] and rows(one)["PF (conv)"][0] is not None
    assert "alternating, two_stage, pf_berxit (module=identity)" in one.notes[-1]


def test_table_2_counts_the_published_models(berxit: list[PaperTable]) -> None:
    """ALBERT-base-v2 with convolution adapters: 631,296 of the adapters move, and the heads; the backbone does not."""
    config = ModelConfig(
        30_000, 128, 768, 12, 3072, 12, 512, "norm_then_project", "first", "gelu_new", 1e-12, 2,
        "per_layer", "per_layer", AdapterConfig(32, "ffn", "convolution"),
    )  # fmt: skip
    outputs = synthetic(20, 1, strategy="pf_berxit", module="convolution")
    published = dataclasses.replace(outputs, config=config)
    count, moved, adapters = paper_berxit.parameters(published)
    token_types = 2 * 128  # added to the positions in our format
    assert (count + token_types, moved, adapters) == (12_342_564, 631_296 + 18_456 + 9_228, 631_296)
    two = berxit[1]
    assert rows(two)["PABEE"] == [None, None, None] and "joint (classifiers=per_layer)" in two.notes[-1]
    assert rows(two)["ALBERT"][0] == rows(two)["ALBERT"][1] > 0
    assert rows(two)["PF-BERxiT (conv)"][2] == pytest.approx(cross_layer(given()[4]))


def test_table_5_has_each_rule_on_its_model_within_the_bands(berxit: list[PaperTable]) -> None:
    """Fixed exits at a quarter, half and three quarters; every other row saves what its band says."""
    five = berxit[2]
    names = [row[0].text for row in five.rows if row[0].text]
    assert names[:4] == ["Backbone", "Exit-2L", "Exit-3L", "Exit-4L"]
    assert names[4:] == ["Branchy Net", "Shallow-deep", "BERxiT", "PABEE", "ELBERT-6L", "PF-BERxiT"]
    assert five.columns == ("", "news score", "speed")
    ruled = five.rows[4:-1]
    for number, row in enumerate(ruled):
        low, high = paper_berxit.BANDS[number % 3]
        assert row[2] == EMPTY or low <= (row[2].value or 0) <= high
    assert sum(row[2] != EMPTY for row in ruled) > 6
    elbert = [p for p in sweep(given()[1]) if p.family == "cwb" and 0.45 <= p.saved <= 0.55]
    start = next(number for number, row in enumerate(five.rows) if row[0].text == "ELBERT-6L")
    assert five.rows[start + 1][1].value == max(point.accuracy for point in elbert)
    assert any("joint" in note and "entropy" in note for note in five.notes)


def test_a_rule_without_its_model_says_which_one_it_used() -> None:
    """And the learned rule stays empty where no model has the heads."""
    two = Models({"news": given()[:2]})
    five = paper_berxit.tables(two, not_at_hand)[2]
    learned = next(row for row in five.rows if row[0].text == "BERxiT")
    assert learned[1] == EMPTY
    assert any(note.startswith("BERxiT:") and "No model of strategy berxit" in note for note in five.notes)


def test_settings_are_chosen_on_other_texts_where_these_are_given() -> None:
    """Table 5 then judges what was best elsewhere."""
    there = {each.model_sha256: each for each in given("choose", 7)}
    models = Models({"news": given()}, there)
    five = paper_berxit.tables(models, not_at_hand)[2]
    start = next(number for number, row in enumerate(five.rows) if row[0].text == "ELBERT-6L")
    elbert = given()[1]
    allowed = [p for p in models.points(there[elbert.model_sha256]) if p.family == "cwb" and 0.45 <= p.saved <= 0.55]
    best = max(allowed, key=lambda point: (point.accuracy, point.saved))
    assert five.rows[start + 1][1].value == sweep(elbert, [best.policy])[0].accuracy
    assert any("other texts" in note for note in five.notes)
    with pytest.raises(ConfigError, match="none were of elbert-seed-0"):
        Models({"news": given()}, {k: v for k, v in there.items() if k != elbert.model_sha256})


def test_tables_3_and_4_take_the_cheapest_setting_above_the_line(models: Models) -> None:
    """Ratio and speed-up are those of the runs; both rules reach one line."""
    three, four = paper_elbert.tables(models, fake_run)
    elbert = given()[1]
    (full,) = sweep(elbert, ["full"])
    good = [p for p in sweep(elbert) if p.family == "cwb" and p.accuracy >= full.accuracy - paper_elbert.TOLERABLE]
    best = max(good, key=lambda point: (point.saved, point.accuracy))
    assert three.columns[:3] == ("Datasets", "Accuracy", "Batch size")
    one, many = three.rows
    assert one[1].value == best.accuracy
    assert one[4].value == pytest.approx(10 / (1 - best.saved))
    assert many[2].text == "N" and many[4].value == pytest.approx(320 / (1 - best.saved))
    assert one[3].value and one[5].value == pytest.approx((one[4].value or 0) / one[3].value)
    values = rows(four)
    assert values["Accuracy"] == [full.accuracy, best.accuracy, best.accuracy]
    assert values["Speed-up"] == [1.0, pytest.approx(1 / (1 - best.saved)), pytest.approx(32 / (1 - best.saved))]
    assert values["Speed-up in operations"][1] == pytest.approx(1 / (1 - best.saved))


def test_without_models_at_hand_rates_are_empty_and_say_why(berxit: list[PaperTable]) -> None:
    """Of stored outputs alone, and without a FastBERT."""
    three, four = paper_elbert.tables(Models({"news": given()[:2]}), not_at_hand)
    assert [row[3:] for row in three.rows] == [(EMPTY,) * 3] * 2
    assert rows(four)["Speed (text/s)"] == [None] * 3 and rows(four)["Speed-up in operations"][1] is not None
    assert any("--paper" in note for note in three.notes) and any("fastbert" in note for note in three.notes)
    six = berxit[3]
    assert [row[0].text for row in six.rows if row[0].text] == ["Base", "1", "2", "4", "8", "16"]
    assert all(row[1] == EMPTY for row in six.rows[1:]) and any("--model" in note for note in six.notes)


TEXTS = [
    Example(f"{name} {event}", label)
    for name in ("Norvex", "Veltrix Robotics", "Harbour Foods")
    for event, label in (("lifts outlook after record orders", 2), ("cuts dividend", 0), ("names a chair", 1))
]


def test_slots_do_not_change_a_result() -> None:
    """Nine texts through 1, 2 and 16 slots: one accuracy, one cost, that of the runner's own walk."""
    slots = Slots("bundled", TEXTS)
    runs = [slots.run("fixed:2", number) for number in (1, 2, 16)]
    assert {(run.accuracy, round(run.saved, 9)) for run in runs} == {(runs[0].accuracy, round(runs[0].saved, 9))}
    layers = Engine.load(EngineConfig(device="cpu")).max_layers
    assert runs[0].saved == pytest.approx(1 - 2 / layers, abs=0.01) and runs[0].texts_per_s > 0


def test_the_command_prints_the_six_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For the bundled model and a file, with measured rates; the same from stored outputs, without."""
    path = tmp_path / "news.jsonl"
    labels = ("negative", "neutral", "positive")
    path.write_text("\n".join(json.dumps({"text": e.text, "label": labels[e.label]}) for e in TEXTS), "utf-8")
    kept = tmp_path / "kept"
    assert main(["evaluate", str(path), "--paper", "--json", "--keep", str(kept)]) == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    assert [table["table"] for table in tables] == ["Table III", "Table IV", "Table 1", "Table 2", "Table 5", "Table 6"]
    speed = next(row for row in tables[1]["rows"] if row[0] == "Speed (text/s)")
    assert speed[1] > 0
    (stored,) = kept.iterdir()
    assert main(["evaluate", "--from", str(stored), "--paper"]) == 0
    shown = capsys.readouterr().out
    assert "PF-BERxiT, Table 6" in shown and "earlybird train --strategy" in shown
    assert main(["evaluate", str(path), "--paper", "--svg", "x.svg"]) == 2
