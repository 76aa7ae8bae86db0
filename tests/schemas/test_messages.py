"""The messages: what is accepted, what is refused, and that yesterday's readers can read today's writers."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from earlybird.schemas import release
from earlybird.schemas.codec import DecodeError, decode, encode
from earlybird.schemas.control import CONTROL, Heartbeat, PartitionProgress, ReplayComplete, TopicEnd
from earlybird.schemas.raw import RAW, RawNews, RawTweet, RevisionKind
from earlybird.schemas.rejection import Reason, Rejection
from earlybird.schemas.signal import RawPosition, Signal

NOW_US = 1_770_000_000_000_000

NEWS: dict[str, Any] = {
    "schema_version": "1.0",
    "item_key": "wire:1",
    "source": "wire",
    "source_item_id": "1",
    "item_type": "news",
    "action": "create",
    "published_us": NOW_US - 5,
    "ingested_us": NOW_US,
    "headline": "Acme raises its outlook",
    "symbols": [{"symbol": "ACME", "origin": "provider", "relevance": 1.0}],
}

SIGNAL: dict[str, Any] = {
    "schema_version": "1.0",
    "signal_id": "0" * 32,
    "item_key": "wire:1",
    "revision": 0,
    "action": "new",
    "source": "wire",
    "item_type": "news",
    "symbols": [{"symbol": "ACME", "origin": "provider"}],
    "primary_symbol": "ACME",
    "label": "positive",
    "probs": {"negative": 0.05, "neutral": 0.15, "positive": 0.8},
    "score": 0.75,
    "confidence": 0.8,
    "calibrated": True,
    "exit": {"layer": 2, "max_layers": 8, "reason": "window", "puzzlement": 0.4},
    "input": {"n_tokens": 7, "truncated": False, "text_sha256": "1" * 64},
    "novelty": {"cache_hit": False},
    "model": {
        "id": "m",
        "sha256": "2" * 64,
        "profile": "natural-v1",
        "policy": "cwb:delta=0.3,window=2",
        "config_hash": "3" * 16,
        "numerics": "4" * 16,
        "dtype": "float32",
        "device": "cpu",
        "code_version": "0.1.0",
    },
    "digest": "5" * 64,
    "raw": {"topic": "news.raw", "partition": 0, "offset": 4},
    "ts": {"ingested_us": NOW_US, "consumed_us": NOW_US, "emitted_us": NOW_US},
}


def as_json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode()


def test_messages_survive_the_wire() -> None:
    """What is encoded decodes to an equal message, for every kind."""
    heartbeat = Heartbeat(
        worker="w",
        sequence=1,
        state="running",
        partitions=(PartitionProgress(topic="news.raw", partition=0, low_water=3),),
        model_sha256="a",
        config_hash="b",
        numerics="c",
        sent_us=NOW_US,
    )
    rejection = Rejection(
        reason=Reason.MALFORMED, detail="d", raw=RawPosition(topic="t", partition=0, offset=1), rejected_us=NOW_US
    )
    complete = ReplayComplete(
        run_id="r", topic="t", ends=(TopicEnd(partition=0, offset=9),), signals=9, content_sha256="a", sent_us=NOW_US
    )
    for message in (decode(RawNews, as_json(NEWS)), decode(Signal, as_json(SIGNAL)), rejection, heartbeat, complete):
        assert decode(type(message), encode(message)) == message
    assert [CONTROL.validate_json(encode(each)) for each in (heartbeat, complete)] == [heartbeat, complete]


def test_unknown_fields_are_ignored() -> None:
    """A reader of today takes a message of tomorrow."""
    assert decode(Signal, as_json(SIGNAL | {"horizon": 3})) == decode(Signal, as_json(SIGNAL))


def test_item_type_chooses_the_message() -> None:
    """One topic may hold both kinds."""
    tweet = {key: value for key, value in NEWS.items() if key != "headline"} | {
        "item_type": "tweet",
        "text": "$ACME up",
    }
    assert isinstance(RAW.validate_json(as_json(NEWS)), RawNews)
    assert isinstance(RAW.validate_json(as_json(tweet)), RawTweet)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ingested_us", NOW_US // 1_000),  # milliseconds
        ("ingested_us", NOW_US * 1_000),  # nanoseconds
        ("ingested_us", str(NOW_US)),
        ("source_item_id", 17),
        ("headline", ["a"]),
        ("action", "upsert"),
        ("symbols", [{"symbol": "", "origin": "provider"}]),
        ("symbols", [{"symbol": "A", "origin": "provider", "relevance": 1.5}]),
        ("schema_version", "2.0"),
        ("vendor_sentiment", float("nan")),
    ],
)
def test_wrong_values_are_refused(field: str, value: Any) -> None:
    """Nothing is coerced and no wrong unit passes."""
    with pytest.raises(DecodeError, match=field):
        decode(RawNews, as_json(NEWS | {field: value}))


def test_retraction_carries_no_result() -> None:
    """A strategy can rely on it: either a whole result or a retraction."""
    with pytest.raises(DecodeError):
        decode(Signal, as_json(SIGNAL | {"action": "retract"}))
    with pytest.raises(DecodeError):
        decode(Signal, as_json(SIGNAL | {"label": None}))


def test_messages_are_immutable() -> None:
    """Threads share messages; nobody may change one."""
    signal = decode(Signal, as_json(SIGNAL))
    with pytest.raises(ValidationError):
        signal.score = 0.0


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"revision": 7, "updated_us": NOW_US}, 7),
        ({"updated_us": NOW_US - 1}, NOW_US - 1),
        ({}, NOW_US - 5),
        ({"published_us": None}, 0),
        ({"published_us": None, "action": "delete"}, NOW_US),
    ],
)
def test_revision_falls_back_from_counter_to_times(extra: dict[str, Any], expected: int) -> None:
    """Counter, else updated, else published, else 0; a delete without any takes its ingest time."""
    assert RAW.validate_json(as_json(NEWS | extra)).effective_revision == expected


@pytest.mark.parametrize("name", sorted(release.MESSAGES))
def test_released_schema_is_todays_model(name: str) -> None:
    """A changed message needs a new version and a new file; a released file never changes."""
    assert json.loads(release.released(name)) == release.schema(name)


def test_readers_of_the_first_heartbeat_read_the_second() -> None:
    """A field more, which they ignore: a strategy that lags behind must not take a stage for dead."""
    old, new = (json.loads(release.released(f"heartbeat-{version}")) for version in ("1.0", "1.1"))
    assert new["properties"].pop("shed")["default"] == 0
    assert {**new, "description": ""} == {**old, "description": ""}


def test_an_older_schema_of_a_message_stays_and_its_readers_are_told_apart() -> None:
    """rejection-1.0 is frozen beside 1.1: what a writer says in 1.0 keeps to it, and only the new reason needs 1.1."""
    old, new = (json.loads(release.released(f"rejection-{version}")) for version in ("1.0", "1.1"))
    known = set(old["$defs"]["Reason"]["enum"])
    assert set(new["$defs"]["Reason"]["enum"]) - known == {"shed"}
    assert old["properties"].keys() == new["properties"].keys() and old["required"] == new["required"]
    place = RawPosition(topic="t", partition=0, offset=1)
    about: dict[str, Any] = {"detail": "d", "raw": place, "rejected_us": NOW_US}
    assert Rejection(reason=Reason.STALE, **about).schema_version == old["properties"]["schema_version"]["const"]
    assert Rejection(reason=Reason.SHED, schema_version="1.1", **about)
    with pytest.raises(ValidationError, match="shed needs schema_version"):
        Rejection(reason=Reason.SHED, **about)


def test_readers_of_the_first_signal_read_the_second() -> None:
    """A field more, which they ignore; today's reader takes what lacks it."""
    old, new = (json.loads(release.released(f"signal-{version}")) for version in ("1.0", "1.1"))
    assert new["properties"].pop("revision_kind")["default"] is None
    assert new["properties"].pop("refused")["default"] is None
    new["$defs"].pop("RevisionKind")
    assert {**new, "description": ""} == {**old, "description": ""}
    assert decode(Signal, as_json(SIGNAL)).revision_kind is None
    assert decode(Signal, as_json(SIGNAL | {"revision_kind": "counter"})).revision_kind is RevisionKind.COUNTER


