"""Invented signals, to try a strategy without a stage.

Signals.replay([(invented("1", at_us, score=0.9, symbols=["NVDA"]), at_us)])
"""

from collections.abc import Sequence
from itertools import chain, repeat
from typing import Literal

from earlybird.schemas.identity import digest, sha256_hex, signal_id
from earlybird.schemas.raw import RevisionKind, Symbol
from earlybird.schemas.signal import (
    Exit,
    ExitReason,
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

MODEL = Model(
    id="invented",
    sha256="0" * 64,
    profile="natural-v1",
    policy="fixed:layer=1",
    config_hash="0" * 16,
    numerics="none",
    dtype="float32",
    device="none",
    code_version="invented",
)


def invented(
    item: str,
    at_us: int,
    score: float | None = 0.9,
    *,
    symbols: Sequence[str] = ("NVDA",),
    revision: int = 0,
    action: SignalAction = SignalAction.NEW,
    source: str = "wire",
    item_type: Literal["news", "tweet"] = "news",
    offset: int | None = None,
    kind: RevisionKind | None = RevisionKind.COUNTER,
    refused: Literal["create", "update"] | None = None,
    relevance: Sequence[float | None] = (),
    dup_count: int = 0,
) -> Signal:
    """Return a complete, valid signal of an item published and emitted at `at_us`.

    The score's sign decides the label (0: neutral), its size the confidence. A retraction has no score. `offset` is its
    place in the raw topic; by default versions are ordered there by revision, a retraction last. `relevance` is that of
    the symbols, in their order; it is unknown for the others.
    """
    action = SignalAction(action)
    gone = action is SignalAction.RETRACT
    score = 0.0 if score is None else score
    probs = Probabilities(negative=max(0.0, -score), neutral=round(1.0 - abs(score), 6), positive=max(0.0, score))
    label = max(Label, key=lambda each: getattr(probs, each.value))
    key = f"{source}:{item}"
    text = sha256_hex(f"{key}:{revision}".encode())
    identifier = signal_id(
        f"{source}:{item}", revision, action, None if gone else text, MODEL.sha256, MODEL.config_hash
    )
    named = tuple(
        Symbol(symbol=symbol, origin="provider", relevance=weight)
        for symbol, weight in zip(symbols, chain(relevance, repeat(None)), strict=False)
    )
    exited = Exit(layer=1, max_layers=12, reason=ExitReason.FIXED, puzzlement=0.5)
    return Signal(
        signal_id=identifier,
        item_key=key,
        revision=revision,
        revision_kind=kind,
        action=action,
        refused=refused,
        source=source,
        item_type=item_type,
        symbols=named,
        primary_symbol=symbols[0] if symbols else None,
        label=None if gone else label,
        probs=None if gone else probs,
        score=None if gone else score,
        confidence=None if gone else max(probs.negative, probs.neutral, probs.positive),
        calibrated=None if gone else False,
        exit=None if gone else exited,
        input=None if gone else Input(n_tokens=8, truncated=False, text_sha256=text),
        novelty=None if gone else Novelty(cache_hit=dup_count > 0, dup_count=dup_count),
        model=MODEL,
        digest=digest(identifier, None if gone else label, None if gone else probs, None if gone else exited, named),
        raw=RawPosition(topic="news.raw", partition=0, offset=2 * revision + gone if offset is None else offset),
        ts=Times(published_us=at_us, ingested_us=at_us, consumed_us=at_us, emitted_us=at_us),
    )
