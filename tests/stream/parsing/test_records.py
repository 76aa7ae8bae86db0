"""Record -> elements: every byte string becomes at least one element, with the right reason."""

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earlybird.schemas.raw import RevisionKind
from earlybird.schemas.rejection import Reason
from earlybird.stream.parsing.elements import NotAnArray, split
from earlybird.stream.parsing.records import Deletion, Limits, Readable, Refusal, read, symbols_of, text_of
from earlybird.stream.ports import Position, Record

NOW_US = 1_770_000_000_000_000
NEWS: dict[str, Any] = {
    "item_key": "wire:1",
    "source": "wire",
    "source_item_id": "1",
    "item_type": "news",
    "ingested_us": NOW_US,
    "headline": "Acme raises its outlook",
}


def record(value: bytes | None, key: bytes | None = b"wire:1", timestamp_us: int | None = NOW_US) -> Record:
    return Record("news.raw", 3, 41, key, value, timestamp_us)


def news(**changes: Any) -> bytes:
    fields = NEWS | changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


def only(value: bytes | None, limits: Limits | None = None, **about: Any) -> Any:
    (element,) = read(record(value, **about), limits or Limits())
    return element


def test_item_is_readable() -> None:
    """A well-formed item keeps its place."""
    element = only(news())
    assert isinstance(element, Readable)
    assert element.position == Position("news.raw", 3, 41, 0)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", Reason.MALFORMED),
        (b"\x00\xff\xfe garbage", Reason.MALFORMED),
        (b'{"item_key": "wire:1"', Reason.MALFORMED),
        (b"17", Reason.MALFORMED),
        (b"null", Reason.MALFORMED),
        (b"[]", Reason.MALFORMED),
        (b"[" * 100_000, Reason.MALFORMED),
        (b'{"a":' * 50_000, Reason.MALFORMED),
        (b"{}", Reason.MISSING_FIELD),
        (news(headline=["a"]), Reason.MALFORMED),
        (news(item_type="video"), Reason.MALFORMED),
        (news(item_key="other:1"), Reason.MALFORMED),
        (b'{"headline":"\\ud800",' + news()[1:].replace(b'"headline"', b'"summary"'), Reason.MALFORMED),
        (news(ingested_us=...), Reason.MISSING_FIELD),
        (news(source=...), Reason.MISSING_FIELD),
        (news(item_type=...), Reason.MISSING_FIELD),
        (news(schema_version="9.0"), Reason.UNSUPPORTED_SCHEMA),
        (news(ingested_us=NOW_US * 1_000), Reason.BAD_TIME),
        (news(published_us=-5), Reason.BAD_TIME),
        (news(published_us="yesterday"), Reason.BAD_TIME),
        (news(published_us=10**400), Reason.BAD_TIME),
        (news(lang="de"), Reason.LANGUAGE),
        (news(body="x" * 2_000_000), Reason.TOO_LARGE),
    ],
)
def test_bad_record_gets_its_reason(value: bytes, reason: Reason) -> None:
    """Nobody has to guess why a text got no signal."""
    element = only(value)
    assert isinstance(element, Refusal)
    assert element.reason is reason
    assert element.detail


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-16"])
def test_nesting_hidden_by_another_encoding_is_refused(encoding: str) -> None:
    """Half of "Ģ" is the byte of a quotation mark, so that what measures the nesting took brackets for a string."""
    element = only(('{"item_key":"a:b","Ģ":' + "[" * 100_000).encode(encoding))
    assert isinstance(element, Refusal) and element.reason is Reason.MALFORMED


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (b"", "not JSON: empty"),
        (b"\xef\xbb\xbf" + news(), "not JSON: begins with a byte order mark"),
        (b"{", "not JSON: EOF while parsing an object at line 1 column 1"),
        (b"17", "not a JSON object"),
        (news(item_type=...), "item_type is missing"),
        (news(item_type="video"), "item_type is news or tweet, was 'video'"),
        (news(ingested_us=...), "ingested_us is missing"),
        (news(schema_version="9.0"), "schema_version is '1.0', was '9.0'"),
        (news(action="upsert"), "action is 'create', 'update' or 'delete', was 'upsert'"),
        (news(action="x" * 900_000), "action is 'create', 'update' or 'delete', was 900,000 characters"),
        (
            news(published_us=1_770_000_000_000),
            "published_us looks like milliseconds: 1770000000000; microseconds since 1970 expected",
        ),
        (
            news(ingested_us=1_770_000_000),
            "ingested_us looks like seconds: 1770000000; microseconds since 1970 expected",
        ),
        (
            news(updated_us=NOW_US * 1_000),
            f"updated_us looks like nanoseconds: {NOW_US * 1_000}; microseconds since 1970 expected",
        ),
        (news(published_us=-5), "published_us is outside 1973 to 2100 in microseconds since 1970, was -5"),
        (
            news(published_us="yesterday"),
            "published_us is not an integer of microseconds since 1970, was a string",
        ),
        (news(published_us=1.5), "published_us is not an integer of microseconds since 1970, was 1.5"),
        (news(lang="de-" + "x" * 900_000), "lang is longer than 35 characters, was 900,003"),
        (news(headline=7), "headline is not a string, was 7"),
        (news(headline=["a"]), "headline is not a string, was an array"),
        (news(revision=2**63), f"revision is out of range, was {2**63}"),
        (news(vendor_sentiment=float("nan")), "vendor_sentiment is not a finite number, was NaN"),
        (news(source=""), "source is empty"),
        (news(tags="a"), "tags is not an array, was a string"),
        (news(symbols=[{"symbol": "A"}]), "symbols[0].origin is missing"),
        (
            news(symbols=[{"symbol": "A", "origin": "provider", "exchange": "X" * 65}]),
            "symbols[0]: its exchange is longer than 64 characters, was 65",
        ),
        (news(symbols=[{"symbol": "A", "origin": "provider"}] * 513), "symbols has more than 512 elements"),
        (
            news(item_type="tweet", metrics={"\x1b" + "x" * 900_000: 1.5}),
            "metrics.\\x1b" + "x" * 39 + "... (899,961 characters more) is not an integer, was 1.5",
        ),
        (news(lang="de"), "lang: one of en read, was 'de'"),
        (b"[1", "not JSON: an array without its end"),
        (b"[1,]", "not JSON: nothing between two commas"),
        (b"[]", "not JSON: an array without elements"),
    ],
)
def test_detail_speaks_the_sender_s_language(value: bytes, detail: str) -> None:
    """What is wrong, in the words of the envelope, never more than a name or a number of the input."""
    assert only(value).detail == detail


