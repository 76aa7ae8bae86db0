"""Temperatures change what is reported, never what is decided; they fit the exits of one policy."""

import dataclasses
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs

from earlybird.engine.config import EngineConfig, ModelConfig
from earlybird.engine.engine import BUNDLED_FOLDER, Engine
from earlybird.engine.errors import ConfigError, ManifestMismatch
from earlybird.engine.evaluation.explain import explain
from earlybird.engine.evaluation.outputs import Outputs, outputs_of
from earlybird.engine.evaluation.sweep import sweep
from earlybird.engine.evaluation.temperatures import FOLDS, fit_temperatures, temperature
from earlybird.engine.exits.spec import parse
from earlybird.engine.exits.walk import walk
from earlybird.engine.manifest import MANIFEST, read
from earlybird.engine.text.assembly import Text
from earlybird.engine.training.data import Example
from earlybird.engine.types import Request, Verdict
from earlybird.stream.cli import main
from earlybird.stream.config.settings import Settings
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.service import _announce, origin_of

CONFIG = ModelConfig(97, 16, 32, 2, 64, 3, 40, "project_then_norm", "mean", "gelu", 1e-12)
POLICY = "entropy:threshold=0.2"  # exits of the texts below spread
VALUES = (0.5, 1.7, 2.5)
TEXTS = [
    f"{name} {event}"
    for name in ("Norvex", "Veltrix Robotics", "Harbour Foods")
    for event in (
        "lifts its outlook",
        "cuts dividend and warns of weak demand",
        "names a chair",
        "slips 1 % on thin trade",
        "strike ends after wage deal",
    )
]


def drawn(texts: int, temperatures: tuple[float, ...], seed: int = 0) -> Outputs:
    """Outputs whose labels are drawn from softmax(logits / temperature), each depth with its own."""
    rng = torch.Generator().manual_seed(seed)
    logits = 2.5 * torch.randn(texts, len(temperatures), 3, generator=rng)
    logits[:, 1:] = logits[:, :1] + 0.3 * logits[:, 1:]
    depth = walk(parse("entropy:threshold=0.4", 3), _outputs(logits, torch.zeros(texts).long()).by_depth()).depth
    scale = torch.tensor(temperatures)[depth - 1][:, None]
    chances = (logits[torch.arange(texts), depth - 1] / scale).softmax(dim=-1)
    return _outputs(logits, torch.multinomial(chances, 1, generator=rng)[:, 0])


def _outputs(logits: torch.Tensor, label: torch.Tensor) -> Outputs:
    return Outputs(CONFIG, "0" * 64, "1" * 64, "full", logits, None, label, torch.full((len(label),), 9))


def fitted_folder(tmp_path: Path, policy: str = POLICY, values: tuple[float, ...] = VALUES) -> Path:
    """The bundled model with temperatures in its manifest."""
    folder = Path(shutil.copytree(BUNDLED_FOLDER, tmp_path / f"model-{len(list(tmp_path.iterdir()))}"))
    fields = json.loads((folder / MANIFEST).read_text())
    entry = {"policy": policy, "values": list(values), "texts": 1000, "texts_sha256": "1" * 64}
    (folder / MANIFEST).write_text(json.dumps({**fields, "temperatures": [entry]}))
    return folder


def said(engine: Engine, texts: list[str] = TEXTS) -> dict[int, Verdict]:
    runner = engine.runner()
    encoded = engine.encoder.encode([Text((text,)) for text in texts])
    runner.submit([Request(row, item.token_ids) for row, item in enumerate(encoded) if item is not None])
    found: dict[int, Verdict] = {}
    while len(found) < len(texts):
        found.update((verdict.ticket, verdict) for verdict in runner.step())
    return found


def test_the_fit_is_the_minimum_of_the_smoothed_loss() -> None:
    """Against a walk over a thousand temperatures."""
    rng = torch.Generator().manual_seed(1)
    logits, label = 3 * torch.randn(300, 3, generator=rng), torch.randint(3, (300,), generator=rng)
    logits[torch.arange(300), label] += 2.0
    target = (torch.nn.functional.one_hot(label, 3).double() * 300 + 1) / 303

    def loss(value: float) -> float:
        return float(-(target * (logits.double() / value).log_softmax(dim=-1)).sum())

    grid = [0.5 * 1.005**step for step in range(1000)]
    assert temperature(logits, label) == pytest.approx(min(grid, key=loss), rel=0.006)


