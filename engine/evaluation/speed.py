"""Accuracy and rate of a model in the packed slots, at a number of slots."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from earlybird.engine.bench.clock import stopwatch
from earlybird.engine.config import EngineConfig
from earlybird.engine.engine import Engine
from earlybird.engine.errors import ConfigError
from earlybird.engine.flops import flops
from earlybird.engine.text.assembly import Text
from earlybird.engine.training.data import Example
from earlybird.engine.types import Request

TOKENS_PER_SLOT = 80


@dataclass(frozen=True, slots=True)
class Run:
    """Result of one pass over the texts."""

    slots: int
    policy: str
    accuracy: float
    saved: float  # share of the full depth's operations
    texts_per_s: float  # of CPU time on one thread, without tokenising


class Slots:
    """A model and tokenised texts, to run at several policies and numbers of slots."""

    def __init__(self, model: str, examples: Sequence[Example]) -> None:
        """Load the model and tokenise the texts.

        Texts with nothing left to read are left out. Raises EngineError.
        """
        self._model = model
        engine = Engine.load(EngineConfig(model=model, runner="packed", device="cpu"))
        encoded = engine.encoder.encode([Text((example.text,)) for example in examples])
        found = [(item.token_ids, example) for item, example in zip(encoded, examples, strict=True) if item is not None]
        if not found:
            raise ConfigError("texts: at least one that the model can read required, was none")
        self._requests = [Request(row, ids) for row, (ids, _) in enumerate(found)]
        self._labels = [example.label for _, example in found]

    @torch.inference_mode()
    def run(self, policy: str, slots: int) -> Run:
        """Take every text through the slots once."""
        budget = slots * TOKENS_PER_SLOT
        config = EngineConfig(
            model=self._model, policy=policy, runner="packed", device="cpu", slots=slots, token_budget=budget
        )
        engine = Engine.load(config)
        warm = engine.runner()
        warm.submit(self._requests[:slots])
        while warm.waiting or warm.active:
            warm.step()
        runner = engine.runner()
        elapsed = stopwatch()
        runner.submit(self._requests)
        found = []
        while runner.waiting or runner.active:
            found += runner.step()
        seconds = elapsed()
        geometry, texts = engine.checkpoint.config, len(found)
        lengths = [len(request.token_ids) for request in self._requests]
        cost = sum(flops(geometry, lengths[verdict.ticket], verdict.exit_layer) for verdict in found)
        whole = sum(flops(geometry, length, geometry.layers) for length in lengths)
        right = sum(verdict.label == self._labels[verdict.ticket] for verdict in found)
        return Run(slots, engine.policy.spec, right / texts, 1 - cost / whole, texts / max(seconds, 1e-9))
