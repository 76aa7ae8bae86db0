"""Exits once the label has stayed the same for long enough."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.policy import ClassifierOutput, Decision, State, code, top2_gap
from earlybird.schemas.signal import ExitReason


@dataclass(frozen=True, slots=True)
class Patience:
    """Exit when `count` outputs in a row repeated the label of the previous output.

    So `count` + 1 outputs agree.

    Source: PABEE (arXiv 2006.04152, equation 1): cnt_i = cnt_(i-1) + 1 if the label stayed, else 0; exit at cnt = t.
    """

    count: int

    FAMILY: ClassVar[str] = "patience"
    needs_certainty: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"patience: a count of at least 1 required, was {self.count}")

    @property
    def spec(self) -> str:
        return f"patience:count={self.count}"

    @property
    def earliest(self) -> int:
        return self.count + 1

    def initial_state(self, slots: int, like: Tensor) -> State:
        """Return the zeroed state: (last label, number of outputs in a row that repeated it)."""
        count = like.new_zeros(slots, dtype=torch.int64)
        return count, count.clone()

    def decide(self, output: ClassifierOutput, depth: Tensor, state: State) -> Decision:
        label, repeated = state
        stayed = (output.label == label) & (depth > 1)
        repeated = torch.where(stayed, repeated + 1, 0)
        reason = torch.full_like(depth, code(ExitReason.PATIENCE))
        return Decision(repeated >= self.count, reason, (output.label, repeated))

    def distance_to_flip(self, output: ClassifierOutput, depth: Tensor, state: State) -> Tensor:  # noqa: ARG002
        return top2_gap(output)
