"""Verdict -> Signal, Deletion -> retraction, Refusal -> Rejection; and the records that carry them. Pure."""

import base64
from dataclasses import dataclass

from engine.types import Verdict
from schemas.codec import encode
from schemas.identity import digest, sha256_hex, signal_id
from schemas.raw import Action
from schemas.rejection import LARGEST_ORIGINAL_BYTES, Rejection
from schemas.signal import (
    Exit,
    Input,
    Label,
    Model,
    Novelty,
    Probabilities,
    RawPosition,
    Signal,
    SignalAction,
    Times,
)
from stream.inflight import Answer, Duplicate, Entry
from stream.ports import Outgoing, Position
from stream.preprocess import Deletion, Readable, Refusal, symbols_of

LABELS = (Label.NEGATIVE, Label.NEUTRAL, Label.POSITIVE)  # the order of a verdict's probabilities


@dataclass(frozen=True, slots=True)
class Origin:
    """What all outcomes of one run have in common."""

    model: Model
    max_layers: int
    calibrated: bool
    run_id: str = "live"
    signals_topic: str = "signals"
    dead_letter_topic: str = "raw.dlq"


def signal_of(entry: Entry, answer: Answer, origin: Origin, now_us: int) -> Signal:
    """The signal of a readable entry."""
    element, encoded, verdict = entry.element, entry.encoded, answer.verdict
    assert isinstance(element, Readable), "only readable entries get signals. This is a bug."
    assert encoded is not None and verdict is not None, "no signal without a verdict. This is a bug."
    item, symbols = element.item, symbols_of(element.item)
    action = SignalAction.CORRECT if item.action is Action.UPDATE else SignalAction.NEW
    model, revision = origin.model, item.effective_revision
    identifier = signal_id(item.item_key, revision, action, encoded.text_sha256, model.sha256, model.config_hash)
    probs, label = _probabilities(verdict), LABELS[verdict.label]
    exited = Exit(
        layer=verdict.exit_layer,
        max_layers=origin.max_layers,
        reason=verdict.exit_reason,
        puzzlement=_rounded_share(verdict.puzzlement),
    )
    computed = entry.leads and answer.duplicate is None
    return Signal(
        signal_id=identifier,
        item_key=item.item_key,
        revision=revision,
        action=action,
        source=item.source,
        item_type=item.item_type,
        lang=item.lang,
        symbols=symbols,
        primary_symbol=symbols[0].symbol if symbols else None,
        label=label,
        probs=probs,
        score=round(verdict.probs[2] - verdict.probs[0], 6),
        confidence=_rounded_share(max(verdict.probs)),
        calibrated=origin.calibrated,
        exit=exited,
        input=Input(n_tokens=len(encoded.token_ids), truncated=encoded.truncated, text_sha256=encoded.text_sha256),
        novelty=_novelty(entry.duplicate or answer.duplicate, item.item_key),
        model=model,
        digest=digest(identifier, label, probs, exited, symbols),
        raw=_raw(element.position),
        run_id=origin.run_id,
        ts=Times(
            published_us=item.published_us,
            updated_us=item.updated_us,
            ingested_us=item.ingested_us,
            consumed_us=entry.consumed_us,
            engine_in_us=answer.engine_in_us if computed else None,
            exited_us=answer.exited_us if computed else None,
            emitted_us=now_us,
        ),
    )


