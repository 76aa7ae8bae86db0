"""Reading of raw records in the format of their topic. Pure.

The stage, an audit and a replay read alike. In our own format an item says when it was ingested. In a vendor's format
that is the record's timestamp at the broker: the append time of a topic with LogAppendTime, else the time that the
producer set.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from earlybird.schemas.framing import unframed
from earlybird.schemas.raw import RawNews, RawTweet
from earlybird.schemas.rejection import Reason
from earlybird.stream.feeds.base import Parsed, Parser, Refused, Skipped
from earlybird.stream.frames import FrameReader, UnreadableFrame
from earlybird.stream.parsing.records import (
    Deletion,
    Element,
    Limits,
    Link,
    Readable,
    Skip,
    element_of,
    read,
    refusal,
    refused_record,
    too_large,
    unlinked,
)
from earlybird.stream.ports import Position, Record
from earlybird.stream.timeline.instants import plausible_us

_TIMES = {"ingested_us", "ingested_origin", "updated_us", "action"}


@dataclass(frozen=True, slots=True)
class Reader:
    """Reader of all raw topics. Topics without a parser hold our own format."""

    limits: Limits
    parsers: Mapping[str, Parser] = field(default_factory=dict)  # by topic
    link: Link = unlinked
    framed: Collection[str] = ()  # topics in a registry's frame
    frames: FrameReader | None = None  # reads these

    def __call__(self, record: Record) -> list[Element | Skip]:
        """Parse one record into elements, at least one, in order.

        A null record is a delete in every format.
        """
        parser = self.parsers.get(record.topic)
        if record.topic in self.framed and record.value is not None:
            return self._framed(record)
        if parser is None or record.value is None:
            return [*read(record, self.limits, self.link)]
        if (refused := too_large(record, self.limits)) is not None:
            return [refused]
        received_us = plausible_us(record.timestamp_us)
        if received_us is None:
            return [refused_record(record, Reason.BAD_TIME, f"timestamp: not usable, was {record.timestamp_us}")]
        try:
            results = list(parser(unframed(record.value), received_us)) or [Parsed(Skipped("empty"))]
        except Exception as error:  # a house's own parser, which should not raise
            return [refused_record(record, Reason.POISON, f"{type(error).__name__}: {error}")]
        if len(results) > self.limits.max_elements:
            detail = f"at most {self.limits.max_elements:,} elements allowed, was {len(results):,}"
            return [refused_record(record, Reason.TOO_LARGE, detail)]
        unkeyed = replace(record, key=None)  # a vendor's key is no item_key
        position = Position(record.topic, record.partition, record.offset)
        places = (replace(position, index=index) for index in range(len(results)))
        return [self._element(parsed, place, unkeyed) for parsed, place in zip(results, places, strict=True)]

    def ready(self, record: Record) -> bool:
        """Return whether the record can be read now; False while a schema registry is awaited."""
        return self.frames is None or record.topic not in self.framed or self.frames.ready(record)

    def times(self, record: Record) -> list[dict[str, Any]] | None:
        """Return the times of a record's items, None for our own format.

        See timeline.availability.
        """
        framed = record.topic in self.framed
        if record.topic not in self.parsers and not framed:
            return None
        items = [element.item for element in self(record) if isinstance(element, Readable | Deletion) and element.item]
        if framed:  # these say themselves when they were ingested
            return [item.model_dump(include=_TIMES) for item in items]
        return [{"updated_us": item.updated_us, "action": item.action} for item in items]

    def _framed(self, record: Record) -> list[Element | Skip]:
        assert self.frames is not None, "a framed topic without a registry. This is a bug."
        if (refused := too_large(record, self.limits)) is not None:
            return [refused]
        try:
            return [*read(replace(record, value=self.frames.to_json(record)), self.limits, self.link)]
        except UnreadableFrame as error:
            return [refused_record(record, Reason.MALFORMED, str(error))]

    def _element(self, parsed: Parsed, position: Position, record: Record) -> Element | Skip:
        match parsed.result:
            case Skipped(reason):
                return Skip(position, reason)
            case Refused(reason, detail, fields):
                return replace(refusal(position, reason, detail, record, fields), part=parsed.part)
            case RawNews() | RawTweet() as item:
                return replace(element_of(self.link(item), position, self.limits), part=parsed.part)
