"""What every exit rule shares: the classifier output it judges, the state it keeps per slot, the decision it makes.

Rules are pure: tensors in, tensors out, one row per slot. No rule reads a value on the host, indexes by a boolean mask
or has a shape that depends on values, so the same code serves eager slots and a captured GPU step.

Letters: S slots, C classes.
"""

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from earlybird.schemas.signal import ExitReason

State = tuple[Tensor, ...]
"""A rule's memory, each tensor with a leading dimension S. A row of zeros is a text without an output yet, so whoever
admits a text into a slot zeroes the slot's rows and need not know what they mean."""

REASONS = tuple(ExitReason)
"""Reason codes are positions in this tuple."""


def code(reason: ExitReason) -> int:
    """Return the code of a reason."""
    return REASONS.index(reason)


class Heads(NamedTuple):
    """What the model's heads return for every slot after a pass."""

    logits: Tensor  # (S, C) calibrated, float32 or float64
    certainty: Tensor | None = None  # (S,) 0 to 1, of the learned-exit head; None: the model has none


class ClassifierOutput(NamedTuple):
    """The heads after a pass, read for the exit rules; all float fields in the dtype of `logits`."""

    logits: Tensor  # (S, C) calibrated
    log_probs: Tensor  # (S, C) finite even where a probability underflows
    probs: Tensor  # (S, C)
    label: Tensor  # (S,) int64, the first of equals
    top: Tensor  # (S,) probability of the label
    entropy: Tensor  # (S,) normalised, 0 sure to 1 uniform: ELBERT's puzzlement
    certainty: Tensor | None  # (S,) as in Heads


class Decision(NamedTuple):
    """Which slots exit, why, and what the rule remembers of the others."""

    leaving: Tensor  # (S,) bool
    reason: Tensor  # (S,) int64 code, meaningful where leaving
    state: State


class ExitPolicy(Protocol):
    """A family of exit rules with its parameters. Immutable, shared by threads."""

    @property
    def spec(self) -> str:
        """The canonical spelling: `parse(spec, layers)` gives an equal policy. Part of every signal."""

    @property
    def earliest(self) -> int | None:
        """The first pass after which a text can exit; None: never before the last layer."""

    @property
    def needs_certainty(self) -> bool:
        """Whether the rule reads `ClassifierOutput.certainty`."""

    def initial_state(self, slots: int, like: Tensor) -> State:
        """Zeroed state for `slots` new texts. `like` is (0, C), on the device and in the dtype of the logits."""

    def decide(self, output: ClassifierOutput, depth: Tensor, state: State) -> Decision:
        """Judge one pass. `depth` (S,) int64 counts passes from 1, the present one included. The caller lets texts
        out at the last layer (`at_last_layer`); a policy need not know how deep the model is."""

    def distance_to_flip(self, output: ClassifierOutput, depth: Tensor, state: State) -> Tensor:
        """(S,) how near this pass's decision is to another: the smallest distance of a quantity it compares to its
        threshold, in that quantity's unit; inf where nothing is compared. Takes what `decide` takes. Two ways to
        compute a text may differ in label or layer only where this is within their error."""


def classifier_output(heads: Heads) -> ClassifierOutput:
    """Read the heads; logits (S, C), C >= 2, are widened to float32 at least. Finite for all finite logits.

    Entropy is ELBERT's equation 5, H(p) / log C, from log-probabilities: p log p never meets log 0.
    """
    logits = heads.logits if heads.logits.dtype == torch.float64 else heads.logits.float()
    log_probs = logits.log_softmax(dim=-1).clamp_min(torch.finfo(logits.dtype).min)  # 0 * -inf would be NaN
    probs = log_probs.exp()
    top, label = probs.max(dim=-1).values, probs.argmax(dim=-1)
    entropy = -(probs * log_probs).sum(dim=-1) / math.log(logits.shape[-1])
    return ClassifierOutput(logits, log_probs, probs, label, top, entropy.clamp(0.0, 1.0), heads.certainty)


def at_last_layer(decision: Decision, depth: Tensor, layers: int) -> Decision:
    """Let out what has made its last pass; the reason is LAST_LAYER unless the policy had one of its own."""
    last = depth >= layers
    reason = torch.where(decision.leaving, decision.reason, code(ExitReason.LAST_LAYER))
    return Decision(decision.leaving | last, reason, decision.state)


def at_limit(decision: Decision, depth: Tensor, limit: Tensor) -> Decision:
    """Let out what may go no deeper than `limit` (S,) int64 passes; the reason is DEADLINE unless it exits anyway.
    Comes after `at_last_layer`: a text that made every pass was not cut short."""
    late = depth >= limit
    reason = torch.where(decision.leaving, decision.reason, code(ExitReason.DEADLINE))
    return Decision(decision.leaving | late, reason, decision.state)


def top2_gap(output: ClassifierOutput) -> Tensor:
    """(S,) distance between the two largest probabilities: how far the label is from another one."""
    two = output.probs.topk(2, dim=-1).values
    return two[:, 0] - two[:, 1]


def nearest(*distances: Tensor) -> Tensor:
    """(S,) the smallest of several (S,) distances, slot by slot."""
    return torch.stack(distances).amin(dim=0)
