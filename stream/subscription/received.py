"""A signal as a strategy receives it, live and in a backtest alike."""

from datetime import UTC, datetime, timedelta
from typing import ClassVar, Self

from earlybird.schemas.base import EpochUs, Message
from earlybird.schemas.signal import Signal

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Received(Signal):
    """A signal with the instant from which a strategy could have known it.

    It has every field of Signal; encoded by schemas.codec, it is the signal's own bytes again.
    """

    WIRE: ClassVar[type[Message]] = Signal

    available_us: EpochUs
    """The broker's append time (whole milliseconds, as Kafka keeps it), or the text's last edit if that is later. Of a
    signal in a transaction: not before that was due to be committed. A replay adds the latency that was asked for."""

    @classmethod
    def of(cls, signal: Signal, available_us: int) -> Self:
        """Wrap a signal that was validated before, without validating it again."""
        received = cls.__new__(cls)
        received.__setstate__(
            {
                "__dict__": signal.__dict__ | {"available_us": available_us},
                "__pydantic_fields_set__": signal.model_fields_set | {"available_us"},
                "__pydantic_extra__": None,
                "__pydantic_private__": None,
            }
        )
        return received

    @property
    def available_at(self) -> datetime:
        """`available_us` as a datetime in UTC."""
        return _EPOCH + timedelta(microseconds=self.available_us)

    @property
    def event_us(self) -> int:
        """The text's own time: updated, else published, else ingested.

        Never trade on it: it lies before `available_us`.
        """
        return self.ts.updated_us or self.ts.published_us or self.ts.ingested_us

    @property
    def tickers(self) -> tuple[str, ...]:
        """Names of the instruments, in the text's order."""
        return tuple(symbol.symbol for symbol in self.symbols)
