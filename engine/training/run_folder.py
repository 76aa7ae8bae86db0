"""Folder of a training run: options, data hashes, log, checkpoint and resulting model."""

import dataclasses
import json
import platform
from array import array
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from earlybird.engine.config import ModelConfig
from earlybird.engine.errors import ConfigError, NotAModel
from earlybird.engine.manifest import LABELS, MANIFEST, WEIGHTS, Ingredient, Manifest, TextProfile, file_sha256
from earlybird.engine.text.assembly import assembly
from earlybird.engine.text.profiles import profile
from earlybird.engine.text.tokenizer import Tokenizer
from earlybird.engine.training.loop import Epoch, State
from earlybird.engine.weights import narrowed

CONFIG, LOG, CHECKPOINT, MODEL, SEEN = "run.json", "log.jsonl", "checkpoint.pt", "model", "seen.bin"


def begin(folder: Path, asked: Mapping[str, Any], *, resume: bool) -> None:
    """Create the folder and write the options; on resume, check that they are unchanged.

    Raises ConfigError.
    """
    path = folder / CONFIG
    config = json.loads(json.dumps({"asked": asked, "environment": environment()}, default=str))
    if resume:
        if not path.exists():
            raise ConfigError(f"resume: a run folder required, was {folder}")
        before = json.loads(path.read_text("utf-8"))["asked"]
        changed = sorted(
            name for name in before.keys() | config["asked"].keys() if before.get(name) != config["asked"].get(name)
        )
        if changed:
            raise ConfigError(f"resume: the same options required, different were: {', '.join(changed)}")
        return
    if path.exists():
        raise ConfigError(f"output: a new folder required, {folder} holds a run; --resume goes on with it")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def environment() -> dict[str, Any]:
    """Return what a run depends on besides its options."""
    names = ("earlybird", "torch", "transformers", "tokenizers", "numpy")
    return {
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        **{name: version(name) for name in names},
    }


def keep_seen(folder: Path, seen: set[int]) -> None:
    """Write 64-bit hashes of the texts that this run trains on or selects by."""
    (folder / SEEN).write_bytes(array("Q", sorted(seen)).tobytes())


def read_seen(model: Path) -> set[int] | None:
    """Return the hashes of texts that a model folder's run used.

    None where the folder belongs to no run.
    """
    path = model.parent.parent / SEEN
    if not path.exists():
        return None
    hashes = array("Q")
    hashes.frombytes(path.read_bytes())
    return set(hashes)


def log_epoch(folder: Path, seed: int, epoch: Epoch) -> None:
    """Append one epoch to the log."""
    dev = [score._asdict() for score in epoch.dev]
    line = (
        {"seed": seed} | {field.name: getattr(epoch, field.name) for field in dataclasses.fields(epoch)} | {"dev": dev}
    )
    with (folder / LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return each logged epoch once.

    For an epoch that was repeated after a kill, the last line counts.
    """
    path = folder / LOG
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    return list({(line["seed"], line["phase"], line["number"]): line for line in lines}.values())


def save_checkpoint(folder: Path, network: Mapping[str, Tensor], state: State) -> None:
    """Write weights and state to one file, replaced atomically.

    A kill leaves either the previous or the new file.
    """
    content = {"network": dict(network)} | {
        field.name: getattr(state, field.name) for field in dataclasses.fields(state)
    }
    new = folder / f"{CHECKPOINT}.new"
    torch.save(content, new)
    new.replace(folder / CHECKPOINT)


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], State] | None:
    """Load an interrupted run's weights and state; None before its first epoch."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        content = torch.load(path, weights_only=True)
    except Exception as error:  # errors of pickle, zip and torch
        raise ConfigError(f"{path}: no checkpoint, {error}") from None
    return content.pop("network"), State(**content)


@dataclasses.dataclass(frozen=True)
class Card:
    """Manifest fields that the tensors do not provide."""

    id: str
    profile: str
    assembly: str
    max_tokens: int
    policy: str = "full"
    trained_for_exits: bool = True
    temperature: float | None = None
    languages: tuple[str, ...] = ("en",)
    knowledge_until_us: int | None = None
    licence: str = "not stated"
    ingredients: Sequence[Ingredient] = ()
    strategy: str | None = None
    loss_weights: tuple[float, ...] | None = None


def export(
    folder: Path,
    config: ModelConfig,
    tensors: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    card: Card,
    stored: str = "float16",
) -> Path:
    """Write a model folder that the engine loads.

    `stored`: float16, or int8, with which large matrices take half of that (see weights.narrowed). Raises NotAModel for
    values that float16 cannot hold.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = narrowed(tensors) if stored == "int8" else dict(tensors)
    small = {name: tensor.half() for name, tensor in written.items() if name in tensors and tensor.is_floating_point()}
    if not all(bool(tensor.isfinite().all()) for tensor in small.values()):
        raise NotAModel(f"{folder}: weights within float16 required, some are larger")
    content = save({name: tensor.contiguous() for name, tensor in (written | small).items()})
    (folder / WEIGHTS).write_bytes(content)  # save_file's would be readable by their owner alone
    (folder / "tokenizer.json").write_text(tokenizer.pieces.to_str(), "utf-8")
    text = profile(card.profile)
    about = _fields(card) | {
        "profile": TextProfile(name=text.name, hash=text.hash),
        "assembly": assembly(card.assembly).describe(),
        "ingredients": tuple(card.ingredients),
    }
    manifest = Manifest(
        geometry=config,
        labels=LABELS,
        tokenizer_sha256=file_sha256(folder / "tokenizer.json"),
        weights_sha256=file_sha256(folder / WEIGHTS),
        **about,
    )
    left_out = {name for name in ("strategy", "loss_weights", "temperatures") if not getattr(manifest, name)}
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2, exclude=left_out) + "\n", "utf-8")
    return folder


def _fields(value: Any) -> dict[str, Any]:
    """Return a dataclass's fields, shallow: tensors are not copied."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
