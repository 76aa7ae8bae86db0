"""Outputs of all exits for labelled texts: one forward pass serves every evaluation.

Letters: n texts, D depth, C classes.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from earlybird.engine.config import EngineConfig, ModelConfig
from earlybird.engine.engine import Engine
from earlybird.engine.errors import ConfigError, DataError
from earlybird.engine.evaluation.geometry import config_from_json, config_to_json
from earlybird.engine.exits.ladder import rungs_of
from earlybird.engine.exits.policy import ClassifierOutput, Heads, classifier_output
from earlybird.engine.exits.spec import parse
from earlybird.engine.exits.walk import Walk
from earlybird.engine.flops import flops
from earlybird.engine.temperatures import reported
from earlybird.engine.text.assembly import Text
from earlybird.engine.training.data import Example, fingerprint

TOKENS = 2_048  # per batch

Progress = Callable[[int, int], None]
"""Called with the texts done and the texts in total."""


@dataclass(frozen=True)
class Outputs:
    """Outputs of all exits for all texts of a file."""

    config: ModelConfig
    model_sha256: str
    texts_sha256: str
    policy: str  # the model's own policy
    logits: Tensor  # (n, D, C) float32, divided by the model's temperature
    certainty: Tensor | None  # (n, D)
    label: Tensor  # (n,) int64
    length: Tensor  # (n,) int64, number of tokens
    left_out: int = 0  # texts with nothing left to read after cleaning
    temperatures: dict[str, tuple[float, ...]] = field(default_factory=dict)  # of reported probabilities, by policy
    model: str = ""  # the model's id
    strategy: str | None = None  # its training strategy, see engine.training.strategies; None: not known
    texts: str = ""  # name of the file of texts

    def __len__(self) -> int:
        return len(self.label)

    def by_depth(self) -> list[ClassifierOutput]:
        """Return the classifier outputs after every pass, as policies take them."""
        certainty = [None] * self.logits.shape[1] if self.certainty is None else self.certainty.unbind(dim=1)
        return [classifier_output(Heads(*heads)) for heads in zip(self.logits.unbind(dim=1), certainty, strict=True)]

    def reported(self, spec: str, found: Walk) -> Tensor:
        """Return the probabilities (n, C) that signals would report of a policy's exits."""
        values = self.temperatures.get(spec)
        return found.probs if values is None else reported(found.logits, torch.tensor([values]), found.depth)

    @property
    def own(self) -> tuple[str, ...]:
        """The model's own policy; several where it follows the load."""
        policy = parse(self.policy, self.config.layers, learned_exits=self.certainty is not None)
        return tuple(rung.spec for rung in rungs_of(policy))

    @cached_property
    def costs(self) -> Tensor:
        """Every text's operations by exit depth, (n, D) float64."""
        lengths, place = torch.unique(self.length, return_inverse=True)
        depths = range(1, self.config.layers + 1)
        rows = [[flops(self.config, length, depth) for depth in depths] for length in lengths.tolist()]
        return torch.tensor(rows, dtype=torch.float64)[place]

    def save(self, path: Path) -> None:
        """Save the outputs, so that other policies need no second pass through the model."""
        tensors = {"logits": self.logits, "label": self.label, "length": self.length}
        if self.certainty is not None:
            tensors["certainty"] = self.certainty
        about = {
            "config": config_to_json(self.config),
            "model_sha256": self.model_sha256,
            "texts_sha256": self.texts_sha256,
            "policy": self.policy,
            "left_out": str(self.left_out),
            "temperatures": json.dumps(self.temperatures),
            "model": self.model,
            "strategy": self.strategy or "",
            "texts": self.texts,
        }
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata=about)

    @classmethod
    def load(cls, path: Path) -> "Outputs":
        """Load outputs that `save` wrote; raises DataError."""
        try:
            with safe_open(path, "pt") as content:
                tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (not a mapping)
                about = content.metadata()
            return cls(
                config_from_json(about["config"]),
                about["model_sha256"],
                about["texts_sha256"],
                about["policy"],
                tensors["logits"],
                tensors.get("certainty"),
                tensors["label"],
                tensors["length"],
                int(about["left_out"]),
                {spec: tuple(values) for spec, values in json.loads(about.get("temperatures", "{}")).items()},
                about.get("model", ""),
                about.get("strategy") or None,
                about.get("texts", ""),
            )
        except Exception as error:  # safetensors' own errors, KeyError, OSError
            raise DataError(f"{path}: no stored outputs, {error}") from None


@torch.inference_mode()
def outputs_of(
    model: str, examples: Sequence[Example], progress: Progress = lambda *_: None, texts: str = ""
) -> Outputs:
    """Run a model over labelled texts at full depth; `model` as in EngineConfig.

    `texts`: the name that the result has for them. Raises ModelError, ConfigError.
    """
    engine = Engine.load(EngineConfig(model=model, runner="packed", device="cpu"))
    elbert, layers, manifest = engine.model, engine.max_layers, engine.checkpoint.manifest
    encoded = engine.encoder.encode([Text((example.text,)) for example in examples])
    kept = [row for row, item in enumerate(encoded) if item is not None]
    if not kept:
        raise ConfigError("texts: at least one that the model can read required, was none")
    ids = [item.token_ids for item in encoded if item is not None]
    logits = torch.empty(len(ids), layers, len(engine.labels))
    certainty = None if engine.checkpoint.config.learned_exits == "none" else torch.empty(len(ids), layers)
    for rows in _batches(ids):
        lengths, index = [len(ids[row]) for row in rows], torch.tensor(rows)
        hidden = elbert.embed(torch.tensor([token for row in rows for token in ids[row]]), lengths)
        for depth in range(1, layers + 1):
            hidden = elbert.advance(hidden, lengths, [depth] * len(rows))
            heads = elbert.classify(hidden, lengths, [depth] * len(rows))
            logits[index, depth - 1] = heads.logits
            if certainty is not None and heads.certainty is not None:
                certainty[index, depth - 1] = heads.certainty
        progress(int(index.max()) + 1, len(ids))
    return Outputs(
        engine.checkpoint.config,
        engine.model_sha256,
        fingerprint(examples),
        engine.policy.spec,
        logits,
        certainty,
        torch.tensor([examples[row].label for row in kept]),
        torch.tensor([len(row) for row in ids]),
        len(examples) - len(kept),
        {each.policy: each.values for each in (manifest.temperatures if manifest else ())},
        engine.model_id,
        manifest.strategy if manifest else None,
        texts,
    )


def _batches(ids: Sequence[Sequence[int]]) -> list[list[int]]:
    """Group consecutive texts into batches of at most TOKENS tokens."""
    batches: list[list[int]] = [[]]
    tokens = 0
    for row, text in enumerate(ids):
        if batches[-1] and tokens + len(text) > TOKENS:
            batches.append([])
            tokens = 0
        batches[-1].append(row)
        tokens += len(text)
    return batches
