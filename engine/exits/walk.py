"""Exits of a policy over stored outputs, for tests, sweeps and calibration."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from earlybird.engine.exits.policy import ClassifierOutput, ExitPolicy, at_last_layer


class Walk(NamedTuple):
    """Exits of n texts."""

    depth: Tensor  # (n,) int64, passes made, from 1
    label: Tensor  # (n,) int64
    reason: Tensor  # (n,) int64 codes, see policy.REASONS
    probs: Tensor  # (n, C) at the exit, as the policy reads them
    logits: Tensor  # (n, C) at the exit


@torch.inference_mode()
def walk(policy: ExitPolicy, outputs: Sequence[ClassifierOutput]) -> Walk:
    """Run a policy over the outputs of every pass, n texts at once.

    The result equals a runner's, text by text.
    """
    first = outputs[0]
    count = len(first.label)
    state = policy.initial_state(count, first.logits[:0])
    exit_depth, label, reason = (torch.zeros(count, dtype=torch.int64) for _ in range(3))
    probs, logits = torch.zeros_like(first.probs), torch.zeros_like(first.logits)
    for number, output in enumerate(outputs, start=1):
        depth = torch.full((count,), number, dtype=torch.int64)
        decision = at_last_layer(policy.decide(output, depth, state), depth, len(outputs))
        state = decision.state
        now = decision.leaving & (exit_depth == 0)
        exit_depth = torch.where(now, depth, exit_depth)
        label = torch.where(now, output.label, label)
        reason = torch.where(now, decision.reason, reason)
        probs = torch.where(now[:, None], output.probs, probs)
        logits = torch.where(now[:, None], output.logits, logits)
    return Walk(exit_depth, label, reason, probs, logits)
