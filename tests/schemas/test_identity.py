"""Names of results: the same for the same thing, another for another, and computable in any language."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earlybird.schemas.identity import canonical, config_hash, digest, signal_id
from earlybird.schemas.raw import Symbol
from earlybird.schemas.signal import Exit, ExitReason, Probabilities

PROBS = Probabilities(negative=0.1, neutral=0.2, positive=0.7)
EXIT = Exit(layer=3, max_layers=8, reason=ExitReason.WINDOW, puzzlement=0.5)


def test_signal_id_is_the_documented_hash() -> None:
    """First 32 hex digits of sha256 over the canonical JSON of six values, so that others can repeat it."""
    text = b'["wire:1",7,"new","t","m","c"]'
    assert signal_id("wire:1", 7, "new", "t", "m", "c") == hashlib.sha256(text).hexdigest()[:32]


def test_canonical_json_is_sorted_compact_utf8() -> None:
    """One spelling only."""
    assert canonical({"b": [1, None, True], "a": "é"}) == '{"a":"é","b":[1,null,true]}'.encode()


def test_canonical_json_refuses_floats() -> None:
    """Their text differs between languages."""
    with pytest.raises(TypeError, match=r"0\.5"):
        canonical({"a": [0.5]})


def test_digest_sees_what_may_be_traded_on() -> None:
    """Label, probabilities to the millionth, exit and symbols change it."""
    base = digest("i", "positive", PROBS, EXIT, ())
    assert base == digest("i", "positive", PROBS.model_copy(update={"positive": 0.7000000001}), EXIT, ())
    others = {
        digest("j", "positive", PROBS, EXIT, ()),
        digest("i", "neutral", PROBS, EXIT, ()),
        digest("i", "positive", PROBS.model_copy(update={"positive": 0.700001}), EXIT, ()),
        digest("i", "positive", PROBS, EXIT.model_copy(update={"layer": 4}), ()),
        digest("i", "positive", PROBS, EXIT, (Symbol(symbol="A", origin="provider"),)),
        digest("i", None, None, None, ()),
    }
    assert base not in others
    assert len(others) == 6


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(texts, st.integers(0, 2**63), texts | st.none(), st.lists(texts, max_size=3))
def test_fast_writer_gives_canonical_json(key: str, revision: int, text: str | None, symbols: list[str]) -> None:
    """Ids and digests are computed by a faster writer; whatever the characters, its bytes are the documented ones."""
    fields = [key, revision, "new", text, "m", "c"]
    assert signal_id(key, revision, "new", text, "m", "c") == hashlib.sha256(canonical(fields)).hexdigest()[:32]
    names = tuple(Symbol.model_construct(symbol=symbol, origin="provider") for symbol in symbols)
    content = {
        "signal_id": key,
        "label": "positive",
        "probs": {"negative": 100_000, "neutral": 200_000, "positive": 700_000},
        "layer": 3,
        "reason": "window",
        "symbols": symbols,
    }
    assert digest(key, "positive", PROBS, EXIT, names) == hashlib.sha256(canonical(content)).hexdigest()


def test_config_hash_does_not_depend_on_order() -> None:
    """A mapping's order is no part of a configuration."""
    assert config_hash({"a": 1, "b": 2}) == config_hash({"b": 2, "a": 1})
