"""Conversion of output tensors to Verdicts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from earlybird.engine.errors import SequenceTooLong
from earlybird.engine.exits.policy import REASONS, ClassifierOutput, Decision
from earlybird.engine.temperatures import reported
from earlybird.engine.types import Request, Verdict


def check_lengths(requests: Sequence[Request], limit: int) -> None:
    """Check that every request has 1 to `limit` tokens.

    Raises SequenceTooLong for the first one that does not.
    """
    for request in requests:
        if not 1 <= len(request.token_ids) <= limit:
            raise SequenceTooLong(request.ticket, len(request.token_ids), limit)


def verdicts(
    requests: Sequence[Request],
    depths: Sequence[int],
    output: ClassifierOutput,
    decision: Decision,
    rows: Sequence[int],
    temperatures: Tensor | None = None,
    rungs: Sequence[int] | None = None,
) -> list[Verdict]:
    """Return the unrounded verdicts of the slots `rows`, in that order.

    `temperatures` (R, D): see engine.temperatures; None: the probabilities of the decision are reported. `rungs`: of
    every slot, under a load-following policy.
    """
    if not rows:
        return []
    probabilities = output.probs
    if temperatures is not None:
        chosen = None if rungs is None else torch.tensor(rungs)
        probabilities = reported(output.logits, temperatures, torch.tensor(depths), chosen)
    probs, logits = probabilities.tolist(), output.logits.tolist()
    labels, entropies, reasons = output.label.tolist(), output.entropy.tolist(), decision.reason.tolist()
    return [
        Verdict(
            ticket=requests[row].ticket,
            label=labels[row],
            probs=tuple(probs[row]),
            logits=tuple(logits[row]),
            exit_layer=depths[row],
            exit_reason=REASONS[reasons[row]],
            puzzlement=entropies[row],
            rung=None if rungs is None else rungs[row],
        )
        for row in rows
    ]
