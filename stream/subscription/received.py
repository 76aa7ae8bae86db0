"""A signal as a strategy meets it, live and in a backtest alike."""

from typing import Annotated, Self

from pydantic import Field

from schemas.base import EpochUs
from schemas.signal import Signal


class Received(Signal):
    """A signal with the instant from which a strategy could have known it. Every field of Signal is there; encoded, it
    is the signal's own bytes again."""

    available_us: Annotated[EpochUs, Field(exclude=True)]
    """The broker's append time (whole milliseconds, as Kafka keeps it), or the text's last edit if that is later; in a
    replay plus the latency asked for."""

    @classmethod
    def of(cls, signal: Signal, available_us: int) -> Self:
        """A signal that was validated before: nothing is checked twice."""
        return cls.model_construct(**(signal.__dict__ | {"available_us": available_us}))

    @property
    def event_us(self) -> int:
        """When the text says it came to be: updated, else published, else ingested. Never trade on it: it lies before
        `available_us`."""
        return self.ts.updated_us or self.ts.published_us or self.ts.ingested_us

    @property
    def tickers(self) -> tuple[str, ...]:
        """Names of the instruments, in the text's order."""
        return tuple(symbol.symbol for symbol in self.symbols)
