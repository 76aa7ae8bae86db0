"""Verdict -> Signal, Deletion -> retraction, and the records that carry them. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isnan

from pydantic_core import to_json

from earlybird.schemas.base import EARLIEST_US, LATEST_US
from earlybird.schemas.identity import digest, digest_of_values, signal_id
from earlybird.schemas.raw import Action, RawNews, RawTweet
from earlybird.schemas.signal import (
    LONGEST_HEADLINE,
    LONGEST_URL,
    Label,
    Model,
    RawPosition,
    Signal,
    SignalAction,
    Times,
)
from earlybird.stream.parsing.records import Deletion, Readable, symbols_of
from earlybird.stream.ports import Outgoing
from earlybird.stream.stage.messages import Answer, Entry, Fields
from earlybird.stream.stage.trace_context import Headers

# Plain strings, because pydantic serialises enum members five times slower.
LABELS = (Label.NEGATIVE.value, Label.NEUTRAL.value, Label.POSITIVE.value)  # in the order of a verdict's probabilities
_NEW, _CORRECT = SignalAction.NEW.value, SignalAction.CORRECT.value
_SCHEMA = Signal.SCHEMA.encode()


@dataclass(frozen=True, slots=True)
class Origin:
    """Provenance shared by all outcomes of one run."""

    model: Model
    max_layers: int
    calibrated: bool
    run_id: str = "live"
    signals_topic: str = "signals"
    dead_letter_topic: str = "raw.dlq"
    rungs: tuple[str, ...] = ()  # policies of a load-following one, by Verdict.rung
    headlines: bool = False  # signals carry headline and url
    symbol_table: str | None = None  # hash of the table that links symbols, see Linker.hash


def signal_fields(entry: Entry, answer: Answer, origin: Origin, now_us: int) -> Fields:
    """Build the signal of a readable entry, as JSON values in the schema's order.

    No Signal is built: its parts were validated when they came in, and validating and serialising it again would take
    longer than everything else between verdict and broker. A test holds the bytes equal to those of the message. Raises
    ValueError for a NaN probability or puzzlement, or a clock outside of the range of EpochUs.
    """
    element, encoded, verdict = entry.element, entry.encoded, answer.verdict
    assert isinstance(element, Readable), "only readable entries get signals. This is a bug."
    assert encoded is not None and verdict is not None, "no signal without a verdict. This is a bug."
    if not EARLIEST_US <= now_us <= LATEST_US:
        raise ValueError(f"clock: microseconds since 1970 required, was {now_us}")
    item, position, model = element.item, element.position, origin.model
    revision, text_sha256 = item.effective_revision, encoded.text_sha256
    action = _CORRECT if item.action is Action.UPDATE else _NEW
    identifier = signal_id(item.item_key, revision, action, text_sha256, model.sha256, model.config_hash)
    label, symbols = LABELS[verdict.label], symbols_of(item)
    probs = dict(zip(LABELS, map(_share, verdict.probs), strict=True))
    layer, reason = verdict.exit_layer, verdict.exit_reason.value
    names = [symbol.symbol for symbol in symbols]
    computed = entry.leads and answer.duplicate is None
    return {
        "schema_version": "1.0",
        "signal_id": identifier,
        "item_key": item.item_key,
        "revision": revision,
        "revision_kind": item.revision_kind.value,
        "action": action,
        "refused": None,
        "source": item.source,
        "item_type": item.item_type,
        "lang": item.lang,
        "headline": _headline(item) if origin.headlines else None,
        "url": item.url if origin.headlines and len(item.url or "") <= LONGEST_URL else None,
        "symbols": [vars(symbol) for symbol in symbols],
        "primary_symbol": names[0] if names else None,
        "symbol_table": origin.symbol_table,
        "label": label,
        "probs": probs,
        "score": round(verdict.probs[2] - verdict.probs[0], 6),
        "confidence": probs[label],
        "calibrated": origin.calibrated,
        "exit": {
            "layer": layer,
            "max_layers": origin.max_layers,
            "reason": reason,
            "puzzlement": _share(verdict.puzzlement),
            "policy": None if verdict.rung is None else origin.rungs[verdict.rung],
        },
        "input": {"n_tokens": len(encoded.token_ids), "truncated": encoded.truncated, "text_sha256": text_sha256},
        "novelty": _novelty(entry, answer, item.item_key),
        "model": vars(model),
        "digest": digest_of_values(identifier, label, probs, layer, reason, names),
        "raw": {
            "topic": position.topic,
            "partition": position.partition,
            "offset": position.offset,
            "index": position.index,
        },
        "run_id": origin.run_id,
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


def retraction_of(deletion: Deletion, entry: Entry, origin: Origin, now_us: int) -> Signal:
    """Build the retraction of an item's earlier signals."""
    item, model = deletion.item, origin.model
    symbols = () if item is None else symbols_of(item)
    identifier = signal_id(
        deletion.item_key, deletion.revision, SignalAction.RETRACT, None, model.sha256, model.config_hash
    )
    return Signal(
        signal_id=identifier,
        item_key=deletion.item_key,
        revision=deletion.revision,
        revision_kind=deletion.kind,
        action=SignalAction.RETRACT,
        refused=deletion.refused,
        source=deletion.item_key.partition(":")[0] if item is None else item.source,
        item_type=None if item is None else item.item_type,
        lang=None if item is None else item.lang,
        symbols=symbols,
        primary_symbol=symbols[0].symbol if symbols else None,
        symbol_table=origin.symbol_table,
        model=model,
        digest=digest(identifier, None, None, None, symbols),
        raw=RawPosition(**asdict(deletion.position)),
        run_id=origin.run_id,
        ts=Times(
            published_us=None if item is None else item.published_us,
            updated_us=None if item is None else item.updated_us,
            ingested_us=deletion.ingested_us or entry.consumed_us,
            consumed_us=entry.consumed_us,
            emitted_us=now_us,
        ),
    )


