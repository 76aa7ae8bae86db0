"""A signal is written without building the message: what is written must be the message all the same."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earlybird.engine.text.encoder import Encoded
from earlybird.engine.types import Verdict
from earlybird.schemas.base import EARLIEST_US, LATEST_US
from earlybird.schemas.codec import decode, encode
from earlybird.schemas.identity import digest
from earlybird.schemas.raw import RawNews, RawTweet, Symbol
from earlybird.schemas.signal import ExitReason, Model, Signal
from earlybird.stream.parsing.records import Readable
from earlybird.stream.ports import Position, Record
from earlybird.stream.stage.messages import Answer, Duplicate, Entry
from earlybird.stream.stage.outcome import Origin, fields_record, signal_fields, signal_headers, signal_record

NOW_US = 1_770_000_000_000_000
NAMES = ("id", "sha256", "profile", "policy", "config_hash", "numerics", "dtype", "device", "code_version")
ORIGIN = Origin(Model.model_validate(dict.fromkeys(NAMES, "x")), 8, True)

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
instants = st.none() | st.integers(EARLIEST_US, LATEST_US)
symbols = st.builds(
    Symbol,
    symbol=st.text("abzßŉ0$./- ", min_size=1, max_size=12).filter(lambda text: text.strip("$./- ")),
    origin=st.sampled_from(["provider", "cashtag", "exchange_tag", "linked"]),
    exchange=st.none() | texts,
    relevance=st.none() | st.floats(0, 1),
)
common: dict[str, Any] = {
    "item_key": texts,
    "source": texts,
    "source_item_id": texts,
    "action": st.sampled_from(["create", "update"]),
    "revision": st.none() | st.integers(0, 2**63 - 1),
    "published_us": instants,
    "updated_us": instants,
    "ingested_us": st.integers(EARLIEST_US, LATEST_US),
    "lang": st.none() | texts,
    "symbols": st.lists(symbols, max_size=3).map(tuple),
    "url": st.none() | texts,
}
items = st.fixed_dictionaries(common | {"item_type": st.just("news"), "headline": st.none() | texts}).map(
    lambda fields: RawNews.model_validate(fields, strict=False)
) | st.fixed_dictionaries(
    common
    | {"item_type": st.just("tweet"), "text": st.none() | texts, "cashtags": st.lists(texts, max_size=2).map(tuple)}
).map(lambda fields: RawTweet.model_validate(fields, strict=False))
duplicates = st.none() | st.builds(Duplicate, texts, st.integers(EARLIEST_US, LATEST_US), st.integers(0, 1000))
shares = st.floats(-1e-7, 1 + 1e-7)


def entry_of(item: RawNews | RawTweet, followed: Duplicate | None = None) -> Entry:
    entry = Entry(Readable(Position("news.raw", 3, 7, 1), item), Record("news.raw", 3, 7, None, b"{}"), 1, NOW_US)
    entry.encoded, entry.ticket, entry.leads, entry.duplicate = Encoded((1, 2), True, "0" * 64), 1, True, followed
    return entry


def answer_of(probs: tuple[float, ...], puzzlement: float = 0.5, known: Duplicate | None = None) -> Answer:
    label = probs.index(max(probs))
    return Answer(1, Verdict(1, label, probs, (), 2, ExitReason.WINDOW, puzzlement), NOW_US, NOW_US + 1, known)


@given(items, st.tuples(shares, shares, shares), shares, duplicates, duplicates, st.booleans())
def test_the_bytes_are_those_of_the_message(
    item: RawNews | RawTweet,
    probs: tuple[float, ...],
    puzzlement: float,
    known: Duplicate | None,
    followed: Duplicate | None,
    headlines: bool,
) -> None:
    """Read as the released contract and written again, no byte differs; digest, key and headers are the message's."""
    entry = entry_of(item, followed)
    origin, answer = replace(ORIGIN, headlines=headlines), answer_of(probs, puzzlement, known)
    record = fields_record(signal_fields(entry, answer, origin, NOW_US + 2), entry, "s")
    signal = decode(Signal, record.value or b"")
    assert encode(signal) == record.value
    assert signal.digest == digest(signal.signal_id, signal.label, signal.probs, signal.exit, signal.symbols)
    assert signal_record(signal, entry, "s") == record


NEWS = RawNews(item_key="a:1", source="a", source_item_id="1", item_type="news", ingested_us=NOW_US)
TWEET = RawTweet(item_key="x:1", source="x", source_item_id="1", item_type="tweet", ingested_us=NOW_US, text="$NRVX up")


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_number_that_is_none_is_not_published(place: int) -> None:
    """A broken model's text becomes a dead letter, never a signal."""
    numbers = [0.2, 0.3, 0.5, 0.4]
    numbers[place] = math.nan
    with pytest.raises(ValueError, match="nan"):
        signal_fields(entry_of(NEWS), answer_of(tuple(numbers[:3]), numbers[3]), ORIGIN, NOW_US)


@pytest.mark.parametrize("now_us", [0, LATEST_US + 1])
def test_a_clock_that_is_none_is_not_published(now_us: int) -> None:
    """Every reader would refuse such a signal."""
    with pytest.raises(ValueError, match=f"clock.*was {now_us}"):
        signal_fields(entry_of(NEWS), answer_of((0.2, 0.3, 0.5)), ORIGIN, now_us)


@pytest.mark.parametrize(
    ("item", "headline", "url"),
    [
        (NEWS.model_copy(update={"headline": "Norvex lifts outlook", "url": "https://n.example/1"}),
         "Norvex lifts outlook", "https://n.example/1"),
        (NEWS.model_copy(update={"headline": "x" * 200, "url": "u" * 2_048}), "x" * 200, "u" * 2_048),
        (NEWS.model_copy(update={"headline": "x" * 201, "url": "u" * 2_049}), "x" * 199 + "…", None),
        (NEWS.model_copy(update={"body": "no headline"}), None, None),
        (TWEET, "$NRVX up", None),
    ],
)  # fmt: skip
def test_a_signal_carries_headline_and_url_on_request(
    item: RawNews | RawTweet, headline: str | None, url: str | None
) -> None:
    """Within bounds: a cut headline ends in an ellipsis, a cut address would be none. Nothing else changes."""
    known = Duplicate("other:1", NOW_US, 3)  # a repeated text has the headline of its own item
    entry, answer = entry_of(item), answer_of((0.1, 0.2, 0.7), known=known)
    plain = signal_fields(entry, answer, ORIGIN, NOW_US)
    told = signal_fields(entry, answer, replace(ORIGIN, headlines=True), NOW_US)
    assert (plain["headline"], plain["url"]) == (None, None)
    assert (told["headline"], told["url"]) == (headline, url)
    assert told == plain | {"headline": headline, "url": url}  # signal_id and digest included
    assert signal_headers(told) == signal_headers(plain)
    decode(Signal, fields_record(told, entry, "s").value or b"")
