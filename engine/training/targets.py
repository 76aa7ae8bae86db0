"""What every exit is trained towards, and the loss of one exit.

Letters: S texts, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from earlybird.engine.training.data import UNLABELLED


class Targets(NamedTuple):
    """Of the texts of a batch."""

    label: Tensor  # (S,) int64, UNLABELLED where there is none
    soft: Tensor | None = None  # (S, C) a teacher's probabilities


@dataclass(frozen=True, slots=True)
class Distillation:
    """How much a teacher counts: its share of the loss where a text has a label, all of it where it has none."""

    share: float = 0.5
    temperature: float = 1.0


def exit_loss(logits: Tensor, targets: Targets, distillation: Distillation) -> Tensor:
    """(S,) cross-entropy with the label (ELBERT, equation 1, with the label in the indicator), mixed with that to the
    teacher's probabilities at a temperature."""
    labelled = targets.label != UNLABELLED
    hard = F.cross_entropy(logits, targets.label.clamp_min(0), reduction="none") * labelled
    if targets.soft is None:
        return hard
    warm = distillation.temperature
    soft = -(soften(targets.soft, warm) * (logits / warm).log_softmax(dim=-1)).sum(dim=-1) * warm**2
    share = torch.where(labelled, distillation.share, 1.0)
    return (1.0 - share) * hard + share * soft


def soften(probs: Tensor, temperature: float) -> Tensor:
    """Probabilities (S, C) as a softmax at another temperature would give them."""
    return probs if temperature == 1.0 else (probs.clamp_min(1e-12).log() / temperature).softmax(dim=-1)


def mean_of_teachers(logits: Sequence[Tensor]) -> Tensor:
    """Probabilities (S, C) of the mean of several teachers' logits (S, C), each centred."""
    centred = [each - each.mean(dim=-1, keepdim=True) for each in logits]
    return torch.stack(centred).mean(dim=0).softmax(dim=-1)
