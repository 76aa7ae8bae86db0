"""Identifiers of results: signal_id, digest and the configuration's hash. Pure functions.

All three hash canonical JSON: sorted keys, no spaces, UTF-8, no floats, so that any language can repeat them. The JSON
for each signal is written with sorted keys and typed to hold no floats, so pydantic's writer (ten times as fast as
json's) gives the same bytes; a test holds the two together.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from earlybird.schemas.raw import Symbol
from earlybird.schemas.signal import Exit, Probabilities

_PROBS = ("negative", "neutral", "positive")  # sorted, as in canonical JSON


def canonical(value: Any) -> bytes:
    """Encode a value without floats as canonical JSON.

    Raises TypeError on a float: its text differs between languages.
    """
    _refuse_floats(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256_hex(content: bytes) -> str:
    """Return the SHA-256 as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def config_hash(parts: Mapping[str, Any]) -> str:
    """Hash everything that changes a verdict in exact arithmetic: 16 hex digits.

    `parts` are profile and tokenizer hashes, max_tokens, exit policy, calibration and label order; never dtype, device,
    slots or topics.
    """
    return sha256_hex(canonical(parts))[:16]


def signal_id(
    item_key: str,
    revision: int,
    action: str,
    text_sha256: str | None,
    model_sha256: str,
    config: str,
) -> str:
    """Return a signal's id: 32 hex digits, the same live and in replay.

    It depends only on item, revision, action, text, model and configuration.
    """
    return sha256_hex(to_json([item_key, revision, action, text_sha256, model_sha256, config]))[:32]


def digest(
    identifier: str,
    label: str | None,
    probs: Probabilities | None,
    exited: Exit | None,
    symbols: Sequence[Symbol],
) -> str:
    """Hash what a strategy may trade on: 64 hex digits.

    Nothing about machine, time, run or novelty enters it. Two runs that agree on every digest gave the same results.
    Probabilities enter as whole millionths.
    """
    return digest_of_values(
        identifier,
        label,
        None if probs is None else vars(probs),
        None if exited is None else exited.layer,
        None if exited is None else exited.reason,
        [symbol.symbol for symbol in symbols],
    )


def digest_of_values(
    identifier: str,
    label: str | None,
    probs: Mapping[str, float] | None,
    layer: int | None,
    reason: str | None,
    symbols: Sequence[str],
) -> str:
    """Return the digest from the values in a signal's JSON."""
    content = {
        "label": label,
        "layer": layer,
        "probs": None if probs is None else {name: round(probs[name] * 1_000_000) for name in _PROBS},
        "reason": reason,
        "signal_id": identifier,
        "symbols": symbols,
    }
    return sha256_hex(to_json(content))


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise TypeError(f"canonical JSON holds no floats, was {value!r}")
    if isinstance(value, Mapping):
        for part in value.values():
            _refuse_floats(part)
    elif isinstance(value, list | tuple):
        for part in value:
            _refuse_floats(part)
