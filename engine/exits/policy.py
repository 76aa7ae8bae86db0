"""Common types of all exit rules: classifier output, per-slot state and decision.

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
"""A rule's state; each tensor has a leading dimension S. A row of zeros is a text without an output yet, so code
that admits a text into a slot zeroes the slot's rows without knowing their meaning."""

REASONS = tuple(ExitReason)
"""Exit reasons by code: a code is a position in this tuple."""


def code(reason: ExitReason) -> int:
    """Return the code of a reason."""
    return REASONS.index(reason)


class Heads(NamedTuple):
    """Output of the model's heads for every slot after a pass."""

    logits: Tensor  # (S, C) calibrated, float32 or float64
    certainty: Tensor | None = None  # (S,) 0 to 1, from the learned-exit head; None: the model has none


class ClassifierOutput(NamedTuple):
    """Values derived from the heads after a pass, as input of the exit rules.

    All float fields have the dtype of `logits`.
    """

    logits: Tensor  # (S, C) calibrated
    log_probs: Tensor  # (S, C) finite even where a probability underflows
    probs: Tensor  # (S, C)
    label: Tensor  # (S,) int64, the first one on ties
    top: Tensor  # (S,) probability of the label
    entropy: Tensor  # (S,) normalised, from 0 (sure) to 1 (uniform): ELBERT's puzzlement
    certainty: Tensor | None  # (S,) see Heads


class Decision(NamedTuple):
    """The slots that exit, their reasons, and the rule's state for the others."""

    leaving: Tensor  # (S,) bool
    reason: Tensor  # (S,) int64 code, meaningful where leaving
    state: State


class ExitPolicy(Protocol):
    """An exit rule with its parameters; immutable, shared by threads."""

    @property
    def spec(self) -> str:
        """Canonical spelling, part of every signal; `parse(spec, layers)` gives an equal policy."""

    @property
    def earliest(self) -> int | None:
        """First pass after which a text can exit; None: never before the last layer."""

    @property
    def needs_certainty(self) -> bool:
        """Whether the rule reads `ClassifierOutput.certainty`."""

    def initial_state(self, slots: int, like: Tensor) -> State:
        """Return the zeroed state of `slots` new texts.

        `like` is (0, C), on the device and in the dtype of the logits.
        """

    def decide(self, output: ClassifierOutput, depth: Tensor, state: State) -> Decision:
        """Decide which slots exit after this pass.

        `depth` (S,) int64 counts passes from 1, including this one. The caller lets texts exit at the last layer
        (`at_last_layer`); a policy need not know the model's depth.
        """

    def distance_to_flip(self, output: ClassifierOutput, depth: Tensor, state: State) -> Tensor:
        """Return the distance of this pass's decision from a different one, (S,).

        It is the smallest distance of a compared quantity to its threshold, in that quantity's unit; inf where nothing
        is compared. Takes the arguments of `decide`. Two ways to compute a text may differ in label or layer only where
        this distance is within their error.
        """


def classifier_output(heads: Heads) -> ClassifierOutput:
    """Derive the classifier output from the heads; finite for all finite logits.

    Logits (S, C), C >= 2, are widened to float32 at least.

    Entropy is ELBERT's equation 5, H(p) / log C, from log-probabilities: p log p never meets log 0.
    """
    logits = heads.logits if heads.logits.dtype == torch.float64 else heads.logits.float()
    log_probs = logits.log_softmax(dim=-1).clamp_min(torch.finfo(logits.dtype).min)  # 0 * -inf would be NaN
    probs = log_probs.exp()
    top, label = probs.max(dim=-1).values, probs.argmax(dim=-1)
    entropy = -(probs * log_probs).sum(dim=-1) / math.log(logits.shape[-1])
    return ClassifierOutput(logits, log_probs, probs, label, top, entropy.clamp(0.0, 1.0), heads.certainty)


def at_last_layer(decision: Decision, depth: Tensor, layers: int) -> Decision:
    """Let texts exit after their last pass; reason LAST_LAYER unless the policy gave one."""
    last = depth >= layers
    reason = torch.where(decision.leaving, decision.reason, code(ExitReason.LAST_LAYER))
    return Decision(decision.leaving | last, reason, decision.state)


def at_limit(decision: Decision, depth: Tensor, limit: Tensor) -> Decision:
    """Let texts exit at `limit` (S,) int64 passes; reason DEADLINE unless they exit anyway.

    Call it after `at_last_layer`: a text that made every pass was not cut short.
    """
    late = depth >= limit
    reason = torch.where(decision.leaving, decision.reason, code(ExitReason.DEADLINE))
    return Decision(decision.leaving | late, reason, decision.state)


def top2_gap(output: ClassifierOutput) -> Tensor:
    """Return the difference between the two largest probabilities, (S,).

    It is the label's distance from another label.
    """
    two = output.probs.topk(2, dim=-1).values
    return two[:, 0] - two[:, 1]


def nearest(*distances: Tensor) -> Tensor:
    """Return the smallest of several (S,) distances, slot by slot."""
    return torch.stack(distances).amin(dim=0)
