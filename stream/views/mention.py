"""Mention: what the views keep of a signal. Pure."""

from dataclasses import dataclass
from typing import Literal

from earlybird.schemas.raw import RevisionKind
from earlybird.schemas.signal import Label, Signal, SignalAction


@dataclass(frozen=True, slots=True)
class Place:
    """Position of the raw element."""

    topic: str
    partition: int
    offset: int
    index: int = 0


@dataclass(frozen=True, slots=True)
class Instants:
    """The signal's times that order versions."""

    ingested_us: int
    emitted_us: int
    published_us: int | None = None
    updated_us: int | None = None


@dataclass(frozen=True, slots=True)
class Mention:
    """One signal, shortened; schemas.order orders it like the signal itself.

    A retraction has no result.
    """

    available_us: int
    action: SignalAction
    revision: int
    digest: str
    raw: Place
    ts: Instants
    symbols: tuple[str, ...] = ()
    source: str = ""
    refused: Literal["create", "update"] | None = None
    revision_kind: RevisionKind | None = None
    label: Label | None = None
    score: float | None = None
    confidence: float | None = None
    duplicate: bool = False  # an earlier item had the same text
    exit_layer: int | None = None
    max_layers: int | None = None

    @classmethod
    def of(cls, signal: Signal, available_us: int) -> "Mention":
        """Shorten a signal."""
        raw, times, out = signal.raw, signal.ts, signal.exit
        return cls(
            available_us=available_us,
            action=signal.action,
            revision=signal.revision,
            digest=signal.digest,
            raw=Place(raw.topic, raw.partition, raw.offset, raw.index),
            ts=Instants(times.ingested_us, times.emitted_us, times.published_us, times.updated_us),
            symbols=tuple(symbol.symbol for symbol in signal.symbols),
            source=signal.source,
            refused=signal.refused,
            revision_kind=signal.revision_kind,
            label=signal.label,
            score=signal.score,
            confidence=signal.confidence,
            duplicate=signal.novelty is not None and signal.novelty.dup_of is not None,
            exit_layer=None if out is None else out.layer,
            max_layers=None if out is None else out.max_layers,
        )
