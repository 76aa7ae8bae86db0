"""Exits on one quantity of one pass: entropy, the largest probability, or a learned-exit head."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.policy import ClassifierOutput, Decision, State, code
from earlybird.schemas.signal import ExitReason


@dataclass(frozen=True, slots=True)
class _Threshold:
    """Common part: a quantity per slot and the threshold that it is compared to."""

    threshold: float

    FAMILY: ClassVar[str]
    REASON: ClassVar[ExitReason] = ExitReason.CONFIDENCE
    earliest: ClassVar[int] = 1
    needs_certainty: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise ConfigError(f"{self.FAMILY}: a threshold above 0, up to 1 required, was {self.threshold}")

    @property
    def spec(self) -> str:
        return f"{self.FAMILY}:threshold={float(self.threshold)!r}"

    def initial_state(self, slots: int, like: Tensor) -> State:  # noqa: ARG002
        return ()

    def decide(self, output: ClassifierOutput, depth: Tensor, state: State) -> Decision:
        return Decision(self._passes(self._quantity(output)), torch.full_like(depth, code(self.REASON)), state)

    def distance_to_flip(self, output: ClassifierOutput, depth: Tensor, state: State) -> Tensor:  # noqa: ARG002
        return (self._quantity(output) - self.threshold).abs()

    def _quantity(self, output: ClassifierOutput) -> Tensor:
        raise NotImplementedError

    def _passes(self, quantity: Tensor) -> Tensor:
        return quantity >= self.threshold


class Entropy(_Threshold):
    """Exit when the normalised entropy H(p) / log C is strictly under `threshold`.

    Source: BranchyNet (arXiv 1709.01686, Algorithm 1), DeeBERT (arXiv 2004.12993), FastBERT's speed (arXiv
    2004.02178, equation 7).
    """

    __slots__ = ()
    FAMILY: ClassVar[str] = "entropy"

    def _quantity(self, output: ClassifierOutput) -> Tensor:
        return output.entropy

    def _passes(self, quantity: Tensor) -> Tensor:
        return quantity < self.threshold


class MaxProbability(_Threshold):
    """Exit when the largest probability is at least `threshold`.

    Source: Shallow-Deep Networks (arXiv 1810.07052, section 4.2).
    """

    __slots__ = ()
    FAMILY: ClassVar[str] = "maxprob"

    def _quantity(self, output: ClassifierOutput) -> Tensor:
        return output.top


class LearnedExit(_Threshold):
    """Exit when the learned-exit head's certainty is at least `threshold`.

    Source: BERxiT (Xin et al. 2021, section 3.3). Its head predicts whether the classifier is right; the published code
    thresholds one minus it. The model holds one head for all depths, or one per depth.
    """

    __slots__ = ()
    FAMILY: ClassVar[str] = "learned"
    REASON: ClassVar[ExitReason] = ExitReason.LEARNED
    needs_certainty: ClassVar[bool] = True

    def _quantity(self, output: ClassifierOutput) -> Tensor:
        assert output.certainty is not None, "a learned exit without its head: parse refuses this. This is a bug."
        return output.certainty
