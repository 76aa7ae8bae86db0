"""The folder of a training run: what was asked, on what, the log, the checkpoint and the model that came out."""

import dataclasses
import json
import platform
from array import array
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from earlybird.engine.config import ModelConfig
from earlybird.engine.errors import ConfigError, NotAModel
from earlybird.engine.manifest import LABELS, MANIFEST, WEIGHTS, Ingredient, Manifest, TextProfile, file_sha256
from earlybird.engine.text.assembly import assembly
from earlybird.engine.text.profiles import profile
from earlybird.engine.text.tokenizer import Tokenizer
from earlybird.engine.training.loop import Epoch, State

CONFIG, LOG, CHECKPOINT, MODEL, SEEN = "run.json", "log.jsonl", "checkpoint.pt", "model", "seen.bin"


def begin(folder: Path, asked: Mapping[str, Any], *, resume: bool) -> None:
    """Create the folder and write what was asked; on resume, check that the same is asked again. Raises ConfigError."""
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
    """What a run depends on beside its options."""
    names = ("earlybird", "torch", "transformers", "tokenizers", "numpy")
    return {
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        **{name: version(name) for name in names},
    }


def keep_seen(folder: Path, seen: set[int]) -> None:
    """Write down which texts this run trains on or chooses by, as 64-bit hashes."""
    (folder / SEEN).write_bytes(array("Q", sorted(seen)).tobytes())


def read_seen(model: Path) -> set[int] | None:
    """Hashes of the texts that the run of a model folder has seen; None where the folder lies in no run."""
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
    """All epochs logged so far, each once: of one that was done again after a kill, the last line."""
    path = folder / LOG
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    return list({(line["seed"], line["phase"], line["number"]): line for line in lines}.values())


def save_checkpoint(folder: Path, network: Mapping[str, Tensor], state: State) -> None:
    """Write weights and state in one file, replaced in one move: a kill leaves the former or the new one."""
    content = {"network": dict(network)} | {
        field.name: getattr(state, field.name) for field in dataclasses.fields(state)
    }
    new = folder / f"{CHECKPOINT}.new"
    torch.save(content, new)
    new.replace(folder / CHECKPOINT)


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], State] | None:
    """The weights and the state of a run that was interrupted; None before its first epoch."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        content = torch.load(path, weights_only=True)
    except Exception as error:  # pickle's, zip's, torch's own
        raise ConfigError(f"{path}: no checkpoint, {error}") from None
    return content.pop("network"), State(**content)


@dataclasses.dataclass(frozen=True)
class Card:
    """What a manifest says of a model beside its tensors."""

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


def export(folder: Path, config: ModelConfig, tensors: Mapping[str, Tensor], tokenizer: Tokenizer, card: Card) -> Path:
    """Write a model folder that the engine loads: weights as float16 where that changes no tensor to infinity."""
    folder.mkdir(parents=True, exist_ok=True)
    half = {name: tensor.half() for name, tensor in tensors.items()}
    if not all(bool(tensor.isfinite().all()) for tensor in half.values()):
        raise NotAModel(f"{folder}: weights within float16 required, some are larger")
    save_file({name: tensor.contiguous() for name, tensor in half.items()}, folder / WEIGHTS)
    (folder / "tokenizer.json").write_text(tokenizer.pieces.to_str(), "utf-8")
    text = profile(card.profile)
    manifest = Manifest(
        id=card.id,
        geometry=config,
        labels=LABELS,
        trained_for_exits=card.trained_for_exits,
        policy=card.policy,
        temperature=card.temperature,
        profile=TextProfile(name=text.name, hash=text.hash),
        assembly=assembly(card.assembly).describe(),
        tokenizer_sha256=file_sha256(folder / "tokenizer.json"),
        weights_sha256=file_sha256(folder / WEIGHTS),
        max_tokens=card.max_tokens,
        languages=card.languages,
        knowledge_until_us=card.knowledge_until_us,
        licence=card.licence,
        ingredients=tuple(card.ingredients),
        strategy=card.strategy,
        loss_weights=card.loss_weights,
    )
    left_out = {name for name in ("strategy", "loss_weights") if getattr(manifest, name) is None}
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2, exclude=left_out) + "\n", "utf-8")
    return folder


def _fields(value: Any) -> dict[str, Any]:
    """A dataclass's fields, shallow: tensors are not copied."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
