"""Signal v1: what a strategy reads, with everything needed to reproduce it."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from earlybird.schemas.base import EpochUs, Message, Share
from earlybird.schemas.raw import RevisionKind, Symbol
from earlybird.schemas.symbols import CanonicalSymbol

LONGEST_HEADLINE = 200
LONGEST_URL = 2_048


class Label(StrEnum):
    """Sentiment towards the instruments of a text; the order is the order of the model's outputs."""

    NEGATIVE = "negative"
    NEUTRAL = "neutral"
    POSITIVE = "positive"


class SignalAction(StrEnum):
    """What a signal does to the earlier signals of its item_key."""

    NEW = "new"
    CORRECT = "correct"
    RETRACT = "retract"


class ExitReason(StrEnum):
    """Why a text left its slot."""

    CONFIDENCE = "confidence"  # puzzlement fell below delta (ELBERT, first stage)
    WINDOW = "window"  # growing bias towards one class over W passes (ELBERT, second stage)
    PATIENCE = "patience"
    SIMILARITY = "similarity"
    LEARNED = "learned"
    FIXED = "fixed"  # the policy sets a depth
    DEADLINE = "deadline"
    LAST_LAYER = "last_layer"


class Probabilities(Message):
    """One probability a label, rounded to 6 decimals."""

    negative: Share
    neutral: Share
    positive: Share


class Exit(Message):
    """Where and why a text left the model. `layer` counts passes from 1; `puzzlement` is the normalised entropy.

    `policy` is the one that decided where model.policy names several for the load to choose from (since 1.2); null
    elsewhere.
    """

    layer: Annotated[int, Field(ge=1)]
    max_layers: Annotated[int, Field(ge=1)]
    reason: ExitReason
    puzzlement: Share
    policy: str | None = None


class Input(Message):
    """What the model was fed: token count (special tokens included), whether the text was assembled to fit, and the
    sha256 of the text that was tokenised (after assembly and cleaning, UTF-8)."""

    n_tokens: Annotated[int, Field(ge=1)]
    truncated: bool
    text_sha256: str


class Novelty(Message):
    """What the duplicate cache knew. Never changes a result."""

    cache_hit: bool
    dup_of: str | None = None  # item_key of the first item with the same text
    dup_count: Annotated[int, Field(ge=0)] = 0  # earlier items with this text within the cache's time to live
    first_seen_us: EpochUs | None = None


class Model(Message):
    """What computed the result, in enough detail to compute it again."""

    id: str
    sha256: str  # of the weights file
    profile: str  # text profile, e.g. natural-v1
    policy: str  # exit policy in its canonical spelling, e.g. cwb:delta=0.3,window=2
    config_hash: str  # over everything that changes a verdict in exact arithmetic
    numerics: str  # hash over the probe texts' logits on the path that ran
    dtype: str
    device: str
    code_version: str
    knowledge_until_us: EpochUs | None = None


class RawPosition(Message):
    """The raw record (and the element in it) that this outcome answers."""

    topic: str
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]
    index: Annotated[int, Field(ge=0)] = 0


class Times(Message):
    """The life of a text, epoch microseconds. What never entered the engine (retractions, answered duplicates) has null
    there."""

    published_us: EpochUs | None = None
    updated_us: EpochUs | None = None
    ingested_us: EpochUs
    consumed_us: EpochUs
    engine_in_us: EpochUs | None = None
    exited_us: EpochUs | None = None
    emitted_us: EpochUs


class Signal(Message):
    """The outcome of one text, or the retraction of an earlier one (then the fields of the result are null).

    The model reads the whole text: `score` is shared by all `symbols`. `score` is p(positive) - p(negative). Which
    signal of an `item_key` stands is told in schemas.order, whatever the order of arrival. `schema_version` is the
    lowest whose readers understand it.
    """

    SCHEMA: ClassVar[str] = "signal/1"

    schema_version: Literal["1.0"] = "1.0"
    signal_id: str
    item_key: str
    revision: Annotated[int, Field(ge=0)]
    revision_kind: RevisionKind | None = None  # what `revision` counts (since 1.1; null in earlier signals)
    action: SignalAction
    refused: Literal["create", "update"] | None = None  # action of an unreadable version; null: a delete (1.1)
    source: str
    item_type: Literal["news", "tweet"] | None = None  # null for a delete by a bare null record
    lang: str | None = None
    headline: Annotated[str, Field(max_length=LONGEST_HEADLINE)] | None = None  # if settings allow it (since 1.3)
    url: Annotated[str, Field(max_length=LONGEST_URL)] | None = None  # likewise
    symbols: tuple[Symbol, ...] = ()
    primary_symbol: CanonicalSymbol | None = None
    symbol_table: str | None = None  # hash of the table that links symbols; null: none was in use (since 1.3)
    label: Label | None = None
    probs: Probabilities | None = None
    score: Annotated[float, Field(ge=-1.0, le=1.0)] | None = None
    confidence: Share | None = None
    calibrated: bool | None = None
    exit: Exit | None = None
    input: Input | None = None
    novelty: Novelty | None = None
    model: Model
    digest: str
    raw: RawPosition
    run_id: str = "live"
    ts: Times

    @model_validator(mode="after")
    def _result_or_retraction(self) -> "Signal":
        result = (self.label, self.probs, self.score, self.confidence, self.calibrated, self.exit, self.input)
        retraction = self.action is SignalAction.RETRACT
        if any((part is None) is not retraction for part in result):
            raise ValueError("a retraction carries no result, every other signal a whole one")
        return self
