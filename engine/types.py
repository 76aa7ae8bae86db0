"""Input and output types of runners; no torch.

Imports the standard library and the message schemas' enums only.
"""

from dataclasses import dataclass

from earlybird.schemas.signal import ExitReason


@dataclass(frozen=True, slots=True)
class Request:
    """One tokenised text; `ticket` is the caller's number, unique among requests in flight.

    After `depth_limit` passes (at least 1; None: no limit) the text exits in any case, with reason DEADLINE unless the
    policy lets it out there. `rung` is the recorded choice of a load-following policy; None: the runner chooses.
    """

    ticket: int
    token_ids: tuple[int, ...]  # special tokens included, at least one
    depth_limit: int | None = None
    rung: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The model's unrounded result for one request.

    `probs` are in label order (negative, neutral, positive) and sum to 1; they are the reported ones, see
    engine.temperatures. `logits` are those of the exit decision (already divided by the model's temperature), float32
    values. `exit_layer` counts passes from 1.
    """

    ticket: int
    label: int  # index of the largest probability; the first one on ties
    probs: tuple[float, ...]
    logits: tuple[float, ...]
    exit_layer: int
    exit_reason: ExitReason
    puzzlement: float  # normalised entropy at the exit, from 0 (sure) to 1 (uniform)
    rung: int | None = None  # of a load-following policy; None under any other
