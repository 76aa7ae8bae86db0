"""Several models on the same texts: equal cost, settings chosen elsewhere, baselines, stored outputs."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from earlybird.engine.errors import ConfigError
from earlybird.engine.evaluation.compare import TOLERANCE, compare, run_name, trained_point
from earlybird.engine.evaluation.outputs import Outputs
from earlybird.engine.evaluation.sweep import sweep
from earlybird.stream.cli import main
from imagined_outputs import synthetic

TARGETS = (0.25, 0.5, 0.75)


def test_a_row_is_the_median_over_the_seeds_of_one_run() -> None:
    """Three seeds with settings of their own; two runs stay two rows."""
    seeds = [synthetic(300, seed=1, noise=noise, model=f"joint-seed-{noise}") for noise in range(3)]
    found = compare([*seeds, synthetic(300, seed=1, noise=9, model="elbert-seed-0")], [], [], TARGETS)
    assert [(row.name, row.seeds) for row in found.rows] == [("joint", 3), ("elbert", 1)]
    accuracies = sorted(sweep(each, ["full"])[0].accuracy for each in seeds)
    assert found.rows[0].full.accuracy == accuracies[1]
    assert found.rows[0].full.spread == pytest.approx(accuracies[2] - accuracies[0])
    cell = found.rows[0].exits[0.5]
    assert cell is not None and len(cell.policies) == 3
    assert not any(policy.startswith(("fixed", "full")) for policy in cell.policies)


def test_families_are_compared_over_all_models() -> None:
    """The best entropy threshold of each of three models, by search; only one of them has learned exits."""
    models = [synthetic(300, seed=1, noise=noise, model=f"joint-seed-{noise}") for noise in range(2)]
    learned = synthetic(300, seed=1, noise=5, model="berxit-seed-0", strategy="berxit")
    found = compare([*models, learned], [], [], TARGETS).families
    whole = float(learned.costs[:, -1].mean())
    tops = []
    for each in (*models, learned):
        points = [point for point in sweep(each) if point.family == "entropy"]
        tops.append(max(p.accuracy for p in points if 1 - p.gflops * 1e9 / whole >= 0.5 - TOLERANCE))
    cell, own = found["entropy"][0.5], found["learned"][0.5]
    assert cell is not None and own is not None
    assert cell.accuracy == sorted(tops)[1]
    assert (len(cell.policies), len(own.policies)) == (3, 1)
    assert "full" not in found and "fixed" in found


def test_settings_chosen_elsewhere_are_judged_here() -> None:
    """The chosen policy is the best of the other texts, its accuracy that of these."""
    here, there = synthetic(300, seed=1), synthetic(300, seed=2)
    found = compare([here], [], [there], TARGETS)
    (row,) = found.rows
    for target in TARGETS:
        cell = row.exits[target]
        assert cell is not None
        allowed = [p for p in sweep(there) if p.family not in ("fixed", "full") and p.saved >= target - TOLERANCE]
        best = max(allowed, key=lambda point: (point.accuracy, point.saved))
        (judged,) = sweep(here, [best.policy])
        assert (cell.policies, cell.accuracy) == ((best.policy,), judged.accuracy)
        assert cell.saved == pytest.approx(judged.saved)


def test_the_cost_is_that_of_one_reference_for_all() -> None:
    """A model of 3 layers saves half of one of 6 at its own full depth, and stands at that cost as a baseline."""
    deep, shallow = synthetic(300, seed=1, model="deep"), synthetic(300, seed=1, layers=3, model="shallow")
    found = compare([deep], [shallow], [], TARGETS)
    ((name, cell),) = found.baselines
    assert (name, found.reference) == ("shallow", "deep")
    assert cell.saved == pytest.approx(1 - float(shallow.costs[:, -1].mean() / deep.costs[:, -1].mean()))
    half = found.trained[0.5]
    assert half is not None and (half.policies, half.accuracy) == (("shallow",), cell.accuracy)
    assert found.trained[0.75] is None
    point = trained_point(shallow, deep)
    assert (point.family, point.policy, point.accuracy) == ("trained", "shallow", cell.accuracy)
    full = sweep(deep, ["full"])[0]
    assert point.accuracy * 300 == pytest.approx(full.accuracy * 300 - point.lost + point.won)


def test_outputs_of_other_texts_are_refused() -> None:
    """Beside each other, as baselines and to choose by."""
    here, there = synthetic(50, seed=1, model="a"), synthetic(50, seed=2, model="b")
    with pytest.raises(ConfigError, match="the same texts"):
        compare([here, there], [], [], TARGETS)
    with pytest.raises(ConfigError, match="the same texts"):
        compare([here], [there], [], TARGETS)
    with pytest.raises(ConfigError, match="outputs of a required"):
        compare([here], [], [dataclasses.replace(there, model_sha256="b" * 64)], TARGETS)


@pytest.mark.parametrize(("model", "name"), [("mine-seed-2", "mine"), ("mine", "mine"), ("", "000000000000")])
def test_a_run_is_named_without_its_seed(model: str, name: str) -> None:
    """By its weights where there is no id."""
    assert run_name(synthetic(5, seed=0, model=model)) == name


def stored(folder: Path) -> list[str]:
    """Store two models and a shallow one, each on two files of texts and on one to choose by."""
    names = []
    for texts, seed in (("news", 1), ("posts", 2), ("choose", 3)):
        for model, layers in (("joint-seed-0", 6), ("elbert-seed-0", 6), ("shallow-seed-0", 3)):
            outputs = synthetic(120, seed=seed, layers=layers, model=model, texts=texts)
            outputs.save(folder / f"{model}.{texts}.safetensors")
            names.append(str(folder / f"{model}.{texts}.safetensors"))
    return names


def test_the_command_compares_stored_outputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All outputs named by one pattern: baselines and texts to choose by are no rows."""
    names = stored(tmp_path)
    choose = [name for name in names if ".choose." in name and "shallow" not in name]
    baselines = [name for name in names if "shallow" in name]
    words = ["evaluate", "--from", *names, "--choose", *choose, "--baseline", *baselines]
    assert main([*words, "--json", "--svg", str(tmp_path / "a.svg")]) == 0
    found = json.loads(capsys.readouterr().out)["comparisons"]
    assert [each["texts"] for each in found] == ["news", "posts"]
    assert all([row["name"] for row in each["rows"]] == ["joint", "elbert"] for each in found)
    assert all(each["chosen_elsewhere"] and each["baselines"][0][0] == "shallow" for each in found)
    picture = (tmp_path / "a.svg").read_text("utf-8")
    assert picture.startswith("<svg") and "joint, fixed depths" in picture and "trained at that depth" in picture
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "news, 120 texts: accuracy" in shown and "chosen on other texts" in shown
    assert main([*words, "--html", str(tmp_path / "x.html")]) == 2


