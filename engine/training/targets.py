"""Training targets of every exit, and the loss of one exit.

Letters: S texts, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from earlybird.engine.manifest import LABELS
from earlybird.engine.training.data import UNLABELLED

UNSURE = 0.06  # probability that the soft target of an invented text spreads over all labels


class Targets(NamedTuple):
    """Targets of a batch of texts."""

    label: Tensor  # (S,) int64, UNLABELLED where there is none
    soft: Tensor | None = None  # (S, C) a teacher's probabilities


@dataclass(frozen=True, slots=True)
class Distillation:
    """Weight of a teacher in the loss.

    It is the teacher's share of the loss for labelled texts; for others the teacher gives the whole loss.
    """

    share: float = 0.5
    temperature: float = 1.0


def exit_loss(logits: Tensor, targets: Targets, distillation: Distillation) -> Tensor:
    """Compute each text's cross-entropy with its label and the teacher, (S,).

    The label's part is ELBERT's equation 1, with the label in the indicator; the other part is the cross-entropy with
    the teacher's probabilities at a temperature.
    """
    labelled = targets.label != UNLABELLED
    hard = F.cross_entropy(logits, targets.label.clamp_min(0), reduction="none") * labelled
    if targets.soft is None:
        return hard
    warm = distillation.temperature
    soft = -(soften(targets.soft, warm) * (logits / warm).log_softmax(dim=-1)).sum(dim=-1) * warm**2
    share = torch.where(labelled, distillation.share, 1.0)
    return (1.0 - share) * hard + share * soft


def soften(probs: Tensor, temperature: float) -> Tensor:
    """Convert probabilities (S, C) to those of a softmax at another temperature."""
    return probs if temperature == 1.0 else (probs.clamp_min(1e-12).log() / temperature).softmax(dim=-1)


def mean_of_teachers(logits: Sequence[Tensor]) -> Tensor:
    """Return the probabilities (S, C) of several teachers' mean logits.

    Each teacher's logits (S, C) are centred first.
    """
    centred = [each - each.mean(dim=-1, keepdim=True) for each in logits]
    return torch.stack(centred).mean(dim=0).softmax(dim=-1)


def own_targets(labels: Sequence[int]) -> Tensor:
    """Return invented texts' labels as soft targets (S, C).

    The tables know them better than a teacher does.
    """
    rest = UNSURE / len(LABELS)
    index = torch.tensor(labels, dtype=torch.int64)
    return torch.full((len(labels), len(LABELS)), rest).scatter_(1, index[:, None], 1.0 - UNSURE + rest)
