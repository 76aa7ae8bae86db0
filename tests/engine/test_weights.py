"""Model folders: what loads, and that everything that does not fit is refused with its reason."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from earlybird.engine.engine import BUNDLED_FOLDER
from earlybird.engine.errors import ManifestMismatch, NotAModel
from earlybird.engine.manifest import LABELS, MANIFEST, WEIGHTS, file_sha256, read
from earlybird.engine.weights import load, narrowed, shapes, widened

ALBERT = {
    "model_type": "albert", "vocab_size": 14000, "embedding_size": 8, "hidden_size": 8, "num_attention_heads": 2,
    "intermediate_size": 16, "num_hidden_layers": 3, "max_position_embeddings": 32,
    "id2label": {"0": "negative", "1": "neutral", "2": "positive"},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the bundled model to be damaged."""
    return Path(shutil.copytree(BUNDLED_FOLDER, tmp_path / "model"))


def edit_manifest(folder: Path, **changes: Any) -> None:
    settings = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**settings, **changes}))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Another, consistently signed weights file."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    edit_manifest(folder, weights_sha256=file_sha256(folder / WEIGHTS))


def test_bundled_model_loads_as_promised() -> None:
    """Names, shapes and hashes agree; trained for exits; nothing but files we may ship."""
    checkpoint = load(BUNDLED_FOLDER)
    assert checkpoint.manifest is not None and checkpoint.manifest.trained_for_exits
    assert {name: tuple(tensor.shape) for name, tensor in checkpoint.tensors.items()} == shapes(checkpoint.config)
    assert checkpoint.sha256 == checkpoint.manifest.weights_sha256
    assert sorted(path.name for path in BUNDLED_FOLDER.iterdir()) == [
        "MODEL_CARD.md",
        MANIFEST,
        WEIGHTS,
        "tokenizer.json",
    ]


def test_weights_stored_in_8_bits_are_read_as_floats(folder: Path) -> None:
    """Each large matrix within half a step of what was stored; small tensors exactly; half the file."""
    before, size = load(BUNDLED_FOLDER).tensors, (folder / WEIGHTS).stat().st_size

    def narrow(tensors: dict[str, torch.Tensor]) -> None:
        wide = {name: tensor.float() for name, tensor in before.items()}
        tensors.update({name: tensor.half() if tensor.numel() < 65_536 else tensor for name, tensor in wide.items()})
        tensors.update(narrowed({name: tensor for name, tensor in wide.items() if tensor.numel() >= 65_536}))

    edit_weights(folder, narrow)
    assert (folder / WEIGHTS).stat().st_size < 0.52 * size
    after = load(folder).tensors
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        wide = tensor.float()
        step = wide.abs().amax(dim=-1, keepdim=True) / 127 if tensor.numel() >= 65_536 else torch.zeros(1)
        assert bool(((after[name].float() - wide).abs() <= 0.501 * step).all()), name
    again = narrowed(after)  # a second round loses nothing more
    assert all(
        torch.equal(again[name], stored)
        for name, stored in load_file(folder / WEIGHTS).items()
        if stored.dtype == torch.int8
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda tensors: tensors.pop("embedding.words.step"),
            "embedding.words: finite floats required, was torch.int8",
        ),
        (lambda tensors: tensors["embedding.words.step"].fill_(torch.inf), "embedding.words: finite floats required"),
        (lambda tensors: tensors.update({"embedding.words.step": torch.ones(3)}), "embedding.words.step belongs to no"),
        (lambda tensors: tensors.update({"embedding.norm.bias.step": torch.ones(128)}), "norm.bias.step belongs to no"),
    ],
)
def test_8_bit_weights_that_do_not_fit_are_refused(folder: Path, change: Callable[..., object], reason: str) -> None:
    edit_weights(folder, lambda tensors: tensors.update(narrowed(widened(tensors))))
    edit_weights(folder, change)
    with pytest.raises(ManifestMismatch, match=reason):
        load(folder)