def test_detail_never_quotes_the_text() -> None:
    """Logs must not hold licensed text."""
    text = "Acme raises its outlook for the year to a new high"
    for field in ("published_us", "item_type", "action", "body_format", "schema_version", "lang", "source_item_id"):
        detail = only(news(**{field: text, "headline": text})).detail
        assert "outlook" not in detail and len(detail) < 200


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_any_bytes_become_one_element(value: bytes) -> None:
    """No input crashes and none vanishes."""
    assert len(read(record(value), Limits())) >= 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from([*NEWS, "action", "updated_us", "revision", "lang", "symbols", "text"]), json_values, max_size=5
    )
)
def test_any_wrong_type_becomes_one_element(changes: dict[str, Any]) -> None:
    """Whatever type a field has, the record is accounted for."""
    assert len(read(record(news(**changes)), Limits())) == 1


def test_array_gives_one_element_each() -> None:
    """One broken element takes nothing from its neighbours."""
    elements = read(record(b"[" + news() + b',{"item_key":"x"},' + news(action="delete") + b"]"), Limits())
    assert [type(element) for element in elements] == [Readable, Refusal, Deletion]
    assert [element.position.index for element in elements] == [0, 1, 2]


def test_null_record_deletes_its_key() -> None:
    """A tombstone is a delete, dated by the broker."""
    element = only(None)
    assert element == Deletion(Position("news.raw", 3, 41), "wire:1", NOW_US, NOW_US)


@pytest.mark.parametrize(
    ("array", "parts"),
    [
        (b" [1] ", [b"1"]),
        (b'[{"a":[1,"],"]}, "x,]" ,\n[[],{}]]', [b'{"a":[1,"],"]}', b'"x,]"', b"[[],{}]"]),
        (b'["\\\\", "\\"]"]', [b'"\\\\"', b'"\\"]"']),
        (b'["\xff\xfe", {"a":"\\ud800"}]', [b'"\xff\xfe"', b'{"a":"\\ud800"}']),
        (b"[" + b"[" * 50_000 + b"]" * 50_000 + b",1]", [b"[" * 50_000 + b"]" * 50_000, b"1"]),
    ],
)
def test_elements_are_the_bytes_that_came(array: bytes, parts: list[bytes]) -> None:
    """However deep, and whatever is broken in one: its neighbours are read."""
    assert split(array, 10) == parts