def test_known_temperatures_are_found_again_by_depth() -> None:
    """20,000 texts, labels drawn at other temperatures: the error of unseen texts falls to what chance leaves."""
    fitted = fit_temperatures(drawn(20_000, (2.0, 0.6, 1.3)), "entropy:threshold=0.4")
    assert fitted.temperatures.values == pytest.approx((2.0, 0.6, 1.3), rel=0.1)
    assert [each.depth for each in fitted.depths] == [1, 2, 3] and all(each.own for each in fitted.depths)
    assert fitted.helps and fitted.together.error_after < 0.02 < 0.05 < fitted.together.error_before
    assert sum(each.texts for each in fitted.depths) == fitted.together.texts == 20_000


def test_a_depth_without_an_error_does_not_report_certainty() -> None:
    """200 texts, all right: the mean confidence is (200 + 1) / 203, as if one more of every class had been seen."""
    rng = torch.Generator().manual_seed(2)
    label = torch.randint(3, (200,), generator=rng)
    logits = torch.nn.functional.one_hot(label, 3) * 3.0
    confidence = (logits / temperature(logits, label)).softmax(dim=-1).amax(dim=-1)
    assert confidence.mean().item() == pytest.approx(201 / 203, abs=1e-4)


def test_a_depth_of_few_texts_shares_the_temperature_of_all() -> None:
    """And fewer than 100 texts are refused."""
    outputs = drawn(2_000, (1.5, 1.5, 1.5))
    rare = fit_temperatures(outputs, "entropy:threshold=0.95")
    few = [each for each in rare.depths if not each.own]
    assert few and all(each.texts < 100 for each in few)
    found = walk(parse("entropy:threshold=0.95", 3), outputs.by_depth())
    everyone = temperature(found.logits, outputs.label)
    assert all(each.temperature == pytest.approx(everyone) for each in few)
    with pytest.raises(ConfigError, match="at least 100 texts"):
        fit_temperatures(drawn(99, (1.0, 1.0, 1.0)), "full")


def test_errors_are_of_texts_that_the_fit_had_not_seen() -> None:
    """One policy of one depth: each fifth judged by a temperature fitted here on the other four."""
    outputs = drawn(500, (1.4, 1.4, 1.4), seed=5)
    losses = []
    for part in range(FOLDS):
        seen = torch.arange(500) % FOLDS != part
        value = temperature(outputs.logits[seen, -1], outputs.label[seen])
        log_probs = (outputs.logits[~seen, -1].double() / value).log_softmax(dim=-1)
        losses += (-log_probs.gather(1, outputs.label[~seen][:, None])).flatten().tolist()
    fitted = fit_temperatures(outputs, "full")
    assert fitted.together.loss_after == pytest.approx(math.fsum(losses) / 500, rel=1e-9)


@pytest.mark.parametrize("runner", ["reference", "packed", "resident"])
def test_every_runner_reports_them_and_decides_without(runner: str, tmp_path: Path) -> None:
    """Label, layer, reason, entropy and logits keep their bits; probabilities are softmax(logits / temperature)."""
    config = EngineConfig(model=str(fitted_folder(tmp_path)), policy=POLICY, runner=runner, device="cpu")  # type: ignore[arg-type]
    plain, scaled = said(Engine.load(dataclasses.replace(config, model="bundled"))), said(Engine.load(config))
    assert len({verdict.exit_layer for verdict in plain.values()}) > 1
    for ticket, before in plain.items():
        now = scaled[ticket]
        assert dataclasses.replace(now, probs=before.probs) == before
        expected = (torch.tensor(now.logits) / VALUES[now.exit_layer - 1]).softmax(dim=-1)
        assert now.probs == pytest.approx(expected.tolist(), abs=1e-6)
        assert now.probs.index(max(now.probs)) == now.label and now.probs != before.probs


