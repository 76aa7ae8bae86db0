"""Facts that filters decide on, from a record's headers, a message or columns."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Self

from earlybird.schemas.codec import decode
from earlybird.schemas.signal import Signal
from earlybird.schemas.symbols import canonical_symbol
from earlybird.stream.ports import Record


class SignalHeaders(NamedTuple):
    """Facts about a signal from its record's key and headers."""

    signal_id: str
    item_key: str
    symbols: tuple[str, ...]
    label: str  # empty in a retraction
    confidence: float | None
    source: str
    item_type: str
    raw: str = ""  # the raw position; empty where only the message has it
    relevance: tuple[float | None, ...] = ()  # of each symbol; None: unknown
    dup_count: int | None = None  # earlier items with the text; None in a retraction

    @classmethod
    def of_signal(cls, signal: Signal) -> Self:
        """Return the same facts from a decoded signal, where there is no record."""
        return cls(
            signal.signal_id,
            signal.item_key,
            _symbols(",".join([symbol.symbol for symbol in signal.symbols])),  # like the header, whatever they hold
            signal.label.value if signal.label else "",
            signal.confidence,
            signal.source,
            signal.item_type or "",
            raw_position(signal),
            tuple(symbol.relevance for symbol in signal.symbols),
            None if signal.novelty is None else signal.novelty.dup_count,
        )

    @classmethod
    def of_columns(
        cls,
        signal_id: str,
        item_key: str,
        symbols: Sequence[str],
        label: str | None,
        confidence: float | None,
        source: str,
        item_type: str | None,
        relevance: Sequence[float | None] = (),
        dup_count: int | None = None,
    ) -> Self:
        """Return the same facts from the columns of an archive."""
        named, weights = _symbols(",".join(symbols)), tuple(relevance)
        return cls(signal_id, item_key, named, label or "", confidence, source, item_type or "", "", weights, dup_count)

    @classmethod
    def of_record(cls, record: Record, needed: Collection[str] = ()) -> Self:
        """Return the facts from key and headers, or from the message where these are incomplete.

        A bridge may have dropped, doubled or recoded headers, and earlier stages wrote fewer: `needed` names the
        optional facts that decide. Other headers are not looked at, and may hold anything. Raises DecodeError.
        """
        return cls._from_headers(record, needed) or cls.of_signal(decode(Signal, record.value or b""))

    @classmethod
    def _from_headers(cls, record: Record, needed: Collection[str]) -> Self | None:
        values: dict[str, str] = {}
        try:
            for name, value in record.headers:
                if (
                    name in _HEADERS
                    and value is not None
                    and values.setdefault(name, text := value.decode()) is not text
                ):
                    return None
            if record.key is None or not values.keys() >= _REQUIRED.union(_OPTIONAL[name] for name in needed):
                return None
            confidence = float(values["confidence"]) if values["confidence"] else None
            dup_count = int(values["dup-count"]) if values.get("dup-count") else None
            joined, weights = values["symbols"], values.get("relevance")
            each = weights.split(",") if joined and weights is not None else []
            relevance = tuple([float(weight) if weight else None for weight in each])
            key = record.key.decode()
        except ValueError:
            return None
        raw = values.get("raw", "")
        symbols, label = _symbols(joined, old=not raw), values["label"]
        if "relevance" in needed and len(relevance) != len(symbols):
            return None
        return cls(
            values["signal-id"], key, symbols, label, confidence, values["source"], values["item-type"], raw, relevance,
            dup_count,
        )  # fmt: skip


def raw_position(signal: Signal) -> str:
    """Return the raw position, as in the header `raw`."""
    raw = signal.raw
    return f"{raw.topic}/{raw.partition}/{raw.offset}/{raw.index}"


def _symbols(joined: str, *, old: bool = True) -> tuple[str, ...]:
    """Split joined symbols; `old` ones may predate signal 1.1, which renamed pairs.

    BTC/USD was written BTC.USD before.
    """
    names = joined.split(",") if joined else []
    return tuple(map(_current_name, names) if old else names)


def _current_name(name: str) -> str:
    try:
        return canonical_symbol(name)
    except ValueError:
        return name


_REQUIRED = frozenset(("signal-id", "symbols", "label", "confidence", "source", "item-type"))
_OPTIONAL = {"relevance": "relevance", "dup_count": "dup-count"}  # facts and their headers, since signal 1.3
_HEADERS = _REQUIRED.union(["raw"], _OPTIONAL.values())  # `raw` exists since signal 1.1