@pytest.mark.parametrize("array", [b"[", b"[1", b'["a]', b"[1]]", b"[1] 2", b"[{}}", b"[,]", b"[1,,2]", b"[ ]"])
def test_what_is_no_whole_array_has_no_elements(array: bytes) -> None:
    """It is refused as one."""
    with pytest.raises(NotAnArray):
        split(array, 10)
    assert only(array).reason is Reason.MALFORMED


@given(st.lists(json_values, min_size=1, max_size=6))
def test_elements_are_those_of_a_json_parser(parts: list[Any]) -> None:
    """The same number, each saying the same."""
    found = split(json.dumps(parts).encode(), 6)
    assert [json.dumps(json.loads(part)) for part in found] == [json.dumps(part) for part in parts]


def test_one_element_too_many_refuses_the_array() -> None:
    """Exactly as many as are allowed are read."""
    limits = Limits(max_elements=3)
    assert len(read(record(b"[1,2,3]"), limits)) == 3
    assert only(b"[1,2,3,4]", limits).reason is Reason.TOO_LARGE


@pytest.mark.parametrize("key", [b"\xff\xfe", b"k" * 513])
def test_a_key_that_no_item_can_have_deletes_nothing(key: bytes) -> None:
    """Cut or mended it would be another item's."""
    refusal = only(None, key=key)
    assert (refusal.reason, refusal.item_key) == (Reason.MALFORMED, None)


def test_a_refused_update_with_a_broken_text_still_takes_back() -> None:
    """A lone surrogate, a number of 5,000 digits: what can be seen of it is used, to any depth of the stack."""
    for odd in (b'"\\ud800"', b"1" * 5_000):
        value = news(action="update", updated_us=NOW_US - 1)[:-1] + b',"summary":' + odd + b"}"
        expected = Deletion(PLACE, "wire:1", NOW_US - 1, NOW_US, kind=RevisionKind.UPDATED, refused="update")
        assert only(value).retraction == expected
    deep = news(action="update", updated_us=NOW_US - 1)[:-1] + b',"x":' + b"[" * 201 + b"]" * 201 + b"}"
    assert only(deep, key=None).retraction is None


def test_null_record_without_key_or_time_is_refused() -> None:
    """Nothing says what to delete; or nothing says when, and it is taken back all the same."""
    assert only(None, key=None).reason is Reason.MISSING_FIELD
    undated = only(None, timestamp_us=None)
    assert undated.reason is Reason.BAD_TIME
    assert undated.retraction == Deletion(PLACE, "wire:1", 0, None)


PLACE = Position("news.raw", 3, 41)


@pytest.mark.parametrize("action", ["create", "update"])
@pytest.mark.parametrize(
    ("changes", "revision", "kind"),
    [
        ({"revision": 0, "updated_us": NOW_US - 1}, 0, RevisionKind.COUNTER),
        ({"updated_us": NOW_US - 1, "published_us": NOW_US - 2}, NOW_US - 1, RevisionKind.UPDATED),
        ({"published_us": NOW_US - 2}, NOW_US - 2, RevisionKind.PUBLISHED),
        ({}, 0, RevisionKind.NONE),
    ],
)
def test_a_refused_element_takes_back_the_earlier_text(
    action: Literal["create", "update"], changes: dict[str, Any], revision: int, kind: RevisionKind
) -> None:
    """The source replaced its text by one we cannot read: what was said of the old one must go. Many feeds call an edit
    a create."""
    language = only(news(action=action, lang="de", **changes))
    assert (language.retraction.revision, language.retraction.kind) == (revision, kind)
    invalid = only(news(action=action, headline=7, **changes))
    assert invalid.reason is Reason.MALFORMED
    assert invalid.retraction == Deletion(PLACE, "wire:1", revision, NOW_US, kind=kind, refused=action)
    assert language.retraction.refused == action


