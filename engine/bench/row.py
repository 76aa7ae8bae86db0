"""Interface of a bench row: one way to run the same texts and weights."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from earlybird.engine.bench.paired_models import PairedModels
from earlybird.engine.bench.workload import BenchText
from earlybird.engine.config import Dtype, ModelConfig
from earlybird.engine.device.step import Tier
from earlybird.engine.exits.cwb import ConfidenceWindow
from earlybird.engine.exits.policy import ClassifierOutput, Decision, Heads, State, at_last_layer, classifier_output

CPU = torch.device("cpu")
_RULE = ConfidenceWindow(delta=0.1, window=4)


class RowResult(Protocol):
    """A row's result for one text; Verdict implements it."""

    @property
    def ticket(self) -> int: ...
    @property
    def exit_layer(self) -> int: ...
    @property
    def logits(self) -> tuple[float, ...]: ...


@dataclass(frozen=True, slots=True)
class PeerResult:
    """Result of rows without verdicts."""

    ticket: int
    exit_layer: int
    logits: tuple[float, ...]


class BenchRow(Protocol):
    """A row, which runs each text until its depth or the last layer.

    Rows without early exits run to the last layer. Construction is not timed.
    """

    dtype: Dtype  # of its matrix products; selects the limit it is compared to
    peer: bool  # another project's engine or schedule
    slots: int  # texts in flight at once
    refilled: bool  # slots are refilled one by one as they fall free

    def run(self, texts: Sequence[BenchText]) -> Sequence[RowResult]:
        """Return one result per text, in any order, with all results on the host."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Settings shared by all rows of a run."""

    config: ModelConfig
    models: PairedModels
    threads: int
    slots: int
    token_budget: int
    device: torch.device = CPU
    tiers: tuple[Tier, ...] = ()  # of resident loops, small to large; (): one tier of `slots` and `token_budget`
    compile: bool = False  # resident on CUDA: compile before capture

    @property
    def peer_dtype(self) -> Dtype:
        """Dtype of peers: bfloat16 on a card, where it is fast."""
        return "bfloat16" if self.device.type == "cuda" else "float32"

    def tensors(self, dtype: Dtype) -> dict[str, Tensor]:
        """Return the twin's weights on the rows' device; int8 starts from float32."""
        kind = torch.float32 if dtype == "int8" else getattr(torch, dtype)
        return {name: tensor.to(self.device, kind) for name, tensor in self.models.tensors.items()}


Build = Callable[[Setting], BenchRow]
"""Builder of a row. Raises ModuleNotFoundError where a package is missing, ConfigError where the machine cannot run
the row."""


@dataclass(frozen=True, slots=True)
class ForcedDepth:
    """An exit policy that is computed and then overruled by each text's own depth.

    So every row does the same work.
    """

    spec: ClassVar[str] = "overruled"
    earliest: ClassVar[int | None] = None
    needs_certainty: ClassVar[bool] = False

    def initial_state(self, slots: int, like: Tensor) -> State:
        return _RULE.initial_state(slots, like)

    def decide(self, output: ClassifierOutput, depth: Tensor, state: State) -> Decision:
        decision = _RULE.decide(output, depth, state)
        return decision._replace(leaving=decision.leaving & (depth < 0))

    def distance_to_flip(self, output: ClassifierOutput, depth: Tensor, state: State) -> Tensor:
        return _RULE.distance_to_flip(output, depth, state)


class Exits:
    """Exit test of peers with early exits: the same overruled rule."""

    def __init__(self, layers: int) -> None:
        self._layers, self._policy = layers, ForcedDepth()

    def initial_state(self, count: int) -> State:
        """Return the state of `count` new texts."""
        return self._policy.initial_state(count, torch.empty(0, 3))

    def test(
        self, texts: Sequence[BenchText], logits: Tensor, depths: Sequence[int], state: State
    ) -> tuple[list[bool], State]:
        """Return each text's exit flag, and the state of all (S, ...).

        logits (S, C) float32, on the host.
        """
        passes = torch.tensor(depths)
        decision = at_last_layer(
            self._policy.decide(classifier_output(Heads(logits)), passes, state), passes, self._layers
        )
        decision.leaving.tolist()
        return [depth >= text.depth for text, depth in zip(texts, depths, strict=True)], decision.state


def peer_results(texts: Sequence[BenchText], depths: Sequence[int], logits: Tensor) -> list[PeerResult]:
    """Convert rows of logits (S, C) to results."""
    rows = logits.tolist()
    return [PeerResult(text.ticket, depth, tuple(row)) for text, depth, row in zip(texts, depths, rows, strict=True)]


def batches(texts: Sequence[BenchText], size: int) -> Iterator[Sequence[BenchText]]:
    """Yield batches in order; the last one may be smaller."""
    for start in range(0, len(texts), size):
        yield texts[start : start + size]
