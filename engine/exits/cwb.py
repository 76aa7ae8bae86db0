"""ELBERT's confidence-window exits (CWB).

Source: arXiv 2107.00175, and section III-C of the FSA system paper.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.policy import ClassifierOutput, Decision, State, code, nearest, top2_gap
from earlybird.schemas.signal import ExitReason

Criterion = Literal["bias", "range", "label"]


@dataclass(frozen=True, slots=True)
class ConfidenceWindow:
    """Exit when the entropy is low, or when the last W outputs have settled.

    The window includes the present output.

    Stage 1, tested first: normalised entropy (equation 5, "puzzlement") < `delta`, strictly. 0 switches it off.
    Stage 2, over `window` outputs (0: off), by `criterion`; never from a window that is not full:

    bias    the label stayed the same and its probability never fell: criterion 1, the one that the paper uses,
            generalised to more than two classes. Equal counts as not falling, so a saturated output settles.
    range   the largest minus the smallest probability of every class is strictly under `spread`: criterion 2.
    label   the label stayed the same: criterion 3; PABEE's patience of `window` - 1.

    A window of 1 would let every text exit after one pass and is refused: use `fixed:1` instead.
    """

    delta: float
    window: int
    criterion: Criterion = "bias"
    spread: float = 0.0

    FAMILY: ClassVar[str] = "cwb"
    needs_certainty: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.delta <= 1.0:
            raise ConfigError(f"delta: 0 to 1 required, was {self.delta}")
        if self.window < 0 or self.window == 1:
            raise ConfigError(f"window: 0 (none) or at least 2 required, was {self.window}")
        if self.criterion == "range" and not (self.window and 0.0 < self.spread <= 1.0):
            raise ConfigError(f"criterion=range: a window and a spread above 0, up to 1 required, was {self.spread}")
        if self.criterion != "range" and self.spread:
            raise ConfigError(f"spread: only criterion=range has one, was {self.spread}")

    @property
    def spec(self) -> str:
        chosen = "" if self.criterion == "bias" else f",criterion={self.criterion}"
        spread = f",spread={float(self.spread)!r}" if self.spread else ""
        return f"cwb:delta={float(self.delta)!r},window={self.window}{chosen}{spread}"

    @property
    def earliest(self) -> int | None:
        return 1 if self.delta else self.window or None

    def initial_state(self, slots: int, like: Tensor) -> State:
        """Return the zeroed state of `criterion`.

        bias, label: (last label, its probability, number of outputs over which it held). range: the last W - 1 outputs'
        probabilities (S, W - 1, C), newest first.
        """
        if self.criterion == "range":
            return (like.new_zeros(slots, self.window - 1, like.shape[-1]),)
        count = like.new_zeros(slots, dtype=torch.int64)
        return count, like.new_zeros(slots), count.clone()

    def decide(self, output: ClassifierOutput, depth: Tensor, state: State) -> Decision:
        sure = output.entropy < self.delta
        settled, state = (
            self._by_range(output, depth, state) if self.criterion == "range" else self._held(output, state)
        )
        reason = torch.where(sure, code(ExitReason.CONFIDENCE), code(ExitReason.WINDOW))
        return Decision(sure | settled, reason, state)

    def distance_to_flip(self, output: ClassifierOutput, depth: Tensor, state: State) -> Tensor:
        sure = (output.entropy - self.delta).abs()
        if self.criterion == "range":
            full = (self._variation(output, state) - self.spread).abs()
            return nearest(sure, torch.where(depth >= self.window, full, torch.inf))
        distances = [sure, top2_gap(output)]
        if self.window and self.criterion == "bias":
            label, top, held = state
            before = torch.where(held > 0, (output.probs.gather(1, label[:, None])[:, 0] - top).abs(), torch.inf)
            distances.append(before)
        return nearest(*distances)

    def _held(self, output: ClassifierOutput, state: State) -> tuple[Tensor, State]:
        label, top, held = state
        onward = output.label == label
        if self.criterion == "bias":
            onward = onward & (output.top >= top)
        # A new row's count is 0 and becomes 1 in any case, so its zeros are never taken for an output.
        held = torch.where(onward, held + 1, 1)
        settled = held >= self.window if self.window else torch.zeros_like(onward)
        return settled, (output.label, output.top, held)

    def _by_range(self, output: ClassifierOutput, depth: Tensor, state: State) -> tuple[Tensor, State]:
        settled = (depth >= self.window) & (self._variation(output, state) < self.spread)
        return settled, (torch.cat([output.probs[:, None], state[0]], dim=1)[:, : self.window - 1],)

    @staticmethod
    def _variation(output: ClassifierOutput, state: State) -> Tensor:
        """Return the widest range of any class's probability over the window, (S,)."""
        window = torch.cat([output.probs[:, None], state[0]], dim=1)  # (S, W, C)
        return (window.amax(dim=1) - window.amin(dim=1)).amax(dim=-1)
