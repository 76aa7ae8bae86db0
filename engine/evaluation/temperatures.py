"""Temperatures per exit depth for reported probabilities, fitted for one policy.

The texts that a policy lets out at a depth are a selection, so a temperature that makes their confidence a frequency is
right for that policy alone. Each is fitted by the negative log-likelihood (Guo et al. 2017, arXiv 1706.04599, section
4.2) with Platt's smoothed targets: as if one more text of every class had been seen, so that a depth without an error
does not report certainty. Depths that few texts leave at share one temperature, fitted on all texts.

Letters: n texts, D depths, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  (the usual name in torch code)
from torch import Tensor

from earlybird.engine.errors import ConfigError
from earlybird.engine.evaluation.outputs import Outputs
from earlybird.engine.exits.spec import parse
from earlybird.engine.exits.walk import walk
from earlybird.engine.manifest import DepthTemperatures
from earlybird.engine.temperatures import reported
from earlybird.engine.training.metrics import calibration_error

LEAST = 100  # texts at a depth for a temperature of its own, and in all for any
FOLDS = 5
COLDEST, HOTTEST = 0.05, 20.0


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Calibration of the texts that exit at one depth, before and after.

    Errors and losses are of texts that the fit had not seen.
    """

    depth: int | None  # None: all depths together
    texts: int
    temperature: float | None  # None: one per depth
    own: bool  # fitted on this depth's texts alone
    error_before: float  # expected calibration error
    error_after: float
    loss_before: float  # mean negative log-likelihood
    loss_after: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """Temperatures for one policy, and what they do to its calibration."""

    temperatures: DepthTemperatures
    depths: tuple[Calibrated, ...]  # those at which texts exit
    together: Calibrated

    @property
    def helps(self) -> bool:
        """Whether the temperatures lower the loss of texts that the fit had not seen."""
        return self.together.loss_after < self.together.loss_before


@torch.inference_mode()
def fit_temperatures(outputs: Outputs, spec: str) -> Fitted:
    """Fit the temperatures of a policy's exits.

    Raises ConfigError for fewer than LEAST texts. Errors before and after come from FOLDS parts of the texts, each
    judged by a fit on the others.
    """
    if len(outputs) < LEAST:
        raise ConfigError(f"temperatures: at least {LEAST} texts required, was {len(outputs)}")
    layers = outputs.config.layers
    policy = parse(spec, layers, learned_exits=outputs.certainty is not None)
    found = walk(policy, outputs.by_depth())
    own = torch.bincount(found.depth, minlength=layers + 1)[1:] >= LEAST
    values = _fit(found.logits, found.depth, outputs.label, own)
    before, after = found.probs.double(), torch.empty_like(found.probs, dtype=torch.float64)
    fold = torch.arange(len(outputs)) % FOLDS
    for number in range(FOLDS):
        seen, held = fold != number, fold == number
        fitted = _fit(found.logits[seen], found.depth[seen], outputs.label[seen], own)
        after[held] = reported(found.logits[held].double(), fitted[None], found.depth[held])

    def judged(depth: int | None, rows: Tensor) -> Calibrated:
        label = outputs.label[rows]
        return Calibrated(
            depth,
            len(label),
            None if depth is None else float(values[depth - 1]),
            depth is not None and bool(own[depth - 1]),
            calibration_error(before[rows], label),
            calibration_error(after[rows], label),
            _loss(before[rows], label),
            _loss(after[rows], label),
        )

    depths = sorted(set(found.depth.tolist()))
    return Fitted(
        DepthTemperatures(
            policy=policy.spec,
            values=tuple(round(value, 4) for value in values.tolist()),
            texts=len(outputs),
            texts_sha256=outputs.texts_sha256,
        ),
        tuple(judged(depth, found.depth == depth) for depth in depths),
        judged(None, torch.ones(len(outputs), dtype=torch.bool)),
    )


def temperature(logits: Tensor, label: Tensor) -> float:
    """Return the temperature of logits (n, C) with the least negative log-likelihood, COLDEST to HOTTEST.

    The loss is convex in 1 / temperature; its slope is the mean of sum(z (p - target)), found zero by bisection.
    """
    logits, classes = logits.double(), logits.shape[-1]
    target = (F.one_hot(label, classes).double() * len(label) + 1) / (len(label) + classes)
    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(60):
        middle = (low + high) / 2
        slope = (((middle * logits).softmax(dim=-1) - target) * logits).sum()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return 1 / high


def _fit(logits: Tensor, depth: Tensor, label: Tensor, own: Tensor) -> Tensor:
    """Return one temperature per depth, (D,) float64.

    Depths without their own get that of all texts.
    """
    pooled = temperature(logits, label)
    values: Sequence[float] = [
        temperature(logits[depth == number], label[depth == number]) if alone else pooled
        for number, alone in enumerate(own.tolist(), start=1)
    ]
    return torch.tensor(values, dtype=torch.float64)


def _loss(probs: Tensor, label: Tensor) -> float:
    least = torch.finfo(probs.dtype).tiny
    return float(-probs.gather(1, label[:, None]).clamp_min(least).log().mean())