def test_readers_of_the_second_signal_read_the_third() -> None:
    """One field more, inside the exit; today's reader takes what lacks it."""
    old, new = (json.loads(release.released(f"signal-{version}")) for version in ("1.1", "1.2"))
    assert new["$defs"]["Exit"]["properties"].pop("policy")["default"] is None
    new["$defs"]["Exit"]["description"] = old["$defs"]["Exit"]["description"]
    assert new == old
    chosen = SIGNAL | {"exit": {**SIGNAL["exit"], "policy": "fixed:1"}}
    exits = [decode(Signal, as_json(each)).exit for each in (SIGNAL, chosen)]
    assert [each and each.policy for each in exits] == [None, "fixed:1"]


def test_readers_of_the_third_signal_read_the_fourth() -> None:
    """Three fields more, which they ignore; today's reader takes what lacks them."""
    old, new = (json.loads(release.released(f"signal-{version}")) for version in ("1.2", "1.3"))
    for added in ("headline", "url", "symbol_table"):
        assert new["properties"].pop(added)["default"] is None
    assert new == old
    told = decode(Signal, as_json(SIGNAL | {"headline": "Norvex lifts outlook", "url": "https://n.example/1"}))
    assert (told.headline, told.url) == ("Norvex lifts outlook", "https://n.example/1")
    assert decode(Signal, as_json(SIGNAL)).headline is None
    with pytest.raises(DecodeError, match="headline"):
        decode(Signal, as_json(SIGNAL | {"headline": "x" * 201}))
    signals = [decode(Signal, as_json(each)) for each in (SIGNAL, SIGNAL | {"symbol_table": "0" * 16})]
    assert [signal.symbol_table for signal in signals] == [None, "0" * 16]


def test_the_check_of_published_messages_finds_what_is_wrong(
    released_faults: Callable[[str, bytes], list[str]],
) -> None:
    """The one that every test's messages go through."""
    assert released_faults("signal/1", as_json(SIGNAL)) == []
    symbols = [{"symbol": "", "origin": "provider"}]
    wrong: dict[str, Any] = {"symbols": symbols, "score": 2, "label": "good", "model": None, "ts": {"ingested_us": 5}}
    for name, value in wrong.items():
        found = released_faults("signal/1", as_json(SIGNAL | {name: value}))
        assert found and all(f"signal.{name}" in fault for fault in found)
    assert released_faults("signal/1", as_json({name: SIGNAL[name] for name in SIGNAL if name != "digest"}))
    assert (
        released_faults("signal/1", b"{") and released_faults("signal/1", b"[]") and released_faults("signal/1", b"{}")
    )
