"""What a line holds: chosen lines, several items in one, vendors' records, and when they were available."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from earlybird.schemas.raw import RAW
from earlybird.stream.adapters.memory import MemorySink
from earlybird.stream.errors import FeedError
from earlybird.stream.feeds.base import Parsed
from earlybird.stream.feeds.registry import feed_parser
from earlybird.stream.feeds.seen import FeedParser
from earlybird.stream.publishing.field_map import FieldMap
from earlybird.stream.publishing.files import FeedFile, merged
from earlybird.stream.publishing.line_format import BadLine, FeedItem, Line, LineFormat, SkippedLine
from earlybird.stream.publishing.publish import publish
from earlybird.stream.publishing.queries import Queries, Selection
from earlybird.stream.publishing.tally import Tally

T0 = 1_700_000_000_000_000
SPECS = ["source='wire'", "source_item_id=id", "headline=title", "published_us=at:s"]
ALPACA = {
    "T": "n", "id": 24, "headline": "Norvex opens plant", "created_at": "2023-11-14T22:13:20Z",
    "updated_at": "2023-11-14T22:13:21Z", "symbols": ["NRVX"],
}  # fmt: skip

LENGTH = (
    "--when: In function length(), invalid type for value: 1, expected one of: ['string', 'array', 'object'], "
    'received: "number"'
)


def story(number: int, **more: object) -> dict[str, Any]:
    return {"id": number, "title": f"Norvex item {number}", "at": 1_700_000_000 + number, **more}


def form(when: str | None = None, each: str | None = None, specs: Sequence[str] = SPECS) -> LineFormat:
    queries = Queries()
    return LineFormat(FieldMap(specs, queries), 0, selection=Selection(queries, when, each))


def told(lines: Sequence[Line]) -> list[str]:
    """Of each line its item's id, its fault, or that it is skipped."""
    return [
        RAW.validate_json(line.value).source_item_id if isinstance(line, FeedItem) else getattr(line, "why", "skipped")
        for line in lines
    ]


@pytest.mark.parametrize(
    ("when", "each", "line", "expected"),
    [
        (None, None, [story(1), story(2)], ["1", "2"]),
        ("type=='news'", "data", {"type": "news", "data": [story(1), story(2)]}, ["1", "2"]),
        ("type=='news'", "data", {"type": "ping"}, ["skipped"]),
        (None, "data", {"type": "ping"}, ["--each: nothing there; --when EXPRESSION skips such lines"]),
        (None, "data || `[]`", {"type": "ping"}, ["skipped"]),
        (None, "data", {"data": []}, ["skipped"]),
        (None, "data", {"data": story(3)}, ["3"]),
        ("T=='n'", None, [{"T": "success"}, story(1, T="n"), {"T": "error"}], ["skipped", "1", "skipped"]),
        (None, "data[?id > `1`]", {"data": [story(1), story(2)]}, ["2"]),
        (None, "data", {"data": [story(1), 5, story(2)]}, ["1", "--each: objects expected, was int", "2"]),
        (None, None, [], ["skipped"]),
        (None, None, [5], ["an object expected, was int"]),
        ("`0`", None, story(1), ["1"]),
        ("length(title) > `1`", None, {"title": 1}, [LENGTH]),
    ],
)  # fmt: skip
def test_lines_are_chosen_and_opened(when: str | None, each: str | None, line: object, expected: list[str]) -> None:
    """An array is as many lines as it has elements; what holds nothing is skipped, what is not found is named."""
    assert told(form(when, each).lines(json.dumps(line).encode(), "f:1")) == expected


def test_an_item_in_a_page_sees_the_line() -> None:
    """The time of the whole frame is that of each of its items."""
    reads = form(None, "news", [*SPECS, "ingested_us=line().seen:s"])
    (item,) = reads.lines(json.dumps({"seen": 1_700_000_009, "news": [story(1)]}).encode(), "f:1")
    assert isinstance(item, FeedItem) and item.at_us == T0 + 9_000_000


def test_raw_items_come_out_of_an_envelope() -> None:
    """What a recorder wrapped is published as it was."""
    own = {"item_type": "news", "item_key": "wire:1", "source": "wire", "source_item_id": "1", "ingested_us": T0,
           "headline": "Norvex", "mood": "teal"}  # fmt: skip
    reads = LineFormat(selection=Selection(Queries(), None, "value"))
    (item,) = reads.lines(json.dumps({"offset": 4, "value": own}).encode(), "f:1")
    assert isinstance(item, FeedItem) and json.loads(item.value) == own


def test_a_raw_item_without_text_is_a_bad_line() -> None:
    """The stage could only make a dead letter of it."""
    own = {
        "item_type": "tweet",
        "item_key": "x:1",
        "source": "x",
        "source_item_id": "1",
        "ingested_us": T0,
        "text": " ",
    }
    assert told(LineFormat().lines(json.dumps(own).encode(), "f:1")) == ["no text: nothing in text"]


