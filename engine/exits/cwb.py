"""ELBERT's confidence-window exits (CWB; arXiv 2107.00175, and section III.C of the FSA system paper)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.errors import ConfigError
from engine.exits.policy import Answer, Decision, State, code, lead
from schemas.signal import ExitReason


@dataclass(frozen=True, slots=True)
class ConfidenceWindow:
    """Leave when sure, or when more and more sure of one class over W passes.

    Stage 1, tested first: puzzlement (equation 5) < `delta`, strictly.
    Stage 2: over the last `window` outputs, the present one included, the most probable class was the same and its
    probability never fell (criterion 1, which the paper uses, read for more than two classes). Equal counts as not
    falling, so an answer that is saturated in float still settles. No verdict from a window that is not full.

    `delta` 0 switches stage 1 off, `window` 0 stage 2. A window of 1 would let everything out after one pass and is
    refused: that is `fixed:1`.
    """

    delta: float
    window: int

    def __post_init__(self) -> None:
        if not 0.0 <= self.delta <= 1.0:
            raise ConfigError(f"delta: 0 to 1 required, was {self.delta}")
        if self.window < 0 or self.window == 1:
            raise ConfigError(f"window: 0 (none) or at least 2 required, was {self.window}")

    @property
    def spec(self) -> str:
        return f"cwb:delta={float(self.delta)!r},window={self.window}"

    def fresh(self, slots: int, like: Tensor) -> State:
        """(last label, its probability, outputs over which the trend holds)."""
        count = like.new_zeros(slots, dtype=torch.int64)
        return count, like.new_zeros(slots), count.clone()

    def decide(self, answer: Answer, depth: Tensor, state: State) -> Decision:  # noqa: ARG002
        label, top, streak = state
        onward = (answer.label == label) & (answer.top >= top)
        # An unheard row has streak 0 and goes to 1 either way: its zeros are never compared with a verdict.
        streak = torch.where(onward, streak + 1, 1)
        sure = answer.puzzlement < self.delta
        settled = streak >= self.window if self.window else torch.zeros_like(sure)
        reason = torch.where(sure, code(ExitReason.CONFIDENCE), code(ExitReason.WINDOW))
        return Decision(sure | settled, reason, (answer.label, answer.top, streak))

    def margin(self, trail: Answer) -> float:
        distances = [lead(trail).amin(), (trail.puzzlement - self.delta).abs().amin()]
        if self.window and len(trail.top) > 1:
            before = trail.probs[:-1].gather(1, trail.label[1:, None])[:, 0]
            distances.append((trail.top[1:] - before).abs().amin())
        return float(torch.stack(distances).amin())
