"""Exits on one pass's confidence alone: entropy or the largest probability."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.policy import ClassifierOutput, Decision, State, code
from earlybird.schemas.signal import ExitReason


@dataclass(frozen=True, slots=True)
class Entropy:
    """Exit when the normalised entropy H(p) / log C is strictly under `threshold`.

    Source: BranchyNet (arXiv 1709.01686, Algorithm 1), DeeBERT (arXiv 2004.12993), FastBERT's speed (arXiv
    2004.02178, equation 7).
    """

    threshold: float

    FAMILY: ClassVar[str] = "entropy"
    earliest: ClassVar[int] = 1
    needs_certainty: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise ConfigError(f"entropy: a threshold above 0, up to 1 required, was {self.threshold}")

    @property
    def spec(self) -> str:
        return f"entropy:threshold={float(self.threshold)!r}"

    def initial_state(self, slots: int, like: Tensor) -> State:  # noqa: ARG002
        return ()

    def decide(self, output: ClassifierOutput, depth: Tensor, state: State) -> Decision:
        return Decision(output.entropy < self.threshold, torch.full_like(depth, code(ExitReason.CONFIDENCE)), state)

    def distance_to_flip(self, output: ClassifierOutput, depth: Tensor, state: State) -> Tensor:  # noqa: ARG002
        return (output.entropy - self.threshold).abs()


@dataclass(frozen=True, slots=True)
class MaxProbability:
    """Exit when the largest probability is at least `threshold`.

    Source: Shallow-Deep Networks (arXiv 1810.07052, section 4.2).
    """

    threshold: float

    FAMILY: ClassVar[str] = "maxprob"
    earliest: ClassVar[int] = 1
    needs_certainty: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise ConfigError(f"maxprob: a threshold above 0, up to 1 required, was {self.threshold}")

    @property
    def spec(self) -> str:
        return f"maxprob:threshold={float(self.threshold)!r}"

    def initial_state(self, slots: int, like: Tensor) -> State:  # noqa: ARG002
        return ()

    def decide(self, output: ClassifierOutput, depth: Tensor, state: State) -> Decision:
        return Decision(output.top >= self.threshold, torch.full_like(depth, code(ExitReason.CONFIDENCE)), state)

    def distance_to_flip(self, output: ClassifierOutput, depth: Tensor, state: State) -> Tensor:  # noqa: ARG002
        return (output.top - self.threshold).abs()