def test_tables_are_written_as_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Figures are those of the JSON; with several seeds the spread stands beside the median."""
    seeds = [synthetic(200, seed=1, model=f"joint-seed-{seed}", noise=seed) for seed in range(3)]
    for outputs in seeds:
        outputs.save(tmp_path / f"{outputs.model}.safetensors")
    page, names = tmp_path / "tables.md", [str(tmp_path / f"{outputs.model}.safetensors") for outputs in seeds]
    assert main(["evaluate", "--from", *names, "--markdown", str(page), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["comparisons"][0]["rows"]
    lines = page.read_text("utf-8").splitlines()
    full, exits = row["full"], row["exits"]["0.5"]
    assert full["spread"] > 0, "seeds alike: this test says nothing"
    (figures,) = [line for line in lines if line.startswith("| `joint` | 3 |")]
    assert f"| {full['accuracy']:.3f} (0%; {full['spread']:.3f}) |" in figures
    assert f"| {exits['accuracy']:.3f} ({exits['saved']:.0%}; {exits['spread']:.3f}) |" in figures
    (settings,) = [line for line in lines if line.startswith("| `joint` | `")]
    assert f"| `{exits['policies'][0]}` |" in settings
    assert main(["evaluate", "--from", names[0], "--markdown", str(page)]) == 2
    assert "several models" in capsys.readouterr().err


def test_a_baseline_is_a_row_beside_fixed_depths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of one model on one file, from stored outputs; another model would need texts."""
    stored(tmp_path)
    one = str(tmp_path / "joint-seed-0.news.safetensors")
    words = ["evaluate", "--from", one, "--baseline", str(tmp_path / "shallow-seed-0.news.safetensors"), "--json"]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    (row,) = [point for point in report["points"] if point["family"] == "trained"]
    assert row["policy"] == "shallow-seed-0" and row["saved"] == pytest.approx(0.5, abs=0.01)
    assert any(match["family"] == "trained" for match in report["at_saved"])
    assert main(["evaluate", "--from", one, "--baseline", "bundled"]) == 2
    assert "stored outputs required" in capsys.readouterr().err


def test_models_over_texts_are_kept_and_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bundled model on two files; what --keep stored gives the same comparison."""
    paths = []
    for name, phrases in (("a", ("lifts outlook", "cuts outlook")), ("b", ("names a chair", "misses estimates"))):
        path = tmp_path / f"{name}.jsonl"
        lines = [
            json.dumps({"text": f"Firm{number} {phrases[number % 2]}", "label": ("positive", "negative")[number % 2]})
            for number in range(6)
        ]
        path.write_text("\n".join(lines), "utf-8")
        paths.append(str(path))
    assert main(["evaluate", *paths, "--keep", str(tmp_path / "kept"), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    kept = sorted(str(path) for path in (tmp_path / "kept").iterdir())
    assert [Path(name).name.split(".")[1] for name in kept] == ["a", "b"]
    assert main(["evaluate", "--from", *kept, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first
    again = Outputs.load(Path(kept[0]))
    assert (again.texts, again.strategy) == ("a", "elbert") and again.model
    assert torch.equal(again.label, torch.tensor([2, 0, 2, 0, 2, 0]))
