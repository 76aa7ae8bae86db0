"""Sentiment v1: what the views say of one symbol at one instant."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from earlybird.schemas.base import EpochUs, Message, Share
from earlybird.schemas.signal import Label
from earlybird.schemas.symbols import CanonicalSymbol

Score = Annotated[float, Field(ge=-1.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]


class SentimentWindow(Message):
    """The items whose standing version became available within one window. Null where there are none."""

    window: str  # its length, e.g. 15m
    n: Count
    mean: Score | None = None
    weighted_mean: Score | None = None  # by confidence
    minimum: Score | None = None
    maximum: Score | None = None
    last: Score | None = None
    last_us: EpochUs | None = None
    positive: Count = 0
    negative: Count = 0
    duplicate_share: Share | None = None
    exit_depth: Share | None = None  # mean share of the model's layers


class DecayedSentiment(Message):
    """Scores weighed by confidence and by 2 ** (-age / half-life)."""

    half_life_us: Annotated[int, Field(ge=1)]
    weight: Annotated[float, Field(ge=0)]
    mean: Score | None = None


class SentimentItem(Message):
    """An item of the longest window, with the version that stands."""

    item_key: str
    source: str
    available_us: EpochUs
    label: Label | None = None
    score: Score | None = None
    confidence: Share | None = None
    duplicate: bool = False


class Sentiment(Message):
    """The windows of one symbol at `as_of_us`. Of two messages on one symbol the one with the later `as_of_us` counts.
    `schema_version` is the lowest whose readers understand it."""

    SCHEMA: ClassVar[str] = "sentiment/1"

    schema_version: Literal["1.0"] = "1.0"
    symbol: CanonicalSymbol
    as_of_us: EpochUs
    windows: tuple[SentimentWindow, ...]
    decayed: DecayedSentiment
    items: tuple[SentimentItem, ...] = ()  # the latest first
