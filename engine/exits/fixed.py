"""Exits at a depth that is known beforehand."""

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.errors import ConfigError
from engine.exits.policy import Answer, Decision, State, code, lead
from schemas.signal import ExitReason


@dataclass(frozen=True, slots=True)
class FixedDepth:
    """Leave after `layer` passes, whatever the answer."""

    layer: int

    def __post_init__(self) -> None:
        if self.layer < 1:
            raise ConfigError(f"fixed: at least layer 1 required, was {self.layer}")

    @property
    def spec(self) -> str:
        return f"fixed:{self.layer}"

    def fresh(self, slots: int, like: Tensor) -> State:  # noqa: ARG002
        return ()

    def decide(self, answer: Answer, depth: Tensor, state: State) -> Decision:  # noqa: ARG002
        return Decision(depth >= self.layer, torch.full_like(depth, code(ExitReason.FIXED)), state)

    def margin(self, trail: Answer) -> float:
        return float(lead(trail)[-1])


@dataclass(frozen=True, slots=True)
class FullDepth:
    """Never leave before the last layer: for models that were not trained for exits."""

    @property
    def spec(self) -> str:
        return "full"

    def fresh(self, slots: int, like: Tensor) -> State:  # noqa: ARG002
        return ()

    def decide(self, answer: Answer, depth: Tensor, state: State) -> Decision:
        return Decision(torch.zeros_like(answer.label, dtype=torch.bool), torch.zeros_like(depth), state)

    def margin(self, trail: Answer) -> float:
        return float(lead(trail)[-1])
