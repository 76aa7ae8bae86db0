"""A share of another model's weights in the result of a training."""

import json
from pathlib import Path

import pytest
import torch

from earlybird.engine.config import ModelConfig
from earlybird.engine.engine import BUNDLED_FOLDER
from earlybird.engine.errors import ConfigError
from earlybird.engine.training.network import initial_tensors
from earlybird.engine.training.start import from_model, mixed, reshaped
from earlybird.engine.weights import load
from earlybird.stream.cli import main
from small_albert import save_albert

SMALL = ModelConfig(97, 16, 32, 2, 64, 2, 40, "norm_then_project", "first", "gelu_new", 1e-12)


def test_the_result_lies_between_both_models(tmp_path: Path) -> None:
    """The manifest names the other model, and a resumed run is not mixed twice."""
    file = tmp_path / "texts.jsonl"
    lines = [json.dumps({"text": f"Firm{n} lifts outlook", "label": "positive"}) for n in range(30)]
    file.write_text("\n".join(lines), "utf-8")
    options = ["--start", "bundled", "--train", str(file), "--epochs", "1", "--learning-rate", "1e-2"]
    assert main(["train", *options, "--output", str(tmp_path / "own")]) == 0
    mixing = [
        "train",
        *options,
        "--output",
        str(tmp_path / "mix"),
        "--mix",
        f"{BUNDLED_FOLDER}=0.05",
        f"{BUNDLED_FOLDER}=0.2",
    ]
    assert main(mixing) == 0
    own = load(tmp_path / "own" / "seed-0" / "model").tensors
    start = from_model(str(BUNDLED_FOLDER)).tensors
    for _ in range(2):
        found = load(tmp_path / "mix" / "seed-0" / "model").tensors
        for name, tensor in found.items():
            wanted = 0.75 * own[name].float() + 0.25 * start[name].float()
            torch.testing.assert_close(tensor.float(), wanted, atol=5e-4, rtol=1e-3)
        assert main([*mixing, "--resume"]) == 0
    assert any((own[name].float() - start[name].float()).abs().max() > 0.005 for name in own)
    manifest = json.loads((tmp_path / "mix" / "seed-0" / "model" / "manifest.json").read_text("utf-8"))
    uses = {each["use"] for each in manifest["ingredients"]}
    assert {"a share of 0.05 of the weights", "a share of 0.2 of the weights"} <= uses


def test_a_shared_layer_is_mixed_into_every_group(tmp_path: Path) -> None:
    """And one of a group into its own, so that a mean of runs can take in the model that they began with."""
    shared = from_model(str(save_albert(tmp_path)))
    own = reshaped(shared, 0, groups=shared.config.layers).tensors
    changed = {name: tensor + 1.0 for name, tensor in own.items()}
    for name, tensor in mixed(changed, [(str(tmp_path), 0.25)]).items():
        torch.testing.assert_close(tensor, own[name] + 0.75)


def test_a_mix_that_makes_no_sense_is_refused() -> None:
    """Shares outside 0 to 1, alone or in all, or a model of other shapes."""
    own = from_model(str(BUNDLED_FOLDER)).tensors
    for shares in ((0.0,), (1.0,), (-0.2,), (0.5, 0.5)):
        with pytest.raises(ConfigError, match="mix: a share"):
            mixed(own, [(str(BUNDLED_FOLDER), share) for share in shares])
    with pytest.raises(ConfigError, match="mix: a model of the same shapes"):
        mixed(initial_tensors(SMALL, torch.Generator()), [(str(BUNDLED_FOLDER), 0.5)])
    deeper = reshaped(from_model(str(BUNDLED_FOLDER)), 0, layers=4).tensors  # a layer for each of four passes
    with pytest.raises(ConfigError, match="mix: a model of the same shapes"):
        mixed(deeper, [(str(BUNDLED_FOLDER), 0.5)])