def test_labels_in_another_order_are_mapped(folder: Path) -> None:
    """A classifier whose rows are turned round, and whose manifest says so, is the same model."""
    order = [2, 0, 1]

    def turn(tensors: dict[str, torch.Tensor]) -> None:
        for name in ("classifier.0.weight", "classifier.0.bias"):
            tensors[name] = tensors[name][order].contiguous()

    edit_weights(folder, turn)
    edit_manifest(folder, labels=[LABELS[row] for row in order])
    turned, straight = load(folder).tensors, load(BUNDLED_FOLDER).tensors
    assert all(torch.equal(turned[name], straight[name]) for name in straight)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": "earlybird-model/2"}, "format"),
        ({"surprise": 1}, "surprise"),
        ({"labels": ["bad", "neutral", "positive"]}, "labels: negative, neutral, positive in any order required"),
        ({"labels": ["negative", "positive"]}, "labels"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": "1.28"}, "temperature"),
        ({"max_tokens": 81}, "max_tokens: at most 80 positions, was 81"),
        ({"profile": {"name": "natural-v9", "hash": "0" * 64}}, "was 'natural-v9'"),
        ({"profile": {"name": "natural-v1", "hash": "0" * 64}}, "hash of text profile natural-v1"),
        ({"profile": {"name": "paper-v1", "hash": "0" * 64}}, "hash of text profile paper-v1"),
        ({"assembly": {"name": "parts-v0"}}, "assembly rule"),
        ({"tokenizer_sha256": "0" * 64}, "sha256 of tokenizer.json"),
        ({"weights_sha256": "0" * 64}, "sha256 of model.safetensors"),
        ({"knowledge_until_us": 1672531199}, "knowledge_until_us"),
    ],
)
def test_manifest_that_does_not_fit_is_refused(folder: Path, changes: dict[str, Any], reason: str) -> None:
    """The error names the promise that is broken."""
    edit_manifest(folder, **changes)
    with pytest.raises(ManifestMismatch, match=reason):
        load(folder)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("heads", 7, "a multiple of 7 heads required, was 384"),
        ("pool", "max", "pool"),
        ("layers", 0, "layers: at least 1 required, was 0"),
        ("dropout", 0.1, "unknown field 'dropout'"),
        ("ffn_size", 1024, "widen.weight: shape .1024, 384. required, was .1536, 384."),
        ("pool", "first", "tensor pooler.bias is missing"),
        ("classifiers", "per_layer", "tensor classifier.1.bias is missing"),
        ("vocab_size", 13999, "embedding.words: shape"),
    ],
)
def test_geometry_that_does_not_fit_is_refused(folder: Path, field: str, value: object, reason: str) -> None:
    """Impossible sizes, and sizes that the tensors do not have."""
    geometry = {**json.loads((folder / MANIFEST).read_text())["geometry"], field: value}
    edit_manifest(folder, geometry=geometry)
    with pytest.raises(ManifestMismatch, match=reason):
        load(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors: tensors.pop("embedding.norm.bias"), "tensor embedding.norm.bias is missing"),
        (lambda tensors: tensors.update(extra=torch.ones(1)), "tensor extra belongs to no such model"),
        (lambda tensors: tensors["embedding.norm.bias"].fill_(torch.nan), "norm.bias: finite floats required"),
        (
            lambda tensors: tensors.update({"embedding.norm.bias": torch.ones(384, dtype=torch.int8)}),
            "finite floats required, was torch.int8",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(folder: Path, change: Callable[..., object], reason: str) -> None:
    """Even when the manifest signs for the file."""
    edit_weights(folder, change)
    with pytest.raises(ManifestMismatch, match=reason):
        load(folder)


def test_more_pieces_than_embeddings_are_refused(folder: Path) -> None:
    """A tokenizer of another model would index past the table."""
    settings = json.loads((folder / "tokenizer.json").read_text())
    settings["model"]["vocab"]["zzzz"] = 14000
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    edit_manifest(folder, tokenizer_sha256=file_sha256(folder / "tokenizer.json"))
    with pytest.raises(ManifestMismatch, match="14000 pieces have an embedding, tokenizer has 14001"):
        load(folder)


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json"])
def test_missing_file_is_named(folder: Path, name: str) -> None:
    """The error holds the path."""
    (folder / name).unlink()
    with pytest.raises(NotAModel, match=f"{name}: cannot be read"):
        load(folder)


def test_garbage_files_are_refused(folder: Path) -> None:
    """Bytes that are no manifest, no tokenizer, no safetensors."""
    (folder / WEIGHTS).write_bytes(b"garbage")
    edit_manifest(folder, weights_sha256=file_sha256(folder / WEIGHTS))
    with pytest.raises(NotAModel, match=f"{WEIGHTS}: no safetensors file"):
        load(folder)
    (folder / "tokenizer.json").write_bytes(b"\xff{")
    with pytest.raises(NotAModel, match=r"tokenizer\.json: no tokenizer"):
        load(folder)
    (folder / MANIFEST).write_bytes(b"\xff{")
    with pytest.raises(ManifestMismatch, match=MANIFEST):
        load(folder)


def test_pickled_weights_are_never_read(folder: Path, tmp_path: Path) -> None:
    """Reading a pickle runs whatever it holds; the error says what to do instead."""
    ran = tmp_path / "ran"

    class Acquired:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (ran,))

    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Acquired()))
    for leftover in (MANIFEST, None):
        with pytest.raises(NotAModel, match="pickled weights can run any code"):
            load(folder)
        if leftover:
            (folder / leftover).unlink()
    assert not ran.exists()


@pytest.mark.parametrize("kind", ["absent", "file", "empty"])
def test_no_model_folder_is_refused(tmp_path: Path, kind: str) -> None:
    """A path that is none, a file, an empty folder."""
    path = tmp_path / kind
    if kind == "file":
        path.write_text("x")
    elif kind == "empty":
        path.mkdir()
    with pytest.raises(NotAModel, match=str(path)):
        load(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "bert"}, "model_type 'albert' required, was 'bert'"),
        ({"num_hidden_groups": 0}, "groups: at least 1 required, was 0"),
        ({"num_hidden_groups": 20}, "groups: at most 3 layers required, was 20"),
        ({"inner_group_num": 2}, "inner_group_num 1 required .*, was 2"),
        ({"hidden_act": "relu"}, "activation: one of gelu, gelu_new required, was 'relu'"),
        ({"hidden_size": "8"}, "hidden_size"),
        ({"problem_type": "regression"}, "one label a text required, problem_type was 'regression'"),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, "id2label must name negative, neutral, positive"),
        ({"id2label": {"0": "positive", "1": "negative"}}, "id2label must name"),
        ({"id2label": None}, "id2label must name"),
        ({}, "tensor albert.embeddings.word_embeddings.weight is missing"),
    ],
)
def test_albert_folder_that_does_not_fit_is_refused(folder: Path, changes: dict[str, Any], reason: str) -> None:
    """Another architecture, several layers, other labels, other tensors."""
    (folder / MANIFEST).unlink()
    (folder / "config.json").write_text(json.dumps({**ALBERT, **changes}))
    with pytest.raises(NotAModel, match=reason):
        load(folder)


def test_manifest_survives_a_round_trip() -> None:
    """What is written is what is read."""
    manifest = read(BUNDLED_FOLDER)
    assert type(manifest).model_validate_json(manifest.model_dump_json()) == manifest
