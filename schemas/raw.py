"""RawNews and RawTweet: the normalised envelope on the raw topics.

A provider's own format is mapped to this one before anything else looks at a text. Ids are strings, since tweet ids
and nanosecond stamps exceed 2**53. Text fields are null in a delete.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, FailFast, Field, TypeAdapter
from pydantic_core import PydanticCustomError

from earlybird.schemas.base import Count64, EpochUs, Int64, Message, Share
from earlybird.schemas.symbols import Canonical, canonical_symbol

LONGEST_EXCHANGE = 64


class Action(StrEnum):
    """What the source did with its item."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class RevisionKind(StrEnum):
    """What the number of a revision counts. Numbers of different kinds say nothing about each other."""

    COUNTER = "counter"  # the source's own `revision`
    UPDATED = "updated_us"
    PUBLISHED = "published_us"
    NONE = "none"  # the source gave none of these: not comparable


class Symbol(Message):
    """One instrument that a text is said to be about."""

    symbol: Annotated[str, Field(min_length=1, max_length=32), Canonical]
    origin: Literal["provider", "cashtag", "exchange_tag", "linked"]
    exchange: str | None = None
    relevance: Share | None = None


def _sound(symbol: Symbol) -> Symbol:
    """Refuse a long exchange and an invalid symbol name.

    Symbol itself accepts both, because signals of earlier versions may hold them.
    """
    try:
        canonical_symbol(symbol.symbol)
    except ValueError as error:
        raise PydanticCustomError("no_symbol", "its symbol is no name: {why}", {"why": str(error)}) from None
    if symbol.exchange is not None and len(symbol.exchange) > LONGEST_EXCHANGE:
        raise PydanticCustomError(
            "exchange_too_long",
            "its exchange is longer than {limit} characters, was {length}",
            {"limit": LONGEST_EXCHANGE, "length": len(symbol.exchange)},
        )
    return symbol


Texts = Annotated[tuple[str, ...], FailFast()]
"""A list that stops at its first error: a megabyte of wrong elements must not become a million errors."""


class Reference(Message):
    """The post that a tweet repeats, quotes or answers."""

    type: Literal["retweeted", "quoted", "replied_to"]
    id: str


class RawItem(Message):
    """Fields that news and tweets share.

    `item_key` is `source:source_item_id` and the Kafka key. `ingested_us` is when our side first had the item: the
    instant it became available to trade on. `ingested_origin` is observed, or assumed if it was set afterwards.

    Fields that are copied into a signal are bounded (since 1.1, whose readers read every item of 1.0 within the
    bounds).
    """

    SCHEMA: ClassVar[str] = "raw/1"

    schema_version: Literal["1.0"] = "1.0"
    item_key: Annotated[str, Field(min_length=1, max_length=512)]
    source: Annotated[str, Field(min_length=1, max_length=64)]
    source_item_id: Annotated[str, Field(min_length=1, max_length=448)]
    action: Action = Action.CREATE
    revision: Count64 | None = None
    published_us: EpochUs | None = None
    updated_us: EpochUs | None = None
    ingested_us: EpochUs
    ingested_origin: Literal["observed", "assumed"] = "observed"
    lang: Annotated[str, Field(max_length=35)] | None = None  # longest tag that BCP 47 tells readers to expect
    symbols: Annotated[
        tuple[Annotated[Symbol, AfterValidator(_sound)], ...], Field(max_length=512), FailFast()
    ] = ()  # bounded, because all are copied to the signal and into a header
    url: str | None = None
    publisher: str | None = None
    vendor_sentiment: float | None = None

    @property
    def revision_kind(self) -> RevisionKind:
        """Kind of `effective_revision`: the first of these that the source gave."""
        if self.revision is not None:
            return RevisionKind.COUNTER
        if self.updated_us is not None:
            return RevisionKind.UPDATED
        return RevisionKind.NONE if self.published_us is None else RevisionKind.PUBLISHED

    @property
    def effective_revision(self) -> int:
        """The source's counter, else `updated_us`, else `published_us`, else 0.

        A delete without any of them has `ingested_us`. How it orders an item's versions is defined in schemas.order.
        """
        for candidate in (self.revision, self.updated_us, self.published_us):
            if candidate is not None:
                return candidate
        return self.ingested_us if self.action is Action.DELETE else 0


class RawNews(RawItem):
    """A news item: a headline with, perhaps, a summary and a body."""

    item_type: Literal["news"]
    headline: str | None = None
    summary: str | None = None
    body: str | None = None
    body_format: Literal["text", "html"] = "text"
    authors: Texts = ()
    channels: Texts = ()
    tags: Texts = ()


class RawTweet(RawItem):
    """A short post; `text` is whole, never the provider's cut form."""

    item_type: Literal["tweet"]
    text: str | None = None
    author_id: str | None = None
    conversation_id: str | None = None
    ref: Reference | None = None
    cashtags: Annotated[tuple[str, ...], Field(max_length=512), FailFast()] = ()
    hashtags: Texts = ()
    urls: Texts = ()
    metrics: dict[str, Int64] | None = None
    user_label: str | None = None


AnyRaw = Annotated[RawNews | RawTweet, Field(discriminator="item_type")]
RAW: TypeAdapter[RawNews | RawTweet] = TypeAdapter(AnyRaw)
"""Validator of one raw item of either kind."""
