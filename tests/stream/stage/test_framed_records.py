"""Raw records in the frames of a schema registry: the same outcomes as without."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from earlybird.stream.ports import Record
from earlybird.stream.timeline.availability import StampedRecord, date_raw

Worlds = Callable[..., Any]
News = Callable[..., dict[str, Any]]
MakeRecord = Callable[..., Record]

FRAME = b"\0\0\0\1\2"


def test_frames_change_no_outcome(worlds: Worlds, make_news: News, make_record: MakeRecord) -> None:
    """Of items, arrays, deletes and what cannot be read; on one topic with records that have none."""
    values: list[object] = [
        make_news("0", "Acme wins"),
        [make_news("1", "Bolt warns"), make_news("2", "Gewinn steigt", lang="de")],
        make_news("0", None, action="delete"),
        {"item_key": "wire:9", "ingested_us": "soon"},
    ]
    plain = [make_record(offset, json.dumps(value).encode(), key="wire:x") for offset, value in enumerate(values)]
    found = []
    for records in (plain, [replace(record, value=FRAME + (record.value or b"")) for record in plain]):
        world = worlds()
        world.source.append(records)
        world.finish()
        found.append(
            [(signal.signal_id, signal.digest) for signal in world.signals]
            + [(letter.reason.value, letter.item_key) for letter in world.rejections]
        )
    assert found[0] == found[1] and len(found[0]) > 5


def test_a_dead_letter_has_the_frame(worlds: Worlds, make_record: MakeRecord) -> None:
    """Published again as it was, it is what it was; an empty frame is no crash."""
    values = [FRAME + b'{"item_key": 7}', FRAME, b"\0", b"\0\0"]
    world = worlds()
    world.source.append([make_record(offset, value) for offset, value in enumerate(values)])
    world.finish()
    assert [letter.original_value() for letter in world.rejections] == values


def test_framed_history_is_available_when_it_was(make_news: News, make_record: MakeRecord) -> None:
    """By its own times, as without the frame."""
    record = make_record(0, make_news("0", "Acme wins", ingested_us=1_700_000_000_000_000))
    framed = replace(record, value=FRAME + (record.value or b""))
    dated = [date_raw(StampedRecord(each, False), "auto") for each in (record, framed)]
    assert dated[0].at_us == dated[1].at_us == 1_700_000_000_000_000
