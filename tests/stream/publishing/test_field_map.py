"""Field maps: JMESPath expressions, the forms behind them, and what is refused before a line is read."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earlybird.stream.errors import FeedError
from earlybird.stream.publishing.field_map import FieldMap
from earlybird.stream.publishing.queries import Queries, UnmappableError, suffixed

T0 = 1_700_000_000_000_000
NAMED = ["source='wire'", "source_item_id=id"]
STORY: dict[str, Any] = {
    "id": 7, "title": "Norvex opens plant", "long": {"text": "All of it"}, "ids": [12, 13], "did": "Updated",
    "at": "2023-11-14 22:13:20", "stocks": [{"name": "A", "type": "stock"}, {"name": "E", "type": "etf"}, {"x": 1}],
}  # fmt: skip


def item(*specs: str, record: object = STORY) -> dict[str, Any]:
    return FieldMap([*NAMED, *specs]).item(record)


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ("headline=title", "Norvex opens plant"), ("headline=note.text || long.text", "All of it"),
        ("headline=join(' ', [title, 'x'])", "Norvex opens plant x"), ("headline='a:b, c=d'", "a:b, c=d"),
        ("tags=long.text", ["All of it"]), ('headline="title"', "Norvex opens plant"), ("revision=ids[:1]|[0]", 12),
        ("source_item_id=ids[-1]", "13"), ("action=did", "update"),
        ("published_us=at:%Y-%m-%d %H:%M:%S", T0), ("published_us=at:iso-utc", T0), ("published_us=`1700000000`:s", T0),
        ("published_us={a: at}.a : iso-utc", T0),
    ],
)  # fmt: skip
def test_a_value_comes_from_where_the_expression_says(spec: str, value: object) -> None:
    """Fallbacks, functions, constants, slices; colons in brackets and quotes are the expression's own."""
    assert item(spec)[spec.partition("=")[0]] == value


@pytest.mark.parametrize(
    ("expression", "symbols"),
    [
        ("stocks[*].name", [{"symbol": "A"}, {"symbol": "E"}]),
        ("stocks[?type=='stock'].name", [{"symbol": "A"}]),
        ("stocks[?name].{symbol: name, exchange: 'XNAS', relevance: `0.5`}",
         [{"symbol": name, "exchange": "XNAS", "relevance": 0.5} for name in "AE"]),
    ],
)  # fmt: skip
def test_symbols_are_chosen_and_shaped_by_the_expression(expression: str, symbols: list[dict[str, Any]]) -> None:
    """As names, or as objects with exchange and relevance."""
    assert item(f"symbols={expression}")["symbols"] == [
        {"symbol": each["symbol"], "origin": "provider"} | each for each in symbols
    ]


@pytest.mark.parametrize("relevance", [90, "high", True, -0.1])
def test_a_relevance_on_another_scale_is_named(relevance: object) -> None:
    """Taken as it is, it would pass every filter, or none."""
    with pytest.raises(UnmappableError, match="symbols: relevance: 0 to 1 expected"):
        item("symbols=s", record={"id": 1, "s": [{"symbol": "A", "relevance": relevance}]})


@pytest.mark.parametrize(
    ("status", "action"),
    [("stat:canceled", "delete"), ("stat:usable", "create"), ("stat:odd", "create"), (None, None)],
)
def test_a_table_gives_values_a_meaning(status: str | None, action: str | None) -> None:
    """Also values with a colon; the star is for those that it does not name, and not for what is absent."""
    spec = "action=status:stat:canceled=delete,stat:usable=create,*=create"
    assert item(spec, record={"id": 1, "status": status}).get("action") == action


def test_a_table_reads_what_is_no_text() -> None:
    """As JSON writes it."""
    spec = "action=deleted:true=delete,false=create"
    assert [item(spec, record={"id": 1, "deleted": gone})["action"] for gone in (True, False)] == ["delete", "create"]
    words = "vendor_sentiment=mood:positive=1,negative=-1"
    assert [item(words, record={"id": 1, "mood": mood})["vendor_sentiment"] for mood in ("negative", 0.4)] == [-1, 0.4]


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("headlin=title", "did you mean headline"),
        ("headline", "TARGET=EXPRESSION"),
        ("headline=title:ms", "a table VALUE=NEW"),
        ("published_us=ts:fortnights", "was 'fortnights'"),
        ("source_item_id=ids.0", r"column 20, '0'; an element of a list is written \[0\]"),
        ("headline=head-line", "column 14, '-line'; a name with other characters is written in \"quotes\""),
        ("headline=title[", "it ends too early"),
        ("headline=title ||", "it ends too early"),
        ("headline='title", "column 10"),
        ("headline=:iso", "an expression expected"),
        ("headline=upper(title)", r"Unknown function: upper\(\)"),
        ("headline=join(title)", "Expected 2 arguments"),
        ("symbols=stocks[?type='stock']", "column 21"),
    ],
)
def test_a_map_that_cannot_work_is_refused_at_once(spec: str, complaint: str) -> None:
    """Before any line is read, with its place."""
    with pytest.raises(FeedError, match=complaint):
        FieldMap([spec])


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("headline=join(' ', title)", r"headline: In function join\(\), invalid type"),
        ("published_us=title:iso", "published_us: ISO 8601 expected, was 'Norvex opens plant'"),
        ("revision=title", "revision: invalid literal for int"),
    ],
)
def test_a_line_that_an_expression_cannot_take_is_named_with_the_field(spec: str, complaint: str) -> None:
    """And no more than the line is lost."""
    with pytest.raises(UnmappableError, match=complaint):
        item(spec)


def test_a_long_id_is_hashed() -> None:
    """A link is an id in many feeds, and a key has its bounds; the same link is the same item."""
    keys = {item(record={"id": "https://wire.example/" + "a" * length})["item_key"] for length in (500, 500, 501)}
    assert len(keys) == 2 and all(len(key) < 40 for key in keys)
    assert item(record={"id": "https://wire.example/a"})["item_key"] == "wire:https://wire.example/a"


def test_of_two_rules_the_last_one_counts() -> None:
    """That is how --map wins over a preset."""
    assert item("headline=title", "headline=long.text")["headline"] == "All of it"


def test_an_expression_reaches_the_whole_line() -> None:
    """Of an item in a page, what stands beside the page."""
    queries = Queries()
    fields = FieldMap([*NAMED, "ingested_us=line().seen:s"], queries)
    queries.begin({"seen": 1_700_000_000, "news": [STORY]})
    assert fields.item(STORY)["ingested_us"] == T0


PARTS = ["a", "a.b", "'x:y'", '"n:m"', '`{"a": 1}`', "a[1:2]", "a[?b == ':']", "{k: a}", "not_null({k: a[:1]})"]


@given(
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map(" || ".join),
    st.sampled_from([None, "iso", "%H:%M:%S", "a:b=c"]),
)
def test_any_expression_is_told_from_what_follows_it(expression: str, form: str | None) -> None:
    """JMESPath has no colon outside of quotes and brackets."""
    assert suffixed(expression if form is None else f"{expression}:{form}") == (expression, form)


def test_expressions_are_data_and_no_text_is_lost() -> None:
    """Unicode and escapes in a constant reach the item."""
    assert item("headline='Grüße \\' 🚀'")["headline"] == "Grüße ' 🚀"
