"""Encoding of cached results for caches outside the process.

Entries are read as untrusted input. JSON writes floats by repr, which keeps every bit. In a shared cache an entry is

    INSTANT POSITION SIGNATURE JSON      the first two are for the server's script

The signature covers duplicate key and JSON. Without a secret it is only a checksum: then every client that can write
to the server can write verdicts.
"""

from hashlib import blake2b
from hmac import compare_digest
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from earlybird.engine.types import Verdict
from earlybird.schemas.base import EpochUs, Share
from earlybird.schemas.signal import ExitReason
from earlybird.stream.ports import First, Position

LARGEST_ENTRY = 4_096  # bytes; fits the longest item_key and topic
LARGEST_COUNT = 2**53 - 1  # largest integer that every JSON reader holds exactly
SUM_ERROR = 1e-5  # float32 probabilities differ from a sum of 1 by 3e-7

Topic = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
Number = Annotated[int, Field(ge=0, lt=2**31)]
Offset = Annotated[int, Field(ge=0, lt=2**63)]


class _Result(BaseModel):
    """Schema of a first result: only valid and consistent values pass.

    It rejects what a Signal's schema rejects.
    """

    model_config = ConfigDict(strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    item_key: Annotated[str, Field(min_length=1, max_length=512)]
    position: tuple[Topic, Number, Offset, Number]
    seen_us: EpochUs
    label: Annotated[int, Field(ge=0, le=2)]
    probs: tuple[Share, Share, Share]
    logits: tuple[float, float, float]
    layer: Annotated[int, Field(ge=1)]
    reason: Literal["confidence", "window", "patience", "similarity", "learned", "fixed", "last_layer"]  # no deadline
    puzzlement: Share
    rung: Annotated[int, Field(ge=0)] | None = None  # left out under policies without rungs

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if abs(sum(self.probs) - 1.0) > SUM_ERROR:
            raise ValueError("probs: a sum of 1 required")
        if self.probs[self.label] < max(self.probs):
            raise ValueError("label: that of the largest probability required")
        return self


def write_first(first: First) -> bytes:
    """Encode a first result without the verdict's ticket.

    The ticket has no meaning outside this process. Raises ValueError for what `read_first` rejects.
    """
    verdict, position = first.verdict, first.position
    result = _Result.model_validate(
        {
            "item_key": first.item_key,
            "position": (position.topic, position.partition, position.offset, position.index),
            "seen_us": first.seen_us,
            "label": verdict.label,
            "probs": verdict.probs,
            "logits": verdict.logits,
            "layer": verdict.exit_layer,
            "reason": verdict.exit_reason.value,
            "puzzlement": verdict.puzzlement,
            "rung": verdict.rung,
        }
    )
    return result.model_dump_json(exclude_none=True).encode()


def read_first(content: bytes) -> First:
    """Decode a first result; raises ValueError for anything else."""
    try:
        result = _Result.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(f"no cached result: {_complaint(error)}") from None
    verdict = Verdict(
        ticket=-1,
        label=result.label,
        probs=result.probs,
        logits=result.logits,
        exit_layer=result.layer,
        exit_reason=ExitReason(result.reason),
        puzzlement=result.puzzlement,
        rung=result.rung,
    )
    return First(result.item_key, Position(*result.position), result.seen_us, verdict)


class EntryCodec:
    """Encoder and decoder of shared-cache entries; all workers have the same `secret`."""

    def __init__(self, secret: str | None, max_layers: int, rungs: int = 0) -> None:
        """Sign with `secret`, if any.

        `max_layers` of the model and `rungs` of its policy bound what is read.
        """
        self._key = blake2b(secret.encode()).digest() if secret else b""
        self._max_layers, self._rungs = max_layers, rungs

    def write(self, key: str, first: First) -> bytes:
        """Encode and sign an entry; raises ValueError for what `read` rejects."""
        self._check(first)
        content = write_first(first)
        return b"%b %b %b" % (_header(first), self._signature(key, content), content)

    def read(self, key: str, counted: bytes) -> tuple[First, int]:
        """Return the first result and the count of a stored `COUNT ENTRY`.

        Raises ValueError for anything else.
        """
        parts = counted.split(b" ", 4)
        if len(parts) < 5 or len(counted) > LARGEST_ENTRY:
            raise ValueError("neither a claim nor a result")
        count, seen, position, signature, content = parts
        if not compare_digest(signature, self._signature(key, content)):
            raise ValueError("signature: another secret, or changed by somebody")
        first = read_first(content)
        self._check(first)
        if b"%b %b" % (seen, position) != _header(first):
            raise ValueError("header: what the result says required")
        if len(count) > 16 or not 1 <= int(count) <= LARGEST_COUNT:
            raise ValueError(f"count: 1 to {LARGEST_COUNT} required")
        return first, int(count)

    def _check(self, first: First) -> None:
        """Check exit layer and rung against model and policy, and that item_key is printable."""
        if not first.item_key.isprintable():
            raise ValueError("item_key: printable text required")
        verdict = first.verdict
        last = verdict.exit_reason is ExitReason.LAST_LAYER
        if verdict.exit_layer > self._max_layers or (last and verdict.exit_layer < self._max_layers):
            raise ValueError(f"layer: up to {self._max_layers} required, and that one for last_layer")
        if (verdict.rung is None) != (not self._rungs) or (verdict.rung or 0) > max(0, self._rungs - 1):
            raise ValueError(f"rung: below {self._rungs} where the policy has some required, was {verdict.rung}")

    def _signature(self, key: str, content: bytes) -> bytes:
        return blake2b(b"%b %b" % (key.encode(), content), key=self._key, digest_size=16).hexdigest().encode()


def position_text(position: Position) -> str:
    """Return a raw position as one word."""
    return f"{position.topic}/{position.partition}/{position.offset}/{position.index}"


def _header(first: First) -> bytes:
    return f"{first.seen_us} {position_text(first.position)}".encode()


def _complaint(error: ValidationError) -> str:
    """Describe a validation error without quoting the input."""
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, fault['loc'])) or 'result'}: {fault['msg']}"
