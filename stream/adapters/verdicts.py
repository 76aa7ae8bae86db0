"""First <-> bytes, for caches that live outside the process. JSON writes floats by repr: bits survive."""

import json
from dataclasses import astuple

from engine.types import Verdict
from schemas.signal import ExitReason
from stream.ports import First, Position


def write_first(first: First) -> bytes:
    """Everything but the verdict's ticket, which means nothing to others."""
    verdict = first.verdict
    return json.dumps(
        {
            "item_key": first.item_key,
            "position": astuple(first.position),
            "seen_us": first.seen_us,
            "label": verdict.label,
            "probs": verdict.probs,
            "logits": verdict.logits,
            "layer": verdict.exit_layer,
            "reason": verdict.exit_reason,
            "puzzlement": verdict.puzzlement,
        },
        separators=(",", ":"),
    ).encode()


def read_first(content: bytes) -> First:
    """The inverse. Raises ValueError on anything else."""
    try:
        fields = json.loads(content)
        topic, partition, offset, index = fields["position"]
        verdict = Verdict(
            ticket=-1,
            label=int(fields["label"]),
            probs=tuple(float(value) for value in fields["probs"]),
            logits=tuple(float(value) for value in fields["logits"]),
            exit_layer=int(fields["layer"]),
            exit_reason=ExitReason(fields["reason"]),
            puzzlement=float(fields["puzzlement"]),
        )
        if not 0 <= verdict.label < len(verdict.probs) or len(verdict.probs) != len(verdict.logits):
            raise ValueError("label, probs and logits do not fit each other")
        position = Position(str(topic), int(partition), int(offset), int(index))
        return First(str(fields["item_key"]), position, int(fields["seen_us"]), verdict)
    except (KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"no cached result: {error!r}") from None
