"""Rejection: a dead letter with its reason, its place in the raw topic and its original bytes."""

import base64
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from schemas.base import EpochUs, Message
from schemas.signal import RawPosition

# A dead letter must fit the broker's message limit (1 MB by default) after base64's 4/3.
LARGEST_ORIGINAL_BYTES = 512 * 1024


class Reason(StrEnum):
    """Why a raw record got no signal; also the label of the counter."""

    MALFORMED = "malformed"  # not JSON, or a value of the wrong type
    UNSUPPORTED_SCHEMA = "unsupported_schema"
    MISSING_FIELD = "missing_field"
    BAD_TIME = "bad_time"  # outside 1973 to 2100: most often a wrong unit
    EMPTY_TEXT = "empty_text"  # nothing left to read
    LANGUAGE = "language"  # not one that the model was trained on
    TOO_LARGE = "too_large"  # the record as a whole; a long text is assembled to fit instead
    STALE = "stale"
    SHED = "shed"  # too old when it was consumed: not computed, so that younger texts are (since 1.1)
    POISON = "poison"  # our own code failed on it


class Rejection(Message):
    """The outcome of a raw record that cannot become a signal.

    `original` is the record's value in base64, whole up to 512 KiB and its beginning beyond that (`original_bytes` is
    its true size, `original_sha256` of all of it; the raw position still names the whole).

    `schema_version` is the lowest that has the reason: readers of 1.0 go on reading everything but `shed`.
    """

    SCHEMA: ClassVar[str] = "rejection/1"

    schema_version: Literal["1.0", "1.1"] = "1.0"
    reason: Reason
    detail: str
    raw: RawPosition
    attempt: Annotated[int, Field(ge=1)] = 1
    item_key: str | None = None
    key: str | None = None  # the record's key in base64
    original: str | None = None
    original_bytes: Annotated[int, Field(ge=0)] = 0
    original_sha256: str | None = None
    rejected_us: EpochUs
    run_id: str = "live"

    @model_validator(mode="after")
    def _reason_of_its_version(self) -> "Rejection":
        if self.reason is Reason.SHED and self.schema_version == "1.0":
            raise ValueError("reason shed needs schema_version 1.1, was 1.0")
        return self

    def original_value(self) -> bytes | None:
        """The raw value's bytes (its first 512 KiB where it was larger)."""
        return None if self.original is None else base64.b64decode(self.original)