@pytest.mark.parametrize("wrong", [{"updated_us": NOW_US // 1_000}, {"updated_us": "soon"}, {"revision": -1}])
def test_a_refused_edit_that_does_not_tell_its_revision_is_no_original(wrong: dict[str, Any]) -> None:
    """Its publication would make it older than every edit, and the text that it replaced would stand on."""
    refused = only(news(published_us=NOW_US - 2, **wrong))
    assert (refused.retraction.revision, refused.retraction.kind) == (0, RevisionKind.NONE)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"published_us": NOW_US // 1_000}, Reason.BAD_TIME),
        ({"symbols": [{"symbol": "", "origin": "provider"}]}, Reason.MALFORMED),
        ({"symbols": [{"symbol": " ", "origin": "provider"}]}, Reason.MALFORMED),
        ({"schema_version": "2.0"}, Reason.UNSUPPORTED_SCHEMA),
        ({"ingested_us": "now"}, Reason.BAD_TIME),
        ({"source": "other"}, Reason.MALFORMED),
        ({"revision": -1, "updated_us": True}, Reason.MALFORMED),
    ],
)
def test_a_delete_that_cannot_be_read_still_takes_its_item_back(changes: dict[str, Any], reason: Reason) -> None:
    """Its key says which; wrong numbers are no revision."""
    element = only(news(action="delete", headline=None, **changes))
    assert element.reason in (reason, Reason.MALFORMED, Reason.BAD_TIME)
    assert (element.retraction.item_key, element.retraction.kind) == ("wire:1", RevisionKind.NONE)
    assert element.retraction.ingested_us == NOW_US and element.retraction.refused is None


@pytest.mark.parametrize(
    ("key", "item_key"),
    [(b"wire:1", "wire:1"), (b"k", None), (None, None), (b":", None), (b"wire:\x00", None), (b"a:" + b"x" * 600, None)],
)
def test_a_record_that_cannot_be_read_is_known_by_its_key(key: bytes | None, item_key: str | None) -> None:
    """Where that has the form of an item key."""
    for value in (b"{broken", news(body="x" * 2_000_000), b"[1"):
        element = only(value, key=key)
        assert element.item_key == item_key
        assert (element.retraction is None) is (item_key is None)


def test_an_element_of_an_array_is_never_known_by_the_key_of_the_record() -> None:
    """It may be a neighbour's."""
    elements = read(record(b"[" + news() + b',{"headline":"x"}]'), Limits())
    assert isinstance(elements[1], Refusal) and elements[1].item_key is None


def test_age_is_judged_on_recorded_times() -> None:
    """The same in a replay years later."""
    limits = Limits(max_age_us=1_000)
    assert only(news(published_us=NOW_US - 1_001), limits).reason is Reason.STALE
    assert isinstance(only(news(published_us=NOW_US - 1_000), limits), Readable)


@pytest.mark.parametrize(
    "lang", ["en", "EN-us", "en_GB", "eng", "English", "und", "", None, "qme", "qct", "qst", "qht", "qam"]
)
def test_known_and_unknown_languages_pass(lang: str | None) -> None:
    """Only a language that the source names and the model never saw is refused."""
    assert isinstance(only(news(lang=lang)), Readable)


def test_text_is_headline_summary_body() -> None:
    """Most important first; empty parts left out."""
    element = only(news(summary="", body="Body.", body_format="html"))
    assert text_of(element.item).parts == ("Acme raises its outlook", "Body.")
    assert text_of(element.item).html


@pytest.mark.parametrize("headline", ["", None])
def test_a_body_without_a_headline_is_no_headline(headline: str | None) -> None:
    """Markup is read after the headline, so the place of one that is missing is kept."""
    element = only(news(headline=headline, body="<p>Body.</p>", body_format="html"))
    assert text_of(element.item).parts == ("", "<p>Body.</p>") and text_of(element.item).html


def test_symbols_are_canonical_and_unique() -> None:
    """Provider first, then the tweet's cashtags; what names nothing is left out."""
    tweet = only(
        news(
            item_type="tweet",
            text="$brk-b and $ACME",
            headline=...,
            symbols=[{"symbol": "acme", "origin": "provider"}],
            cashtags=["$brk-b", "ACME", "$", "a,b"],
        )
    )
    assert [(symbol.symbol, symbol.origin) for symbol in symbols_of(tweet.item)] == [
        ("ACME", "provider"),
        ("BRK.B", "cashtag"),
    ]
