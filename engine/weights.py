"""Checkpoints from safetensors: our own folder format, or a Hugging Face AlbertForSequenceClassification."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from earlybird.engine import manifest as manifests
from earlybird.engine.adapters import adapter_shapes
from earlybird.engine.config import ModelConfig
from earlybird.engine.errors import ConfigError, ManifestMismatch, NotAModel
from earlybird.engine.manifest import LABELS, MANIFEST, WEIGHTS, Manifest
from earlybird.engine.text import tokenizer as tokenizers
from earlybird.engine.text.tokenizer import Tokenizer

_MANY, _STEP = 65_536, ".step"

PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth", "model.bin")


@dataclass(frozen=True)
class Checkpoint:
    """A model folder, read and checked.

    Tensors are named as in `shapes`; classifier rows are in our label order.
    """

    id: str
    config: ModelConfig
    tensors: Mapping[str, Tensor]
    sha256: str  # of the weights file
    tokenizer: Tokenizer
    manifest: Manifest | None  # None: a Hugging Face folder


def load(folder: Path) -> Checkpoint:
    """Load the model in a folder; raises NotAModel and ManifestMismatch."""
    if not folder.is_dir():
        raise NotAModel(f"model: a folder required, was {folder}")
    if (folder / MANIFEST).exists():
        return _ours(folder)
    if (folder / "config.json").exists():
        return _hugging_face(folder)
    _refuse_pickle(folder)
    raise NotAModel(f"{folder}: neither {MANIFEST} nor config.json in it")


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor by name; linear weights are (out, in)."""
    hidden, small, wide = config.hidden_size, config.embedding_size, config.ffn_size
    late = config.embedding == "project_then_norm"
    first = hidden if late else small
    found: dict[str, tuple[int, ...]] = {
        "embedding.words": (config.vocab_size, small),
        "embedding.positions": (config.max_positions, first),
        "embedding.norm.weight": (first,),
        "embedding.norm.bias": (first,),
        "embedding.project.weight": (hidden, small),
    }
    if not late:
        found["embedding.project.bias"] = (hidden,)
    linears: dict[str, tuple[int, int]] = {}
    groups = [config.group_name(group) for group in range(config.groups)]
    for group in groups:
        linears |= {
            f"{group}.query_key_value": (3 * hidden, hidden),
            f"{group}.attended": (hidden, hidden),
            f"{group}.widen": (wide, hidden),
            f"{group}.narrow": (hidden, wide),
        }
    if config.pool == "first":
        linears["pooler"] = (hidden, hidden)
    for depth in range(1 if config.classifiers == "shared" else config.layers):
        linears[f"classifier.{depth}"] = (config.n_labels, hidden)
    for depth in range({"none": 0, "shared": 1, "per_layer": config.layers}[config.learned_exits]):
        linears[f"learned_exit.{depth}"] = (1, hidden)
    for name, (rows, columns) in linears.items():
        found[f"{name}.weight"], found[f"{name}.bias"] = (rows, columns), (rows,)
    for name in (f"{group}.{norm}" for group in groups for norm in ("attended_norm", "norm")):
        found[f"{name}.weight"] = found[f"{name}.bias"] = (hidden,)
    if config.adapters:
        per_depth = adapter_shapes(config.adapters, hidden)
        for depth in range(config.layers):
            found |= {f"adapter.{depth}.{name}": shape for name, shape in per_depth.items()}
    return found


def _ours(folder: Path) -> Checkpoint:
    manifest = manifests.read(folder)
    tokenizer = tokenizers.bundled(folder)
    manifests.check_text(manifest, tokenizer.sha256)
    tensors, sha256 = _read(folder)
    manifests.check_weights(manifest, sha256)
    _check_shapes(folder, manifest.geometry, tensors, tokenizer)
    rows = manifests.canonical_rows(manifest.labels, manifest.geometry.n_labels)
    return Checkpoint(manifest.id, manifest.geometry, in_label_order(tensors, rows), sha256, tokenizer, manifest)


