"""What every exit rule shares: the answer it judges, the state it keeps per slot, the decision it makes.

Rules are pure: tensors in, tensors out, one row a slot. Nothing here looks at a value on the host, indexes by a
boolean mask or has a shape that depends on values, so the same code serves eager slots and a captured GPU step.

Letters: S slots, C classes.
"""

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from schemas.signal import ExitReason

State = tuple[Tensor, ...]
"""A rule's memory, each tensor with a leading dimension S. A row of zeros is a text that has not been heard yet, so
whoever admits a text into a slot zeroes the slot's rows and need not know what they mean."""

REASONS = tuple(ExitReason)
"""Reason codes are positions in this tuple."""


def code(reason: ExitReason) -> int:
    """The code of a reason."""
    return REASONS.index(reason)


class Answer(NamedTuple):
    """What the classifiers say of every slot after a pass; all float fields in the dtype of `logits`."""

    logits: Tensor  # (S, C) calibrated
    probs: Tensor  # (S, C)
    label: Tensor  # (S,) int64, the first of equals
    top: Tensor  # (S,) probability of the label
    puzzlement: Tensor  # (S,) normalised entropy, 0 sure to 1 uniform


class Decision(NamedTuple):
    """Who leaves, why, and what the rule remembers of those who stay."""

    leaving: Tensor  # (S,) bool
    reason: Tensor  # (S,) int64 code, meaningful where leaving
    state: State


class ExitPolicy(Protocol):
    """A family of exit rules with its parameters. Immutable, shared by threads."""

    @property
    def spec(self) -> str:
        """The canonical spelling: `parse(spec, layers)` gives an equal policy. Part of every signal."""

    def fresh(self, slots: int, like: Tensor) -> State:
        """Zeroed state for `slots` texts that have not been heard yet, on the device and in the dtype of `like`."""

    def decide(self, answer: Answer, depth: Tensor, state: State) -> Decision:
        """Judge one pass. `depth` (S,) int64 counts passes from 1, the present one included. The caller lets texts
        out at the last layer (`at_last_layer`); a policy need not know how deep the model is."""

    def margin(self, trail: Answer) -> float:
        """How near one text came to another outcome: the smallest distance of a decision quantity to its threshold
        over the passes it made, in probability or puzzlement. Rows of `trail` are passes (at least one), not slots.
        Two ways of computing the same text may differ in label or layer only if this is within their error."""


def answer(logits: Tensor) -> Answer:
    """Read calibrated logits (S, C), C >= 2, float32 or wider (narrower is widened). Finite for all finite logits.

    Puzzlement is ELBERT's equation 5, H(p) / log C, from log-probabilities: p log p never meets log 0.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    log_probs = logits.log_softmax(dim=-1).clamp_min(torch.finfo(logits.dtype).min)  # 0 * -inf would be NaN
    probs = log_probs.exp()
    top, label = probs.max(dim=-1).values, probs.argmax(dim=-1)
    puzzlement = -(probs * log_probs).sum(dim=-1) / math.log(logits.shape[-1])
    return Answer(logits, probs, label, top, puzzlement.clamp(0.0, 1.0))


def at_last_layer(decision: Decision, depth: Tensor, layers: int) -> Decision:
    """Let out what has made its last pass; it says LAST_LAYER unless the policy had a reason of its own."""
    last = depth >= layers
    reason = torch.where(decision.leaving, decision.reason, code(ExitReason.LAST_LAYER))
    return Decision(decision.leaving | last, reason, decision.state)


def at_limit(decision: Decision, depth: Tensor, limit: Tensor) -> Decision:
    """Let out what may go no deeper than `limit` (S,) int64 passes; it says DEADLINE unless it leaves anyway. Comes
    after `at_last_layer`: what the whole model was asked was not cut short."""
    late = depth >= limit
    reason = torch.where(decision.leaving, decision.reason, code(ExitReason.DEADLINE))
    return Decision(decision.leaving | late, reason, decision.state)


def lead(trail: Answer) -> Tensor:
    """(S,) distance between the two largest probabilities: how far the label is from another one."""
    two = trail.probs.topk(2, dim=-1).values
    return two[:, 0] - two[:, 1]
