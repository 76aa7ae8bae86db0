"""Temperatures of reported probabilities, one per exit depth; exit decisions never read them.

Letters: n texts, R rungs of the policy (1 of most), D depths, C classes.
"""

import torch
from torch import Tensor

from earlybird.engine.exits.ladder import rungs_of
from earlybird.engine.exits.policy import ExitPolicy
from earlybird.engine.manifest import Manifest


def temperatures_of(manifest: Manifest | None, policy: ExitPolicy) -> Tensor | None:
    """Return the temperatures that were fitted for this policy's rungs, (R, D) float64.

    None where there are none, or where all are 1: then the reported probabilities are those of the decisions.
    """
    fitted = {each.policy: each.values for each in manifest.temperatures} if manifest else {}
    rungs = rungs_of(policy)
    depths = max(map(len, fitted.values()), default=0)
    rows = [fitted.get(rung.spec, (1.0,) * depths) for rung in rungs]
    return torch.tensor(rows, dtype=torch.float64) if any(set(row) - {1.0} for row in rows) else None


def fitted_for(manifest: Manifest | None, policy: ExitPolicy) -> bool:
    """Return whether temperatures were fitted for every rung of a policy."""
    fitted = {each.policy for each in manifest.temperatures} if manifest else set()
    return {rung.spec for rung in rungs_of(policy)} <= fitted


def reported(logits: Tensor, temperatures: Tensor, depth: Tensor, rung: Tensor | None = None) -> Tensor:
    """Return the probabilities to report: logits (n, C) at `depth` (n,) -> (n, C).

    `rung` (n,) int64 of a load-following policy; None: the first.

    The order of the classes stays, so label and decisions need no second look.
    """
    scale = temperatures.to(logits.dtype)[torch.zeros_like(depth) if rung is None else rung, depth - 1]
    return (logits / scale[:, None]).log_softmax(dim=-1).exp()
