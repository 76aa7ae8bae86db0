"""Quality metrics of predictions.

Letters: n texts, C classes.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


class Scores(NamedTuple):
    """Scores of predictions against labels."""

    loss: float  # mean cross-entropy
    accuracy: float
    macro_f1: float
    calibration_error: float


def scores(logits: Tensor, label: Tensor) -> Scores:
    """Compute the scores of logits (n, C) against labels (n,)."""
    probs = logits.softmax(dim=-1)
    found = probs.argmax(dim=-1)
    return Scores(
        float(F.cross_entropy(logits, label)),
        float((found == label).float().mean()),
        macro_f1(found, label, logits.shape[-1]),
        calibration_error(probs, label),
    )


def macro_f1(found: Tensor, label: Tensor, classes: int) -> float:
    """Compute the mean over classes of 2 TP / (2 TP + FP + FN).

    A class that neither occurs nor is predicted counts as 0.
    """
    each = []
    for number in range(classes):
        hit = ((found == number) & (label == number)).sum()
        both = (found == number).sum() + (label == number).sum()
        each.append(2.0 * float(hit) / float(both) if both else 0.0)
    return sum(each) / classes


def calibration_error(probs: Tensor, label: Tensor, bins: int = 15) -> float:
    """Compute the expected calibration error with bins of equal width.

    Source: Guo et al. 2017, arXiv 1706.04599, equation 3.
    """
    confidence, found = probs.max(dim=-1)
    right = (found == label).double()
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gap = torch.zeros(bins, dtype=torch.float64).index_add_(0, place, confidence.double() - right)
    return float(gap.abs().sum() / len(label))
