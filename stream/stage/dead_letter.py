"""Refusal -> dead letter (Rejection) and its record, within the message size limit. Pure."""

import base64
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Literal

from earlybird.schemas.codec import encode
from earlybird.schemas.identity import sha256_hex
from earlybird.schemas.rejection import LARGEST_KEY_BYTES, LARGEST_ORIGINAL_BYTES, Reason, Rejection
from earlybird.schemas.signal import RawPosition
from earlybird.stream.observability.escape import escaped
from earlybird.stream.parsing.records import Readable, Refusal
from earlybird.stream.ports import Outgoing
from earlybird.stream.publishing.redrive import REDRIVEN
from earlybird.stream.stage.messages import Entry
from earlybird.stream.stage.outcome import Origin
from earlybird.stream.stage.trace_context import Headers

_LONGEST_DETAIL = 500
_LAST_DETAIL = 120  # characters in a dead letter without its original
_LAST_KEY_BYTES = 128
_FRAME_BYTES = 512  # upper bound on a message's overhead around key, value and headers


def poisoned(entry: Entry, error: BaseException) -> Refusal:
    """Return the refusal of an element on which our own code failed."""
    element = entry.element
    detail = f"{type(error).__name__}: {error}"
    # Without the item, because what broke our code must not break its retraction as well.
    retraction = replace(element.deletion(), item=None) if isinstance(element, Readable) else None
    return Refusal(element.position, Reason.POISON, detail, element.item_key, retraction, element.part)


def rejection_of(refusal: Refusal, entry: Entry, origin: Origin, now_us: int, attempt: int = 1) -> Rejection:
    """Build an element's dead letter with the refused bytes."""
    key = entry.record.key
    value = entry.record.value if refusal.part is None else refusal.part
    scope: Literal["record", "element"] = "record" if refusal.part is None else "element"
    key_bytes = None if key is None or len(key) <= LARGEST_KEY_BYTES else len(key)
    return Rejection(
        schema_version=Rejection.lowest_version(refusal.reason, scope, key_bytes),
        reason=refusal.reason,
        detail=escaped(refusal.detail, _LONGEST_DETAIL),
        raw=RawPosition(**asdict(refusal.position)),
        attempt=attempt,
        item_key=refusal.item_key,
        key=None if key is None else base64.b64encode(key[:LARGEST_KEY_BYTES]).decode(),
        key_bytes=key_bytes,
        original=None if value is None else base64.b64encode(value[:LARGEST_ORIGINAL_BYTES]).decode(),
        original_scope=scope,
        original_bytes=0 if value is None else len(value),
        original_sha256=None if value is None else sha256_hex(value),
        rejected_us=now_us,
        run_id=origin.run_id,
    )


def rejection_record(rejection: Rejection, entry: Entry, topic: str) -> Outgoing:
    """Build a dead letter's record, keyed like its raw record."""
    key = entry.record.key
    headers = entry.trace_context + redriven(entry.record.headers)
    return _record(rejection, topic, key and key[:LARGEST_KEY_BYTES], headers)


def fitted(rejection: Rejection, entry: Entry, topic: str, largest: int) -> tuple[Rejection, Outgoing]:
    """Shrink a dead letter to a record of at most `largest` bytes.

    Cuts the end of its original. Where that is not enough, keeps only the reason, the position, and the size and sha256
    of the refused bytes.
    """
    record = rejection_record(rejection, entry, topic)
    excess = record.size + _FRAME_BYTES - largest
    if excess <= 0:
        return rejection, record
    original = rejection.original or ""
    kept = len(original) // 4 - -(-excess // 4)  # base64 groups: four characters for three bytes
    if kept > 0:
        shorter = rejection.model_copy(update={"original": original[: 4 * kept]})
        return shorter, rejection_record(shorter, entry, topic)
    detail, key = escaped(rejection.detail, _LAST_DETAIL), entry.record.key
    least = rejection.model_copy(update={"original": None, "key": None, "key_bytes": None, "detail": detail})
    return least, _record(least, topic, key and key[:_LAST_KEY_BYTES], redriven(entry.record.headers))


def redriven(headers: Sequence[tuple[str, bytes | None]]) -> Headers:
    """Return the header that counts how often a record was redriven."""
    counts = [value for name, value in headers if name == REDRIVEN and value and value.isdigit() and len(value) <= 3]
    return ((REDRIVEN, counts[-1]),) if counts else ()


def _record(rejection: Rejection, topic: str, key: bytes | None, further: Headers) -> Outgoing:
    raw = rejection.raw
    headers = (
        ("reason", rejection.reason.value.encode()),
        ("raw-topic", raw.topic.encode()),
        ("raw-partition", str(raw.partition).encode()),
        ("raw-offset", str(raw.offset).encode()),
        ("raw-index", str(raw.index).encode()),
        ("attempt", str(rejection.attempt).encode()),
        ("run", rejection.run_id.encode()),
        ("schema", Rejection.SCHEMA.encode()),
    )
    return Outgoing(topic, key, encode(rejection), headers + further)
