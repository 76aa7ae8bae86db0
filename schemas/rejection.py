"""Rejection: a dead letter with its reason, raw position and original bytes."""

import base64
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from earlybird.schemas.base import EpochUs, Message
from earlybird.schemas.signal import RawPosition

# A dead letter must fit the broker's message limit (1 MB by default) after base64's 4/3.
LARGEST_ORIGINAL_BYTES = 512 * 1024
LARGEST_KEY_BYTES = 4096  # twice the longest item_key; the dead letter's Kafka key is cut to it as well


class Reason(StrEnum):
    """Why a raw record got no signal; also the label of the counter."""

    MALFORMED = "malformed"  # not JSON, or a value of the wrong type
    UNSUPPORTED_SCHEMA = "unsupported_schema"
    MISSING_FIELD = "missing_field"
    BAD_TIME = "bad_time"  # outside 1973 to 2100: most often a wrong unit
    EMPTY_TEXT = "empty_text"  # nothing left to read
    LANGUAGE = "language"  # not a language that the model was trained on
    TOO_LARGE = "too_large"  # the record as a whole, or its signal; a long text is assembled to fit instead
    STALE = "stale"
    SHED = "shed"  # too old when it was consumed: not computed, so that younger texts are (since 1.1)
    POISON = "poison"  # our own code failed on it


class Rejection(Message):
    """The outcome of a raw record, or of one element of an array record, that cannot become a signal.

    `original` in base64 is what was refused. Where the record holds one item, or its array cannot be told apart, that
    is the record's value (`original_scope` record); else the bytes of this element alone (element), which can be
    published again as a record of their own. It is whole up to 512 KiB and what a message holds, and its beginning
    beyond that. `original_bytes` is its true size, `original_sha256` of all of it, and `raw` names the record.

    `schema_version` is the lowest that has what is used: readers of 1.0 go on reading everything but `shed`, elements
    and cut keys.
    """

    SCHEMA: ClassVar[str] = "rejection/1"

    schema_version: Literal["1.0", "1.1", "1.2"] = "1.0"
    reason: Reason
    detail: str
    raw: RawPosition
    attempt: Annotated[int, Field(ge=1)] = 1
    item_key: str | None = None
    key: str | None = None  # the record's key in base64, whole up to 4 KiB and its beginning beyond that
    key_bytes: Annotated[int, Field(ge=0)] | None = None  # its full size, where `key` is cut (since 1.2)
    original: str | None = None
    original_scope: Literal["record", "element"] = "record"  # since 1.2
    original_bytes: Annotated[int, Field(ge=0)] = 0
    original_sha256: str | None = None
    rejected_us: EpochUs
    run_id: str = "live"

    @model_validator(mode="after")
    def _what_its_version_has(self) -> "Rejection":
        needed = self.lowest_version(self.reason, self.original_scope, self.key_bytes)
        if self.schema_version < needed:
            what = f"reason {self.reason}" if needed == "1.1" else "original_scope element or key_bytes"
            raise ValueError(f"{what} needs schema_version {needed}, was {self.schema_version}")
        return self

    @staticmethod
    def lowest_version(
        reason: Reason, original_scope: Literal["record", "element"], key_bytes: int | None
    ) -> Literal["1.0", "1.1", "1.2"]:
        """Return the lowest schema version that allows these values."""
        if original_scope == "element" or key_bytes is not None:
            return "1.2"
        return "1.1" if reason is Reason.SHED else "1.0"

    def original_value(self) -> bytes | None:
        """Return the refused bytes, as far as they are kept here."""
        return None if self.original is None else base64.b64decode(self.original)
