"""Verdict -> Signal, Deletion -> retraction, Refusal -> Rejection; and the records that carry them. Pure."""

import base64
from dataclasses import dataclass
from typing import Any

from schemas.codec import encode
from schemas.identity import digest, sha256_hex, signal_id
from schemas.raw import Action, Symbol
from schemas.rejection import LARGEST_ORIGINAL_BYTES, Rejection
from schemas.signal import (
    Exit,
    Label,
    Model,
    Novelty,
    Probabilities,
    RawPosition,
    Signal,
    SignalAction,
)
from stream.inflight import Answer, Entry
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
    item, revision = element.item, element.item.effective_revision
    action = SignalAction.CORRECT if item.action is Action.UPDATE else SignalAction.NEW
    identifier = _identifier(item.item_key, revision, action, encoded.text_sha256, origin)
    negative, neutral, positive = verdict.probs
    label, symbols = LABELS[verdict.label], symbols_of(item)
    probs = Probabilities(negative=_share(negative), neutral=_share(neutral), positive=_share(positive))
    exited = Exit(
        layer=verdict.exit_layer,
        max_layers=origin.max_layers,
        reason=verdict.exit_reason,
        puzzlement=_share(verdict.puzzlement),
    )
    computed = entry.leads and answer.duplicate is None
    return Signal.model_validate(
        _common(element.deletion(), identifier, action, symbols, origin)
        | {
            "label": label,
            "probs": probs,
            "score": round(positive - negative, 6),
            "confidence": _share(verdict.probs[verdict.label]),
            "calibrated": origin.calibrated,
            "exit": exited,
            "input": {
                "n_tokens": len(encoded.token_ids),
                "truncated": encoded.truncated,
                "text_sha256": encoded.text_sha256,
            },
            "novelty": _novelty(entry, answer, item.item_key),
            "digest": digest(identifier, label, probs, exited, symbols),
            "ts": {
                "published_us": item.published_us,
                "updated_us": item.updated_us,
                "ingested_us": item.ingested_us,
                "consumed_us": entry.consumed_us,
                "engine_in_us": answer.engine_in_us if computed else None,
                "exited_us": answer.exited_us if computed else None,
                "emitted_us": now_us,
            },
        }
    )


def retraction_of(deletion: Deletion, entry: Entry, origin: Origin, now_us: int) -> Signal:
    """Takes back every earlier signal of the item."""
    item = deletion.item
    symbols = () if item is None else symbols_of(item)
    identifier = _identifier(deletion.item_key, deletion.revision, SignalAction.RETRACT, None, origin)
    return Signal.model_validate(
        _common(deletion, identifier, SignalAction.RETRACT, symbols, origin)
        | {
            "digest": digest(identifier, None, None, None, symbols),
            "ts": {
                "published_us": None if item is None else item.published_us,
                "updated_us": None if item is None else item.updated_us,
                "ingested_us": deletion.ingested_us,
                "consumed_us": entry.consumed_us,
                "emitted_us": now_us,
            },
        }
    )


def _identifier(item_key: str, revision: int, action: SignalAction, text_sha256: str | None, origin: Origin) -> str:
    return signal_id(item_key, revision, action, text_sha256, origin.model.sha256, origin.model.config_hash)


def _common(
    about: Deletion,
    identifier: str,
    action: SignalAction,
    symbols: tuple[Symbol, ...],
    origin: Origin,
) -> dict[str, Any]:
    """The fields that signals and retractions share. Nested messages are given as fields where that is cheaper: one
    validation of the whole costs a third of one a part."""
    item, position = about.item, about.position
    return {
        "signal_id": identifier,
        "item_key": about.item_key,
        "revision": about.revision,
        "action": action,
        "source": about.item_key.partition(":")[0] if item is None else item.source,
        "item_type": None if item is None else item.item_type,
        "lang": None if item is None else item.lang,
        "symbols": symbols,
        "primary_symbol": symbols[0].symbol if symbols else None,
        "model": origin.model,
        "raw": {
            "topic": position.topic,
            "partition": position.partition,
            "offset": position.offset,
            "index": position.index,
        },
        "run_id": origin.run_id,
    }


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
    """The record that carries a signal, keyed by its item."""
    return Outgoing(topic, signal.item_key.encode(), encode(signal), signal_headers(signal) + _carried(entry))


def signal_headers(signal: Signal) -> tuple[tuple[str, bytes], ...]:
    """They let a consumer route and filter without decoding."""
    confidence = "" if signal.confidence is None else f"{signal.confidence:.6f}"
    return (
        ("signal-id", signal.signal_id.encode()),
        ("action", signal.action.value.encode()),
        ("symbols", ",".join([symbol.symbol for symbol in signal.symbols]).encode()),
        ("label", signal.label.value.encode() if signal.label else b""),
        ("confidence", confidence.encode()),
        ("source", signal.source.encode()),
        ("item-type", (signal.item_type or "").encode()),
        ("run", signal.run_id.encode()),
        ("schema", Signal.SCHEMA.encode()),
    )


def rejection_record(rejection: Rejection, entry: Entry, topic: str) -> Outgoing:
    """Keyed like its raw record."""
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
    return Outgoing(topic, entry.record.key, encode(rejection), headers + _carried(entry))


def _carried(entry: Entry) -> tuple[tuple[str, bytes], ...]:
    """Headers that go through as they came: W3C trace context."""
    if not entry.record.headers:
        return ()
    return tuple(
        (name, value) for name, value in entry.record.headers if name in ("traceparent", "tracestate") and value
    )


def _share(value: float) -> float:
    return min(1.0, max(0.0, round(value, 6)))


def _novelty(entry: Entry, answer: Answer, item_key: str) -> Novelty:
    """Of the first item with this text, whether the cache knew it or it was in flight."""
    known, followed = answer.duplicate, entry.duplicate
    if known is None and followed is None:
        return Novelty(cache_hit=False)
    first = known or followed
    assert first is not None
    return Novelty(
        cache_hit=True,
        dup_of=None if first.first_item_key == item_key else first.first_item_key,
        dup_count=(known.count if known else 0) + (followed.count if followed else 0),
        first_seen_us=first.first_seen_us,
    )


def _raw(position: Position) -> RawPosition:
    return RawPosition(topic=position.topic, partition=position.partition, offset=position.offset, index=position.index)
