"""The contract of a parser of vendors' records.

A parser is a pure function: a record's bytes and the instant at which our side had them go in, one result per element
comes out, in order. A record may be one article, a frame (array) or a page (an object that holds an array). A parser
raises nothing: what it cannot read is a refusal.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from earlybird.schemas.raw import RawNews, RawTweet
from earlybird.schemas.rejection import Reason

Fields = Mapping[str, Any]
"""Decoded JSON object of a vendor, or the fields of a raw item."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """An element that concerns no item: a control message, a keep-alive, ...

    `reason` is one of a few words, since it labels a metric.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """An element that cannot become an item, with one sentence that quotes no text.

    `fields` are those of the raw item that could be read. With an item_key among them the item's earlier text is taken
    back.
    """

    reason: Reason
    detail: str
    fields: Fields = field(default_factory=dict)


Result = RawNews | RawTweet | Skipped | Refused


@dataclass(frozen=True, slots=True)
class Parsed:
    """The result of one element, and its own bytes where the record holds several.

    From these bytes alone the parser makes the same item, so that a dead letter can be published again.
    """

    result: Result
    part: bytes | None = None


Parser = Callable[[bytes, int], Iterable[Parsed]]
"""Function of a record's bytes and `received_us`, which becomes `ingested_us` of the items (observed)."""