def _hugging_face(folder: Path) -> Checkpoint:
    settings = _settings(folder)
    config = _geometry(folder, settings)
    rows = _label_rows(folder, settings, config.n_labels)
    found, sha256 = _read(folder)
    tensors = renamed(folder, found, config)
    tokenizer = tokenizers.hugging_face(folder)
    _check_shapes(folder, config, tensors, tokenizer)
    return Checkpoint(folder.resolve().name, config, in_label_order(tensors, rows), sha256, tokenizer, manifest=None)


def _read(folder: Path) -> tuple[dict[str, Tensor], str]:
    path = folder / WEIGHTS
    if not path.exists():
        _refuse_pickle(folder)
    sha256 = manifests.file_sha256(path)
    try:
        return widened(load_file(path)), sha256
    except (SafetensorError, OSError, ValueError) as error:
        raise NotAModel(f"{path}: no safetensors file, {error}") from None


def narrowed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with their large matrices in 8 bits, for a smaller file.

    A matrix NAME (O, I) of 65,536 values or more becomes NAME, int8, and NAME.step, float32 (O,): a row is its step
    times its integers, of -127 to 127.
    """
    found = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.dim() == 2 and tensor.numel() >= _MANY:
            wide = tensor.float()
            step = wide.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / 127
            found[name] = (wide / step[:, None]).round().to(torch.int8)
            found[f"{name}{_STEP}"] = step
    return found


def widened(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what `narrowed` made, 8-bit matrices as float32; other tensors are not touched."""
    found = dict(tensors)
    for name, tensor in tensors.items():
        step = tensors.get(f"{name}{_STEP}")
        if step is not None and tensor.dtype == torch.int8 and tensor.shape[:1] == step.shape:
            found[name] = found.pop(f"{name}{_STEP}").float()[:, None] * tensor
    return found


def _refuse_pickle(folder: Path) -> None:
    for name in PICKLES:
        if (folder / name).exists():
            raise NotAModel(
                f"{folder / name}: pickled weights can run any code when they are read; save them as {WEIGHTS}"
            )


def _check_shapes(folder: Path, config: ModelConfig, tensors: Mapping[str, Tensor], tokenizer: Tokenizer) -> None:
    expected = shapes(config)
    if missing := sorted(expected.keys() - tensors.keys()):
        raise ManifestMismatch(f"{folder / WEIGHTS}: tensor {missing[0]} is missing")
    if unknown := sorted(tensors.keys() - expected.keys()):
        raise ManifestMismatch(f"{folder / WEIGHTS}: tensor {unknown[0]} belongs to no such model")
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise ManifestMismatch(
                f"{folder / WEIGHTS}: {name}: shape {shape} required, was {tuple(tensors[name].shape)}"
            )
        if not tensors[name].is_floating_point() or not bool(tensors[name].isfinite().all()):
            raise ManifestMismatch(f"{folder / WEIGHTS}: {name}: finite floats required, was {tensors[name].dtype}")
    if tokenizer.size > config.vocab_size:
        raise ManifestMismatch(
            f"{folder}: {config.vocab_size} pieces have an embedding, tokenizer has {tokenizer.size}"
        )


def in_label_order(tensors: Mapping[str, Tensor], rows: list[int]) -> dict[str, Tensor]:
    """Return tensors whose classifiers have these rows, see manifest.canonical_rows."""
    return {name: tensor[rows] if name.startswith("classifier.") else tensor for name, tensor in tensors.items()}


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        settings = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise NotAModel(f"{path}: no JSON, {error}") from None
    if not isinstance(settings, dict) or settings.get("model_type") != "albert":
        kind = settings.get("model_type") if isinstance(settings, dict) else settings
        raise NotAModel(f"{path}: model_type 'albert' required, was {kind!r}")
    if settings.get("inner_group_num", 1) != 1:
        raise NotAModel(f"{path}: inner_group_num 1 required (one layer a pass), was {settings['inner_group_num']!r}")
    if settings.get("problem_type") not in (None, "single_label_classification"):
        raise NotAModel(f"{path}: one label a text required, problem_type was {settings['problem_type']!r}")
    return settings


