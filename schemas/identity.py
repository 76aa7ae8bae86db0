"""Names of results: signal_id, digest and the hash of a configuration. Pure functions of their arguments.

All three hash canonical JSON: sorted keys, no spaces, UTF-8, no floats, so that any language can repeat them.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.raw import Symbol
from schemas.signal import Exit, Probabilities

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False)


def canonical(value: Any) -> bytes:
    """Canonical JSON of a value without floats. Raises TypeError on a float: its text differs between languages."""
    _refuse_floats(value)
    return _ENCODER.encode(value).encode()


def sha256_hex(content: bytes) -> str:
    """64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def config_hash(parts: Mapping[str, Any]) -> str:
    """16 hex digits over everything that changes a verdict in exact arithmetic: profile and tokenizer hashes,
    max_tokens, exit policy, calibration, label order. Never dtype, device, slots or topics."""
    return sha256_hex(canonical(parts))[:16]


def signal_id(
    item_key: str,
    revision: int,
    action: str,
    text_sha256: str | None,
    model_sha256: str,
    config: str,
) -> str:
    """32 hex digits; the same text, revision, model and configuration give the same id in live and in replay."""
    # Strings, an integer and null by their types: the walk that looks for floats is spared on the hot path.
    return sha256_hex(_ENCODER.encode([item_key, revision, action, text_sha256, model_sha256, config]).encode())[:32]


def digest(
    identifier: str,
    label: str | None,
    probs: Probabilities | None,
    exited: Exit | None,
    symbols: Sequence[Symbol],
) -> str:
    """64 hex digits over what a strategy may trade on: nothing about machine, time, run or novelty. Two runs that
    agree on every digest said the same. Probabilities enter as whole millionths."""
    content = {
        "signal_id": identifier,
        "label": label,
        "probs": None if probs is None else _millionths(probs),
        "layer": None if exited is None else exited.layer,
        "reason": None if exited is None else exited.reason,
        "symbols": [symbol.symbol for symbol in symbols],
    }
    return sha256_hex(_ENCODER.encode(content).encode())


def _millionths(probs: Probabilities) -> dict[str, int]:
    return {
        "negative": round(probs.negative * 1_000_000),
        "neutral": round(probs.neutral * 1_000_000),
        "positive": round(probs.positive * 1_000_000),
    }


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise TypeError(f"canonical JSON holds no floats, was {value!r}")
    if isinstance(value, Mapping):
        for part in value.values():
            _refuse_floats(part)
    elif isinstance(value, list | tuple):
        for part in value:
            _refuse_floats(part)