def bare_retraction(fields: Fields) -> Fields:
    """Return the retraction without its symbols, like that of a null record."""
    digest = digest_of_values(fields["signal_id"], None, None, None, None, [])
    return fields | {"symbols": [], "primary_symbol": None, "digest": digest}


def signal_record(signal: Signal, entry: Entry, topic: str) -> Outgoing:
    """Build the record of a Signal."""
    return fields_record(signal.model_dump(mode="json"), entry, topic)


def fields_record(signal: Fields, entry: Entry, topic: str) -> Outgoing:
    """Build a signal's record; key and headers allow routing and filtering without decoding."""
    headers = signal_headers(signal) + entry.trace_context
    return Outgoing(topic, signal["item_key"].encode(), to_json(signal), headers)


def signal_headers(signal: Fields) -> Headers:
    """Return the headers of a signal's record, live and in a replay's topic."""
    confidence = signal["confidence"]
    return (
        ("signal-id", signal["signal_id"].encode()),
        ("action", signal["action"].encode()),
        ("symbols", ",".join([symbol["symbol"] for symbol in signal["symbols"]]).encode()),
        ("label", (signal["label"] or "").encode()),
        ("confidence", b"" if confidence is None else b"%.6f" % confidence),
        ("source", signal["source"].encode()),
        ("item-type", (signal["item_type"] or "").encode()),
        ("run", signal["run_id"].encode()),
        ("schema", _SCHEMA),
        ("raw", "{topic}/{partition}/{offset}/{index}".format_map(signal["raw"]).encode()),
        ("relevance", _relevance(signal["symbols"])),
        ("dup-count", b"" if signal["novelty"] is None else b"%d" % signal["novelty"]["dup_count"]),
    )


def _relevance(symbols: Sequence[Fields]) -> bytes:
    """Return one number per symbol, empty where it is unknown."""
    weights = [symbol["relevance"] for symbol in symbols]
    return ",".join(["" if weight is None else repr(weight) for weight in weights]).encode()


def _headline(item: RawNews | RawTweet) -> str | None:
    """Return the headline, or the text of a post, cut with an ellipsis."""
    text = item.headline if isinstance(item, RawNews) else item.text
    if text is None or len(text) <= LONGEST_HEADLINE:
        return text
    return text[: LONGEST_HEADLINE - 1] + "…"


def _share(value: float) -> float:
    rounded = round(value, 6)
    if 0.0 < rounded <= 1.0:
        return rounded
    if isnan(rounded):
        raise ValueError("a share is a number from 0 to 1, was nan")
    return 1.0 if rounded > 1.0 else 0.0


def _novelty(entry: Entry, answer: Answer, item_key: str) -> Fields:
    """Describe the first item with this text, whether cached or in flight."""
    known, followed = answer.duplicate, entry.duplicate
    first = known or followed
    if first is None:
        return {"cache_hit": False, "dup_of": None, "dup_count": 0, "first_seen_us": None}
    return {
        "cache_hit": True,
        "dup_of": None if first.first_item_key == item_key else first.first_item_key,
        "dup_count": (known.count if known else 0) + (followed.count if followed else 0),
        "first_seen_us": first.first_seen_us,
    }