def retraction_of(deletion: Deletion, entry: Entry, origin: Origin, now_us: int) -> Signal:
    """Takes back every earlier signal of the item."""
    item, model = deletion.item, origin.model
    symbols = () if item is None else symbols_of(item)
    identifier = signal_id(
        deletion.item_key, deletion.revision, SignalAction.RETRACT, None, model.sha256, model.config_hash
    )
    return Signal(
        signal_id=identifier,
        item_key=deletion.item_key,
        revision=deletion.revision,
        action=SignalAction.RETRACT,
        source=deletion.item_key.partition(":")[0] if item is None else item.source,
        item_type=None if item is None else item.item_type,
        lang=None if item is None else item.lang,
        symbols=symbols,
        primary_symbol=symbols[0].symbol if symbols else None,
        model=model,
        digest=digest(identifier, None, None, None, symbols),
        raw=_raw(deletion.position),
        run_id=origin.run_id,
        ts=Times(
            published_us=None if item is None else item.published_us,
            updated_us=None if item is None else item.updated_us,
            ingested_us=deletion.ingested_us,
            consumed_us=entry.consumed_us,
            emitted_us=now_us,
        ),
    )


def rejection_of(refusal: Refusal, entry: Entry, origin: Origin, now_us: int, attempt: int = 1) -> Rejection:
    """The dead letter of an element, with the bytes of its whole record."""
    value, key = entry.record.value, entry.record.key
    return Rejection(
        reason=refusal.reason,
        detail=refusal.detail,
        raw=_raw(refusal.position),
        attempt=attempt,
        item_key=refusal.item_key,
        key=None if key is None else base64.b64encode(key).decode(),
        original=None if value is None else base64.b64encode(value[:LARGEST_ORIGINAL_BYTES]).decode(),
        original_bytes=0 if value is None else len(value),
        original_sha256=None if value is None else sha256_hex(value),
        rejected_us=now_us,
        run_id=origin.run_id,
    )


def signal_record(signal: Signal, entry: Entry, topic: str) -> Outgoing:
    """Key and headers let a consumer route and filter without decoding."""
    headers = [
        ("signal-id", signal.signal_id),
        ("action", signal.action.value),
        ("symbols", ",".join(symbol.symbol for symbol in signal.symbols)),
        ("label", signal.label.value if signal.label else ""),
        ("confidence", "" if signal.confidence is None else f"{signal.confidence:.6f}"),
        ("source", signal.source),
        ("item-type", signal.item_type or ""),
        ("run", signal.run_id),
        ("schema", Signal.SCHEMA),
    ]
    return Outgoing(topic, signal.item_key.encode(), encode(signal), _headers(headers, entry))


def rejection_record(rejection: Rejection, entry: Entry, topic: str) -> Outgoing:
    """Keyed like its raw record."""
    raw = rejection.raw
    headers = [
        ("reason", rejection.reason.value),
        ("raw-topic", raw.topic),
        ("raw-partition", str(raw.partition)),
        ("raw-offset", str(raw.offset)),
        ("raw-index", str(raw.index)),
        ("attempt", str(rejection.attempt)),
        ("run", rejection.run_id),
        ("schema", Rejection.SCHEMA),
    ]
    return Outgoing(topic, entry.record.key, encode(rejection), _headers(headers, entry))


def _headers(headers: list[tuple[str, str]], entry: Entry) -> tuple[tuple[str, bytes], ...]:
    carried = tuple(
        (name, value) for name, value in entry.record.headers if name in ("traceparent", "tracestate") and value
    )
    return tuple((name, value.encode()) for name, value in headers) + carried


def _probabilities(verdict: Verdict) -> Probabilities:
    negative, neutral, positive = verdict.probs
    return Probabilities(
        negative=_rounded_share(negative), neutral=_rounded_share(neutral), positive=_rounded_share(positive)
    )


def _rounded_share(value: float) -> float:
    return min(1.0, max(0.0, round(value, 6)))


def _novelty(duplicate: Duplicate | None, item_key: str) -> Novelty:
    if duplicate is None:
        return Novelty(cache_hit=False)
    return Novelty(
        cache_hit=True,
        dup_of=None if duplicate.first_item_key == item_key else duplicate.first_item_key,
        dup_count=duplicate.count,
        first_seen_us=duplicate.first_seen_us,
    )


def _raw(position: Position) -> RawPosition:
    return RawPosition(topic=position.topic, partition=position.partition, offset=position.offset, index=position.index)
