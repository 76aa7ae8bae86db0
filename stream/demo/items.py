"""Bundled feed: about 250 invented items with every oddity of a real feed.

Its texts were chosen so that the bundled model classifies them correctly: the feed shows the stage, not the model's
accuracy. The model card lists what the model misclassifies.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from earlybird.schemas.base import EARLIEST_US, LATEST_US
from earlybird.schemas.raw import RAW, RawNews, RawTweet
from earlybird.stream.demo.odd_items import Odd, odd_items


@dataclass(frozen=True, slots=True)
class DemoRecord:
    """One raw record of the demo.

    `odd` is its row in the table of odd items, None for a normal item.
    """

    at_us: int
    topic: str
    key: bytes | None
    value: bytes | None
    odd: Odd | None = None


def normal_items() -> list[RawNews | RawTweet]:
    """Return the stored items in time order."""
    lines = (resources.files("earlybird.stream.demo") / "items.jsonl").read_bytes().splitlines()
    return [RAW.validate_json(line) for line in lines]


def demo_feed() -> list[DemoRecord]:
    """Return all records in time order, as recorded."""
    items = normal_items()
    by_text = {_text(item): item for item in items}
    start_us = items[0].ingested_us
    records = [
        DemoRecord(
            item.ingested_us,
            "news.raw" if isinstance(item, RawNews) else "tweets.raw",
            item.item_key.encode(),
            item.model_dump_json(exclude_none=True).encode(),
        )
        for item in items
    ]
    for odd in odd_items(by_text.__getitem__, start_us):
        key = None if odd.key is None else odd.key.encode()
        records.append(DemoRecord(start_us + round(odd.at_s * 1e6), odd.topic, key, odd.value, odd))
    return sorted(records, key=lambda record: record.at_us)


def rebased(records: Sequence[DemoRecord], start_us: int, speed: float) -> list[DemoRecord]:
    """Return the feed moved to begin at `start_us`, and `speed` times as fast.

    Every plausible time moves; absurd times stay as they are.
    """
    origin_us = records[0].at_us

    def moved(time_us: int) -> int:
        return start_us + round((time_us - origin_us) / speed)

    def value(content: bytes | None) -> bytes | None:
        fields = _object(content)
        if fields is None:
            return content
        times = {
            name: moved(time_us)
            for name, time_us in fields.items()
            if name.endswith("_us") and isinstance(time_us, int) and EARLIEST_US <= time_us <= LATEST_US
        }
        return json.dumps(fields | times).encode()  # ASCII escapes: a lone surrogate cannot be encoded in UTF-8

    return [replace(record, at_us=moved(record.at_us), value=value(record.value)) for record in records]


def _object(content: bytes | None) -> dict[str, Any] | None:
    try:
        fields = json.loads(content or b"")
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


def _text(item: RawNews | RawTweet) -> str:
    said = item.headline if isinstance(item, RawNews) else item.text
    assert said is not None, f"{item.item_key}: a normal item says something"
    return said