def test_they_are_bound_to_their_policy_and_part_of_the_hash(tmp_path: Path) -> None:
    """Another policy reports as it decides; temperatures of 1 change no hash."""
    config = EngineConfig(model=str(fitted_folder(tmp_path)), policy=POLICY, device="cpu", runner="packed")
    plain = Engine.load(dataclasses.replace(config, model="bundled"))
    fitted = Engine.load(config)
    assert fitted.config_hash != plain.config_hash and fitted.calibrated
    other = dataclasses.replace(config, policy="fixed:2")
    assert Engine.load(other).temperatures is None
    assert Engine.load(other).config_hash == Engine.load(dataclasses.replace(other, model="bundled")).config_hash
    ones = Engine.load(dataclasses.replace(config, model=str(fitted_folder(tmp_path, values=(1.0, 1.0, 1.0)))))
    assert ones.temperatures is None and ones.config_hash == plain.config_hash
    explained = explain(fitted, TEXTS[0])
    assert explained.reported == pytest.approx(said(fitted)[0].probs) and explain(plain, TEXTS[0]).reported is None


def test_a_manifest_with_temperatures_that_do_not_fit_is_refused(tmp_path: Path) -> None:
    """Too few of them, none above 0, one policy twice."""
    for values, message in (((1.5, 1.5), "3 values required"), ((1.0, 0.0, 1.0), "greater than 0")):
        with pytest.raises(ManifestMismatch, match=message):
            read(fitted_folder(tmp_path, values=values))
    folder = fitted_folder(tmp_path)
    fields = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**fields, "temperatures": 2 * fields["temperatures"]}))
    with pytest.raises(ManifestMismatch, match="one entry per policy"):
        read(folder)


def test_calibrate_writes_them_beside_the_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The engine then reports them, `evaluate` judges them, and the announced model names both."""
    folder = Path(shutil.copytree(BUNDLED_FOLDER, tmp_path / "model"))
    outputs = dataclasses.replace(drawn(2_000, (2.0, 0.6, 1.3)), model_sha256=read(folder).weights_sha256)
    outputs.save(tmp_path / "kept")
    options = ["--from", str(tmp_path / "kept"), "--model", str(folder), "--policy", "entropy:threshold=0.4"]
    command = ["calibrate", *options, "--max-lost", "0.5", "--temperatures"]
    assert main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)["temperatures"]
    assert report["helps"] and read(folder).temperatures == ()
    assert main([*command, "--write"]) == 0
    assert "ECE before" in capsys.readouterr().out
    (entry,) = read(folder).temperatures
    assert entry.policy == "entropy:threshold=0.4" and list(entry.values) == report["values"]
    engine = Engine.load(EngineConfig(model=str(folder), device="cpu", runner="packed"))
    assert engine.temperatures is not None and engine.temperatures.tolist() == [report["values"]]
    assert engine.certificate == "at most 50.00% lost at 95% confidence"
    origin = origin_of(engine, Settings())
    with capture_logs() as lines:
        _announce(engine, origin, Metrics(engine.max_layers))
    assert origin.calibrated and lines[0]["event"] == "model.loaded"
    assert (lines[0]["certificate"], lines[0]["temperatures"]) == (engine.certificate, report["values"])
    mine = outputs_of(str(folder), [Example(text, 1) for text in TEXTS])
    mine.save(tmp_path / "mine")
    again = Outputs.load(tmp_path / "mine")
    (own,) = sweep(again, [entry.policy])
    (plain,) = sweep(dataclasses.replace(again, temperatures={}), [entry.policy])
    assert own.calibration_error != plain.calibration_error and own.accuracy == plain.accuracy


def test_temperatures_that_do_not_help_are_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Labels drawn from the reported probabilities themselves leave nothing to gain."""
    folder = Path(shutil.copytree(BUNDLED_FOLDER, tmp_path / "model"))
    sha256 = read(folder).weights_sha256
    seed = next(
        n for n in range(50) if not fit_temperatures(drawn(400, (1.0, 1.0, 1.0), n), "entropy:threshold=0.4").helps
    )
    outputs = dataclasses.replace(drawn(400, (1.0, 1.0, 1.0), seed), model_sha256=sha256)
    outputs.save(tmp_path / "kept")
    options = ["--from", str(tmp_path / "kept"), "--model", str(folder), "--policy", "entropy:threshold=0.4"]
    assert main(["calibrate", *options, "--max-lost", "0.5", "--temperatures", "--write"]) == 0
    assert "nothing is written" in capsys.readouterr().out
    assert read(folder).temperatures == () and read(folder).certificate is not None
