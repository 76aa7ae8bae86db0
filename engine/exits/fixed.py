"""Exits at a depth that is known in advance."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.policy import ClassifierOutput, Decision, State, code
from earlybird.schemas.signal import ExitReason


@dataclass(frozen=True, slots=True)
class FixedDepth:
    """Exit after `layer` passes, whatever the output.

    Source: PF-BERxiT, Table 5 (appointed exit).
    """

    layer: int

    needs_certainty: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.layer < 1:
            raise ConfigError(f"fixed: at least layer 1 required, was {self.layer}")

    @property
    def spec(self) -> str:
        return f"fixed:{self.layer}"

    @property
    def earliest(self) -> int:
        return self.layer

    def initial_state(self, slots: int, like: Tensor) -> State:  # noqa: ARG002
        return ()

    def decide(self, output: ClassifierOutput, depth: Tensor, state: State) -> Decision:  # noqa: ARG002
        return Decision(depth >= self.layer, torch.full_like(depth, code(ExitReason.FIXED)), state)

    def distance_to_flip(self, output: ClassifierOutput, depth: Tensor, state: State) -> Tensor:  # noqa: ARG002
        return torch.full_like(output.top, torch.inf)


@dataclass(frozen=True, slots=True)
class FullDepth:
    """Exit at the last layer only: for models that were not trained for exits."""

    spec: ClassVar[str] = "full"
    earliest: ClassVar[int | None] = None
    needs_certainty: ClassVar[bool] = False

    def initial_state(self, slots: int, like: Tensor) -> State:  # noqa: ARG002
        return ()

    def decide(self, output: ClassifierOutput, depth: Tensor, state: State) -> Decision:
        return Decision(torch.zeros_like(output.label, dtype=torch.bool), torch.zeros_like(depth), state)

    def distance_to_flip(self, output: ClassifierOutput, depth: Tensor, state: State) -> Tensor:  # noqa: ARG002
        return torch.full_like(output.top, torch.inf)
