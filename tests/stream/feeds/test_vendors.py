"""Vendors' records: a table of cases per vendor, and what holds for all parsers whatever they are given."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from earlybird.schemas.raw import RAW, RawNews, RawTweet
from earlybird.stream.feeds import registry
from earlybird.stream.feeds.base import Parsed, Refused, Skipped
from earlybird.stream.parsing.records import Deletion, Limits, Readable, read
from earlybird.stream.ports import Record
from released import faults

NOW_US = 1_770_000_000_000_000
FIXTURES = Path(__file__).parent / "fixtures"
VENDORS = sorted(path.stem for path in FIXTURES.glob("*.json"))
CASES = [(vendor, case) for vendor in VENDORS for case in json.loads((FIXTURES / f"{vendor}.json").read_text())]
SAID_ELSEWHERE = ("ingested_us", "source", "source_item_id")  # the first is an argument, the others make the item_key


def content(record: object) -> bytes:
    """A record as it comes: text as it is, anything else as JSON."""
    return (record if isinstance(record, str) else json.dumps(record)).encode()


def parse(vendor: str, value: bytes) -> list[Parsed]:
    return list(registry.parser(vendor)(value, NOW_US))


def told(parsed: Parsed) -> dict[str, Any]:
    """A result as the tables write it."""
    match parsed.result:
        case Skipped(reason):
            return {"skipped": reason}
        case Refused(reason, detail, fields):
            return {"refused": reason.value, "detail": detail, "item_key": fields.get("item_key")}
        case item:
            fields = item.model_dump(mode="json", exclude_defaults=True)
            assert item.item_key == f"{item.source}:{item.source_item_id}" and item.ingested_us == NOW_US
            return {name: value for name, value in fields.items() if name not in SAID_ELSEWHERE}


def test_each_vendor_has_its_cases() -> None:
    """A parser without a table is a promise without a proof."""
    assert {"polygon", *VENDORS} == set(registry.names())


@pytest.mark.parametrize(("vendor", "case"), CASES, ids=[f"{vendor}: {case['case']}" for vendor, case in CASES])
def test_records_say_what_the_table_says(vendor: str, case: dict[str, Any]) -> None:
    """Every field of every item, every skip, and every refusal with its sentence."""
    assert [told(parsed) for parsed in parse(vendor, content(case["record"]))] == case["expected"]


@pytest.mark.parametrize(("vendor", "case"), CASES, ids=[f"{vendor}: {case['case']}" for vendor, case in CASES])
def test_an_element_alone_gives_the_same_result(vendor: str, case: dict[str, Any]) -> None:
    """So that a dead letter can be published again as a record of its own."""
    found = parse(vendor, content(case["record"]))
    assert len(found) == 1 or all(parsed.part is not None for parsed in found)
    for parsed in found:
        if parsed.part is not None:
            assert [each.result for each in parse(vendor, parsed.part)] == [parsed.result]


@pytest.mark.parametrize(("vendor", "case"), CASES, ids=[f"{vendor}: {case['case']}" for vendor, case in CASES])
def test_an_item_that_is_published_reads_as_itself(vendor: str, case: dict[str, Any]) -> None:
    """What a feed publishes in our own format is what the stage reads from the vendor's."""
    for parsed in parse(vendor, content(case["record"])):
        if isinstance(item := parsed.result, RawNews | RawTweet):
            value = item.model_dump_json(exclude_none=True).encode()
            assert RAW.validate_json(value) == item and not faults("raw/1", value)
            (element,) = read(Record("news.raw", 0, 0, None, value, NOW_US), Limits(languages=()))
            assert isinstance(element, Readable | Deletion) and element.item == item


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner), max_leaves=6
)


@st.composite
def damaged(draw: st.DrawFn, record: Any) -> Any:
    """The record with one value, somewhere inside, replaced or removed."""
    if isinstance(record, dict) and record and draw(st.integers(0, 3)):
        name = draw(st.sampled_from(sorted(record)))
        if draw(st.integers(0, 4)) == 0:
            return {other: value for other, value in record.items() if other != name}
        return record | {name: draw(damaged(record[name]))}
    if isinstance(record, list) and record and draw(st.integers(0, 3)):
        place = draw(st.integers(0, len(record) - 1))
        return [*record[:place], draw(damaged(record[place])), *record[place + 1 :]]
    return draw(anything)


def check(vendor: str, value: bytes) -> None:
    """What every parser promises of every record."""
    found = parse(vendor, value)
    assert found and [each.result for each in found] == [each.result for each in parse(vendor, value)]
    for parsed in found:
        match parsed.result:
            case Skipped(reason):
                assert reason.isascii() and len(reason) < 20
            case Refused(_, detail, fields):
                assert detail and len(detail) < 500
                assert not fields or fields["item_key"].startswith(f"{fields['source']}:")
            case item:
                assert RAW.validate_json(item.model_dump_json()) == item


slow = settings(
    deadline=None, max_examples=75, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@pytest.mark.parametrize("vendor", VENDORS)
@slow
@given(st.binary() | st.text().map(str.encode) | anything.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_have_a_result(vendor: str, value: bytes) -> None:
    """Nothing raises, and nothing comes to nothing."""
    check(vendor, value)


@pytest.mark.parametrize("vendor", VENDORS)
@slow
@given(st.data())
def test_any_value_in_any_place_has_a_result(vendor: str, data: st.DataObject) -> None:
    """Of the table's records, with one value replaced by anything."""
    records = [case["record"] for name, case in CASES if name == vendor and not isinstance(case["record"], str)]
    texts = [case["record"] for name, case in CASES if name == vendor and isinstance(case["record"], str)]
    if records and (not texts or data.draw(st.booleans())):
        check(vendor, json.dumps(data.draw(damaged(data.draw(st.sampled_from(records))))).encode())
    else:
        record = data.draw(st.sampled_from(texts)).encode()
        start, end = sorted((data.draw(st.integers(0, len(record))), data.draw(st.integers(0, len(record)))))
        check(vendor, record[:start] + data.draw(st.binary(max_size=8)) + record[end:])


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(
    "value",
    [b"[" * 100_000, b'{"data":' * 100_000, b"[{}," * 5_000 + b"{}]", b"<a>" * 100_000, b"1" * 100_000, b"\xff\xfe[]",
     b'[{"id":' + b"9" * 5_000 + b"}]", b"<!DOCTYPE x [<!ENTITY a 'b'>]><rss>&a;</rss>"],
    ids=["brackets", "objects", "elements", "elements of XML", "digits", "another encoding", "an id", "a doctype"],
)  # fmt: skip
def test_hostile_bytes_have_a_result(vendor: str, value: bytes) -> None:
    """Depth, width and numbers beyond what any vendor sends."""
    check(vendor, value)


def test_a_hundred_thousand_levels_of_xml_are_refused() -> None:
    """Well-formed, so that only the limit on levels stands in its way."""
    (parsed,) = parse("rss", b"<rss>" + b"<a>" * 5_000 + b"</a>" * 5_000 + b"</rss>")
    assert isinstance(parsed.result, Refused) and "nested deeper" in parsed.result.detail


def test_a_bomb_of_gzip_is_refused() -> None:
    """A megabyte that stands for a gigabyte is read up to the limit of a story."""
    import gzip

    (parsed,) = parse("mrn", gzip.compress(b'{"body":"' + b"x" * (9 << 20)))
    assert isinstance(parsed.result, Refused) and parsed.result.reason == "too_large"
