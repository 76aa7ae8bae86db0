"""Evaluation: what is stored is what the runners say; certificates hold at their stated rate."""

import dataclasses
import json
import math
import shutil
from pathlib import Path
from random import Random

import pytest
import torch

from earlybird.engine.config import EngineConfig, ModelConfig
from earlybird.engine.engine import BUNDLED_FOLDER, Engine
from earlybird.engine.errors import ConfigError, DataError, ManifestMismatch
from earlybird.engine.evaluation.binomial import tail, texts_needed
from earlybird.engine.evaluation.calibrate import candidates, certificate, fixed_sequence
from earlybird.engine.evaluation.certify import write_certificate
from earlybird.engine.evaluation.outputs import Outputs, outputs_of
from earlybird.engine.evaluation.sweep import at_accuracy, at_cost, evaluate, grid, sweep
from earlybird.engine.exits.spec import parse
from earlybird.engine.flops import flops
from earlybird.engine.manifest import read
from earlybird.engine.text.assembly import Text
from earlybird.engine.training.data import Example
from earlybird.engine.types import Request
from earlybird.stream.cli import main

CONFIG = ModelConfig(97, 16, 32, 2, 64, 6, 40, "project_then_norm", "mean", "gelu", 1e-12)

TEXTS = [
    Example(f"{name} {event}", label)
    for name in ("Norvex", "Veltrix Robotics", "Harbour Foods")
    for event, label in (
        ("lifts full-year outlook after record orders", 2),
        ("cuts dividend and warns of weaker demand", 0),
        ("names Anna Berg as chair of the board", 1),
        ("shares fall 12% as profit misses estimates", 0),
    )
]


def synthetic(texts: int, seed: int, layers: int = 6, learned: bool = False) -> Outputs:
    """Outputs of an imagined model: later exits are surer, and right more often."""
    rng = torch.Generator().manual_seed(seed)
    label = torch.randint(3, (texts,), generator=rng)
    signal = torch.nn.functional.one_hot(label, 3)[:, None] * torch.linspace(0.8, 2.5, layers)[None, :, None]
    noise = torch.randn(texts, 1, 3, generator=rng) + 0.6 * torch.randn(texts, layers, 3, generator=rng)
    certainty = torch.rand(texts, layers, generator=rng) if learned else None
    length = torch.randint(5, 40, (texts,), generator=rng)
    config = dataclasses.replace(CONFIG, layers=layers, learned_exits="shared" if learned else "none")
    return Outputs(config, "0" * 64, "1" * 64, "full", (signal + noise).float(), certainty, label, length)


def test_stored_outputs_are_what_the_runner_says(tmp_path: Path) -> None:
    """The bundled model over twelve texts: every policy gives the runner's label and layer, also from a stored file."""
    outputs = outputs_of("bundled", TEXTS)
    outputs.save(tmp_path / "o.safetensors")
    again = Outputs.load(tmp_path / "o.safetensors")
    assert torch.equal(again.logits, outputs.logits) and again.config == outputs.config
    for spec in (outputs.policy, "fixed:2", "patience:count=1", "full"):
        engine = Engine.load(EngineConfig(policy=spec, runner="reference", device="cpu"))
        runner, point = engine.runner(), evaluate(parse(spec, engine.max_layers), again)
        encoded = engine.encoder.encode([Text((example.text,)) for example in TEXTS])
        runner.submit([Request(row, item.token_ids) for row, item in enumerate(encoded) if item])
        said = [verdict for _ in TEXTS for verdict in runner.step()]
        right = sum(verdict.label == TEXTS[verdict.ticket].label for verdict in said)
        assert point.accuracy == pytest.approx(right / len(TEXTS))
        assert point.mean_depth == pytest.approx(sum(verdict.exit_layer for verdict in said) / len(TEXTS))


def test_costs_are_the_operations_of_each_text() -> None:
    """By its own length and depth; full depth saves nothing."""
    outputs = synthetic(200, seed=0)
    (two,) = sweep(outputs, ["fixed:2"])
    by_hand = sum(flops(outputs.config, length, 2) for length in outputs.length.tolist()) / 200
    assert two.gflops == pytest.approx(by_hand / 1e9)
    (full,) = sweep(outputs, ["full"])
    assert (full.saved, full.lost, full.won, full.exits[-1]) == (0.0, 0, 0, 200)


@pytest.mark.parametrize("learned", [False, True])
def test_the_grid_holds_every_family_that_can_act(learned: bool) -> None:
    """In a model of 6 layers; in one of 2 most families have nothing to decide."""
    families = {spec.partition(":")[0] for spec in grid(6, learned)}
    expected = {"fixed", "full", "entropy", "maxprob", "patience", "cwb", "similarity"}
    assert families == expected | ({"learned"} if learned else set())
    assert {spec.partition(":")[0] for spec in grid(2, False)} == {"fixed", "full", "entropy", "maxprob"}


def test_matched_cost_and_accuracy_by_search() -> None:
    """The best of each family, found again by looking through all points."""
    points = sweep(synthetic(400, seed=1))
    for match in at_cost(points, 0.5):
        mine = [p for p in points if p.family == match.family and p.saved >= 0.5]
        assert (match.point is None) == (not mine)
        assert match.point is None or match.point.accuracy == max(p.accuracy for p in mine)
    full = next(p for p in points if p.family == "full")
    for match in at_accuracy(points, 0.01):
        mine = [p for p in points if p.family == match.family and p.accuracy >= full.accuracy - 0.01]
        assert match.point is None or match.point.saved == max(p.saved for p in mine)


