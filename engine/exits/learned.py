"""Exits decided by a head of the model."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.policy import ClassifierOutput, Decision, State, code
from earlybird.schemas.signal import ExitReason


@dataclass(frozen=True, slots=True)
class LearnedExit:
    """Exit when the learned-exit head's certainty is at least `threshold`.

    Source: BERxiT (Xin et al. 2021, section 3.3). Its head predicts whether the classifier is right; the published code
    thresholds one minus it. The model holds one head for all depths, or one per depth.
    """

    threshold: float

    FAMILY: ClassVar[str] = "learned"
    earliest: ClassVar[int] = 1
    needs_certainty: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise ConfigError(f"learned: a threshold above 0, up to 1 required, was {self.threshold}")

    @property
    def spec(self) -> str:
        return f"learned:threshold={float(self.threshold)!r}"

    def initial_state(self, slots: int, like: Tensor) -> State:  # noqa: ARG002
        return ()

    def decide(self, output: ClassifierOutput, depth: Tensor, state: State) -> Decision:
        certain = self._certainty(output) >= self.threshold
        return Decision(certain, torch.full_like(depth, code(ExitReason.LEARNED)), state)

    def distance_to_flip(self, output: ClassifierOutput, depth: Tensor, state: State) -> Tensor:  # noqa: ARG002
        return (self._certainty(output) - self.threshold).abs()

    @staticmethod
    def _certainty(output: ClassifierOutput) -> Tensor:
        assert output.certainty is not None, "a learned exit without its head: parse refuses this. This is a bug."
        return output.certainty
