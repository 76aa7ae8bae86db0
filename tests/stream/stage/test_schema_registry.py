"""A stage whose raw topic is in a schema registry's frame: what it reads, refuses and waits for."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from earlybird.schemas.rejection import Reason
from earlybird.stream.errors import RegistryAway
from earlybird.stream.feeds.reader import Reader
from earlybird.stream.frames import UnreadableFrame
from earlybird.stream.parsing.records import Limits
from earlybird.stream.ports import Partition, Record
from earlybird.stream.timeline.availability import StampedRecord, date_raw

Worlds = Callable[..., Any]
News = Callable[..., dict[str, Any]]
MakeRecord = Callable[..., Record]
P0 = Partition("news.raw", 0)


class Frames:
    """A FrameReader whose frames are a letter: k is known to it, a away until told, u unknown."""

    def __init__(self) -> None:
        self.away = True
        self.awaited = ""

    def ready(self, record: Record) -> bool:
        self.awaited = "schema registry" if self.away and (record.value or b"")[:1] == b"a" else ""
        return not self.awaited

    def close(self) -> None: ...

    def to_json(self, record: Record) -> bytes:
        if not self.ready(record):
            raise RegistryAway("not asked whether it is ready")
        value = record.value or b""
        if value[:1] == b"u":
            raise UnreadableFrame("schema id 7: not found")
        return value[1:]


@pytest.fixture
def frames() -> Frames:
    return Frames()


@pytest.fixture
def read(frames: Frames) -> Reader:
    return Reader(Limits(), framed={"news.raw"}, frames=frames)


def framed(make_record: MakeRecord, letter: bytes, offset: int, value: object) -> Record:
    record = make_record(offset, value)
    return replace(record, value=letter + (record.value or b""))


def test_what_cannot_be_read_is_a_dead_letter_with_its_bytes(
    worlds: Worlds, read: Reader, make_news: News, make_record: MakeRecord
) -> None:
    """And the item of its key is retracted; deletes by a null record need no frame."""
    world = worlds(read=read)
    records = [
        framed(make_record, b"k", 0, make_news("0", "Acme wins")),
        framed(make_record, b"u", 1, make_news("0", "Acme loses")),
        framed(make_record, b"k", 2, [make_news("1", "Bolt warns"), make_news("2", "Gewinn", lang="de")]),
        make_record(3, None, key="wire:0"),
    ]
    world.source.append(records)
    world.finish()
    first, second = sorted(world.rejections, key=lambda letter: letter.raw.offset)
    assert (first.reason, first.detail) == (Reason.MALFORMED, "schema id 7: not found")
    assert first.original_value() == records[1].value and second.reason is Reason.LANGUAGE
    said = sorted((signal.item_key, signal.action.value) for signal in world.signals)
    retracted = ("wire:0", "retract")
    assert said == [("wire:0", "new"), retracted, retracted, ("wire:1", "new"), ("wire:2", "retract")]


def test_a_record_whose_schema_is_awaited_holds_up_those_behind_it(
    worlds: Worlds, read: Reader, frames: Frames, make_news: News, make_record: MakeRecord
) -> None:
    """What came before is finished and committed; no record beyond it is polled, and nothing is lost or repeated."""
    world = worlds(read=read)
    letters = (b"k", b"a", b"k")
    world.source.append(
        [framed(make_record, letter, n, make_news(str(n), f"Acme {n}")) for n, letter in enumerate(letters)]
    )
    world.finish()
    assert [signal.item_key for signal in world.signals] == ["wire:0"]
    assert frames.awaited == "schema registry" and world.source.committed[P0].offset == 1
    more = [framed(make_record, b"k", n, make_news(str(n), f"Acme {n}")) for n in range(3, 9)]
    world.source.append(more)
    for _ in range(50):
        world.turn()
    assert [signal.item_key for signal in world.signals] == ["wire:0"]
    assert world.pipeline._parser.unread <= 3
    frames.away = False
    world.finish()
    world.finish()
    assert sorted(signal.item_key for signal in world.signals) == [f"wire:{n}" for n in range(9)]
    assert world.source.committed[P0].offset == 9 and not world.rejections


def test_a_rebalance_and_an_end_do_not_wait_for_the_registry(
    worlds: Worlds, read: Reader, make_news: News, make_record: MakeRecord
) -> None:
    """The next owner reads what was not read."""
    world = worlds(read=read)
    world.source.append([framed(make_record, b"a", 0, make_news("0", "Acme wins"))])
    world.turn()
    world.source.assign([P0])
    world.turn()
    world.source.revoke([P0])
    world.pipeline.drain()
    assert not world.signals and not world.rejections


def test_framed_history_is_dated_by_its_items(read: Reader, make_news: News, make_record: MakeRecord) -> None:
    """As plain JSON is; what cannot be read has the broker's time."""
    news = make_news("0", "Acme wins", ingested_us=1_700_000_000_000_000)
    plain = date_raw(StampedRecord(make_record(0, json.dumps(news).encode()), False), "auto")
    dated = date_raw(StampedRecord(framed(make_record, b"k", 0, news), False), "auto", read.times)
    assert dated.at_us == plain.at_us == 1_700_000_000_000_000
    unknown = framed(make_record, b"u", 0, news)
    assert date_raw(StampedRecord(unknown, False), "auto", read.times).at_us == unknown.timestamp_us