@pytest.mark.parametrize(("k", "n", "p"), [(0, 10, 0.3), (3, 10, 0.3), (7, 40, 0.01), (2, 473, 0.01), (10, 10, 0.9)])
def test_binomial_tails_are_exact(k: int, n: int, p: float) -> None:
    """Against the sum of whole-number binomials."""
    expected = math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))
    assert tail(k, n, p) == pytest.approx(expected, rel=1e-9)


def test_texts_needed_for_one_percent_at_95() -> None:
    """299 without a loss, 473 with one, 628 with two; one text fewer does not do."""
    assert [texts_needed(losses, 0.01, 0.95) for losses in range(8)] == [299, 473, 628, 773, 913, 1049, 1182, 1312]
    for losses in range(8):
        needed = texts_needed(losses, 0.01, 0.95)
        assert tail(losses, needed, 0.01) <= 0.05 < tail(losses, needed - 1, 0.01)


def test_too_few_texts_are_refused_with_the_number_needed() -> None:
    """Before anything is claimed."""
    with pytest.raises(ConfigError, match="at least 299 texts"):
        fixed_sequence(synthetic(298, seed=0), ["fixed:2"], 0.01, 0.95)


def test_a_certificate_names_the_cheapest_threshold_before_the_first_failure() -> None:
    """Safest first; what comes after a failure is not looked at, however few it would lose."""
    outputs = synthetic(3000, seed=2)
    specs = candidates("cwb:delta=*,window=0", 6, learned=False)
    assert specs[0] == "cwb:delta=0.02,window=0" and len(specs) == 49
    tested = fixed_sequence(outputs, specs, 0.02, 0.95)
    assert [each.certified for each in tested] == [True] * (len(tested) - 1) + [False]
    found = certificate(outputs, tested, 0.02, 0.95)
    assert found is not None and found.policy == specs[len(tested) - 2]
    assert found.p_value <= 0.05 and found.texts == 3000 and found.lost <= 60
    assert certificate(outputs, tested[-1:], 0.02, 0.95) is None


def test_the_bound_holds_at_its_stated_rate() -> None:
    """400 calibration sets drawn from 40,000 texts: the true loss is over the bound in at most 10 % of the draws.

    Plus what chance allows (three standard errors); and in some draws it is, so that the test could fail.
    """
    world, bound, confidence = synthetic(40_000, seed=3), 0.05, 0.9
    specs = candidates("cwb:delta=*,window=0", 6, learned=False)
    rates = {point.policy: point.lost / len(world) for point in sweep(world, specs)}
    rng, broken, found = Random(0), 0, 0
    for _ in range(400):
        rows = torch.tensor(rng.sample(range(len(world)), 300))
        drawn = dataclasses.replace(
            world, logits=world.logits[rows], label=world.label[rows], length=world.length[rows]
        )
        chosen = certificate(drawn, fixed_sequence(drawn, specs, bound, confidence), bound, confidence)
        if chosen is not None:
            found += 1
            broken += rates[chosen.policy] > bound
    allowed = 1 - confidence
    assert found > 300
    assert 0 < broken / 400 <= allowed + 3 * math.sqrt(allowed * (1 - allowed) / 400)


@pytest.mark.parametrize("spec", ["cwb:delta=*,window=*", "fixed:*", "cwb:delta=*,window=2|patience:count=1"])
def test_only_a_known_threshold_can_be_free(spec: str) -> None:
    """One, of one family."""
    with pytest.raises(ConfigError, match="one free parameter"):
        candidates(spec, 6, learned=False)


def test_a_certificate_goes_into_the_manifest_of_its_weights_only(tmp_path: Path) -> None:
    """The certified policy becomes the model's own; the engine loads it."""
    folder = tmp_path / "model"
    shutil.copytree(BUNDLED_FOLDER, folder)
    outputs = dataclasses.replace(synthetic(1000, seed=4), model_sha256=read(folder).weights_sha256)
    tested = fixed_sequence(outputs, ["cwb:delta=0.02,window=0"], 0.02, 0.95)
    found = certificate(outputs, tested, 0.02, 0.95)
    assert found is not None
    write_certificate(folder, found)
    assert read(folder).certificate == dataclasses.asdict(found)
    assert Engine.load(EngineConfig(model=str(folder))).policy.spec == "cwb:delta=0.02,window=0"
    with pytest.raises(ManifestMismatch, match="other weights"):
        write_certificate(folder, dataclasses.replace(found, model_sha256="f" * 64))


def test_stored_outputs_that_are_none_are_refused(tmp_path: Path) -> None:
    """With the file's name."""
    (tmp_path / "x").write_bytes(b"nothing")
    with pytest.raises(DataError, match="no stored outputs"):
        Outputs.load(tmp_path / "x")


def test_the_commands_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Evaluate and keep; the stored outputs again as JSON; a calibration that is refused for want of texts."""
    path = tmp_path / "texts.jsonl"
    lines = [json.dumps({"text": e.text, "label": ("negative", "neutral", "positive")[e.label]}) for e in TEXTS]
    path.write_text("\n".join(lines), "utf-8")
    page = tmp_path / "report.html"
    assert main(["evaluate", str(path), "--keep", str(tmp_path / "o"), "--html", str(page)]) == 0
    assert "most accurate of each family" in capsys.readouterr().out
    html = page.read_text("utf-8")
    assert html.count("<svg") == 3 and "<script" not in html and "src=" not in html
    assert main(["evaluate", "--from", str(tmp_path / "o"), "--policies", "fixed:2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["texts"], {point["family"] for point in report["points"]}) == (12, {"fixed", "cwb", "full"})
    assert main(["calibrate", "--from", str(tmp_path / "o")]) == 2
    assert "at least 299 texts" in capsys.readouterr().err
    assert main(["evaluate"]) == 2