def test_an_edit_is_not_available_before_it_was_made() -> None:
    """The assumed delay counts from the later of the two times; from publication it would be look-ahead."""
    reads = form(specs=[*SPECS, "updated_us=edited:s"])
    (item,) = reads.lines(json.dumps(story(0, edited=1_700_003_600)).encode(), "f:1")
    assert isinstance(item, FeedItem) and item.at_us == T0 + 3_600_000_000


def alpaca(**more: Any) -> LineFormat:
    return LineFormat(parser=feed_parser("alpaca"), **more)


def test_a_vendors_file_needs_no_map() -> None:
    """Frames, control messages, edits and repetitions are the parser's; the assumed time is marked as such."""
    reads, edited = alpaca(assume_delay_us=2_000_000), ALPACA | {"updated_at": "2023-11-14T22:20:00Z", "headline": "B"}
    frames = [[{"T": "success"}], [ALPACA, {"T": "n", "headline": "no id"}], [ALPACA], {"news": [edited]}]
    found = [line for frame in frames for line in reads.lines(json.dumps(frame).encode(), "f:1")]
    assert [type(line) for line in found] == [SkippedLine, FeedItem, BadLine, SkippedLine, FeedItem]
    first, second = (RAW.validate_json(line.value) for line in found if isinstance(line, FeedItem))
    assert (first.action, second.action, first.item_key) == ("create", "update", "alpaca:24")
    assert (first.ingested_us, first.ingested_origin) == (T0 + 3_000_000, "assumed")
    assert second.ingested_us == T0 + 402_000_000


def test_a_vendors_recording_keeps_its_own_times() -> None:
    """A recorder's envelope: the vendor's record in it, and beside it when it came."""
    queries = Queries()
    reads = alpaca(
        fields=FieldMap(["ingested_us=line().received:s"], queries), selection=Selection(queries, None, "payload")
    )
    (item,) = reads.lines(json.dumps({"received": 1_700_000_005, "payload": ALPACA}).encode(), "f:1")
    assert isinstance(item, FeedItem) and item.at_us == T0 + 5_000_000
    assert RAW.validate_json(item.value).ingested_origin == "observed"


def test_a_vendors_pipe_is_dated_as_it_is_read() -> None:
    """Observed, by our clock."""
    (item,) = alpaca(ingested_now=True, now_us=lambda: T0 + 7_000_000).lines(json.dumps([ALPACA]).encode(), "-:1")
    assert isinstance(item, FeedItem) and item.at_us == T0 + 7_000_000


def test_a_parser_that_fails_costs_its_line_alone() -> None:
    """A house's own may have faults; its records are named and the others published."""
    good = feed_parser("alpaca")

    def parse(value: bytes, received_us: int) -> list[Parsed]:
        if b"odd" in value:
            raise KeyError("text of a licensed article")
        return list(good(value, received_us))

    reads = LineFormat(parser=FeedParser(parse), ingested_now=True)
    assert told(reads.lines(b'{"odd": 1}', "f:1")) == ["the parser failed: KeyError"]
    assert told(reads.lines(json.dumps(ALPACA).encode(), "f:2")) == ["24"]


@pytest.mark.parametrize(
    ("made", "complaint"),
    [
        (lambda: alpaca(), "no ingest time"),
        (lambda: alpaca(fields=FieldMap(["headline=title"]), assume_delay_us=0), "only ingested_us can be mapped"),
        (lambda: LineFormat(FieldMap(SPECS)), "no ingest time"),
    ],
)
def test_a_format_that_cannot_work_is_refused_before_a_line(made: Callable[[], LineFormat], complaint: str) -> None:
    """As a map is."""
    with pytest.raises(FeedError, match=complaint):
        made()


def test_a_line_of_several_items_is_gone_on_with_until_its_last_is_acknowledged(tmp_path: Path) -> None:
    """Stopped in its middle, it is read again: its items are the same ones."""
    path = tmp_path / "f.jsonl"
    path.write_text("".join(json.dumps([story(n), story(n + 1)]) + "\n" for n in (1, 3, 5)))
    for limit, place in ((1, 1), (2, 2), (3, 2), (4, 3)):
        tally, file = Tally(), FeedFile(path)
        publish(merged([file], form()), MemorySink(), tally=tally, limit=limit)
        assert tally.resume([file.name]) == [f"{path}:{place}"]


def test_skipped_lines_are_counted(tmp_path: Path) -> None:
    """A condition that holds for no line must not look like an empty file."""
    path = tmp_path / "f.jsonl"
    path.write_text("".join(json.dumps(story(n)) + "\n" for n in range(3)))
    tally = publish(merged([FeedFile(path)], form("typo=='news'")), MemorySink())
    assert "published 0 texts (nothing)" in str(tally) and "; 3 lines without an item skipped" in str(tally)
