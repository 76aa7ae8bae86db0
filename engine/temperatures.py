"""Temperatures of reported probabilities, one per exit depth; exit decisions never read them.

Letters: n texts, D depths, C classes.
"""

import torch
from torch import Tensor

from earlybird.engine.exits.policy import ExitPolicy
from earlybird.engine.manifest import Manifest


def temperatures_of(manifest: Manifest | None, policy: ExitPolicy) -> Tensor | None:
    """Return the temperatures that were fitted for this policy, (D,) float64.

    None where there are none, or where all are 1: then the reported probabilities are those of the decisions.
    """
    for fitted in manifest.temperatures if manifest else ():
        if fitted.policy == policy.spec and set(fitted.values) != {1.0}:
            return torch.tensor(fitted.values, dtype=torch.float64)
    return None


def reported(logits: Tensor, temperatures: Tensor, depth: Tensor) -> Tensor:
    """Return the probabilities to report: logits (n, C) at `depth` (n,) -> (n, C).

    The order of the classes stays, so label and decisions need no second look.
    """
    scale = temperatures.to(logits.dtype)[depth - 1]
    return (logits / scale[:, None]).log_softmax(dim=-1).exp()
