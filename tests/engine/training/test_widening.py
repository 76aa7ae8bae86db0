"""Wider word embeddings: the same answers at first, and room that training uses."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from earlybird.engine.engine import BUNDLED_FOLDER
from earlybird.engine.errors import ConfigError
from earlybird.engine.training.network import Batch, Network
from earlybird.engine.training.start import from_model
from earlybird.engine.training.widening import widened
from earlybird.engine.weights import load
from earlybird.stream.cli import main


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of 384 dimensions beside the bundled tokenizer."""
    import transformers

    library: Any = transformers
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(1)
    config = library.BertConfig(
        vocab_size=14_000, hidden_size=384, num_hidden_layers=1, num_attention_heads=12, intermediate_size=96
    )
    library.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    shutil.copy(BUNDLED_FOLDER / "tokenizer.json", folder)
    return folder


def test_a_wider_start_answers_as_before(encoder: Path) -> None:
    """The old columns stay, the new ones are not empty and add nothing yet."""
    start = from_model(str(BUNDLED_FOLDER))
    old = start.config.embedding_size
    wide = widened(start, old + 32, str(encoder))
    assert wide.config.embedding_size == old + 32
    words = wide.tensors["embedding.words"]
    torch.testing.assert_close(words[:, :old], start.tensors["embedding.words"].float())
    assert float(words[:, old:].std()) > 0
    batch = Batch.of([(2, 77, 4031, 3), (2, 9, 3)])
    for before, after in zip(
        Network(start.config, start.tensors)(batch), Network(wide.config, wide.tensors)(batch), strict=True
    ):
        torch.testing.assert_close(after.logits, before.logits)


def test_new_columns_hold_what_the_old_ones_lack(encoder: Path) -> None:
    """They are orthogonal to the old ones and to each other."""
    start = from_model(str(BUNDLED_FOLDER))
    wide = widened(start, start.config.embedding_size + 8, str(encoder)).tensors["embedding.words"].double()
    new = wide[:, start.config.embedding_size :]
    scale = float((new**2).sum(dim=0).max())
    assert float((wide[:, : start.config.embedding_size].T @ new).abs().max()) < 1e-3 * scale
    gram = new.T @ new
    assert float((gram - gram.diag().diag()).abs().max()) < 1e-3 * scale


def test_training_with_a_wider_start(encoder: Path, tmp_path: Path) -> None:
    """The command exports a wider model, names the encoder in the manifest, and training moves the projection."""
    file = tmp_path / "texts.jsonl"
    lines = [json.dumps({"text": f"Firm{n} lifts outlook", "label": "positive"}) for n in range(30)]
    file.write_text("\n".join(lines), "utf-8")
    options = ["--train", str(file), "--epochs", "1", "--embedding-size", "160", "--output", str(tmp_path / "run")]
    assert main(["train", "--start", "bundled", *options]) != 0  # no encoder for the new columns
    assert main(["train", "--start", "bundled", *options, "--words", str(encoder)]) == 0
    found = load(tmp_path / "run" / "seed-0" / "model")
    assert found.config.embedding_size == 160
    assert float(found.tensors["embedding.project.weight"][:, -1].abs().max()) > 0
    manifest = json.loads((tmp_path / "run" / "seed-0" / "model" / "manifest.json").read_text())
    assert encoder.name in [each["name"] for each in manifest["ingredients"]]


def test_a_start_is_never_narrowed(encoder: Path) -> None:
    """Nor widened by more than the encoder tells."""
    start = from_model(str(BUNDLED_FOLDER))
    for size in (start.config.embedding_size, start.config.embedding_size + 385):
        with pytest.raises(ConfigError, match="embedding-size"):
            widened(start, size, str(encoder))
