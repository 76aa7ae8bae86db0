"""What goes into a runner and what comes out. Standard library and the contract's enums only; no torch."""

from dataclasses import dataclass

from earlybird.schemas.signal import ExitReason


@dataclass(frozen=True, slots=True)
class Request:
    """One text, ready for the model. `ticket` is the caller's own number, unique among the requests in flight.

    After `depth_limit` passes (at least 1; None: no limit) it leaves in any case, with reason DEADLINE if nothing else
    lets it out there."""

    ticket: int
    token_ids: tuple[int, ...]  # special tokens included, at least one
    depth_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the model said about one request, unrounded.

    `probs` are in label order (negative, neutral, positive) and sum to 1; `logits` are calibrated (already divided by
    the temperature), float32 values. `exit_layer` counts passes from 1.
    """

    ticket: int
    label: int  # index of the largest probability; the first of equals
    probs: tuple[float, ...]
    logits: tuple[float, ...]
    exit_layer: int
    exit_reason: ExitReason
    puzzlement: float  # normalised entropy at the exit, 0 sure to 1 uniform