def _geometry(folder: Path, settings: Mapping[str, Any]) -> ModelConfig:
    """Build the ModelConfig; defaults are those of transformers' AlbertConfig."""
    try:
        return ModelConfig(
            vocab_size=settings.get("vocab_size", 30000),
            embedding_size=settings.get("embedding_size", 128),
            hidden_size=settings.get("hidden_size", 4096),
            heads=settings.get("num_attention_heads", 64),
            ffn_size=settings.get("intermediate_size", 16384),
            layers=settings.get("num_hidden_layers", 12),
            max_positions=settings.get("max_position_embeddings", 512),
            embedding="norm_then_project",
            pool="first",
            activation=settings.get("hidden_act", "gelu_new"),
            layer_norm_eps=settings.get("layer_norm_eps", 1e-12),
            n_labels=len(settings.get("id2label") or ("LABEL_0", "LABEL_1")),
            groups=settings.get("num_hidden_groups", 1),
        )
    except (ConfigError, TypeError) as error:
        raise NotAModel(f"{folder / 'config.json'}: {error}") from None


def _label_rows(folder: Path, settings: Mapping[str, Any], n_labels: int) -> list[int]:
    names = settings.get("id2label") or {}
    try:
        labels = tuple(str(names[str(number)]).strip().lower() for number in range(len(names)))
        return manifests.canonical_rows(labels, n_labels)
    except (KeyError, TypeError, ValueError):
        raise NotAModel(f"{folder / 'config.json'}: id2label must name {', '.join(LABELS)}, was {names}") from None


_LAYER = "albert.encoder.albert_layer_groups.{group}.albert_layers.0"
_IN_LAYER = {
    "attention.dense": "attended",
    "attention.LayerNorm": "attended_norm",
    "ffn": "widen",
    "ffn_output": "narrow",
    "full_layer_layer_norm": "norm",
}
_RENAMED = {
    "albert.encoder.embedding_hidden_mapping_in": "embedding.project",
    "albert.embeddings.LayerNorm": "embedding.norm",
    "albert.pooler": "pooler",
    "classifier": "classifier.0",
}
_BUFFERS = ("albert.embeddings.position_ids", "albert.embeddings.token_type_ids")  # of older versions


def renamed(folder: Path, found: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Rename Hugging Face's tensors to ours.

    Token type 0 is added to the positions; query, key and value are stacked into one tensor.
    """
    left = {name: tensor for name, tensor in found.items() if name not in _BUFFERS}
    try:
        tensors = {"embedding.words": left.pop("albert.embeddings.word_embeddings.weight")}
        types = left.pop("albert.embeddings.token_type_embeddings.weight")
        positions = left.pop("albert.embeddings.position_embeddings.weight")
        wide = torch.promote_types(positions.dtype, torch.float32)
        tensors["embedding.positions"] = positions.to(wide) + types[0].to(wide)
        for part in ("weight", "bias"):
            for theirs, ours in _RENAMED.items():
                tensors[f"{ours}.{part}"] = left.pop(f"{theirs}.{part}")
            for group in range(config.groups):
                layer, name = _LAYER.format(group=group), config.group_name(group)
                triple = [left.pop(f"{layer}.attention.{each}.{part}") for each in ("query", "key", "value")]
                tensors[f"{name}.query_key_value.{part}"] = torch.cat(triple)
                for theirs, ours in _IN_LAYER.items():
                    tensors[f"{name}.{ours}.{part}"] = left.pop(f"{layer}.{theirs}.{part}")
    except KeyError as error:
        raise NotAModel(f"{folder / WEIGHTS}: tensor {error.args[0]} is missing") from None
    except (RuntimeError, IndexError) as error:
        raise NotAModel(f"{folder / WEIGHTS}: shapes that do not fit together, {error}") from None
    if left:
        raise NotAModel(f"{folder / WEIGHTS}: tensor {min(left)} belongs to no AlbertForSequenceClassification")
    return tensors
