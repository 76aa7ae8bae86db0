"""Selects the signals that a strategy wants by record headers, before decoding."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self, TypedDict, Unpack

from earlybird.schemas.codec import decode
from earlybird.schemas.signal import Label, Signal
from earlybird.schemas.symbols import canonical_symbol
from earlybird.stream.ports import Record
from earlybird.stream.subscription.lru import LruSet

REMEMBERED = 100_000  # item keys; about 20 MB at most


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
    ) -> Self:
        """Return the same facts from the columns of an archive."""
        return cls(signal_id, item_key, _symbols(",".join(symbols)), label or "", confidence, source, item_type or "")

    @classmethod
    def of_record(cls, record: Record) -> Self:
        """Return the facts from key and headers, or from the message where these are incomplete.

        A bridge may have dropped, doubled or recoded headers. Other headers are not looked at, and may hold anything.
        Raises DecodeError.
        """
        return cls._from_headers(record) or cls.of_signal(decode(Signal, record.value or b""))

    @classmethod
    def _from_headers(cls, record: Record) -> Self | None:
        values: dict[str, str] = {}
        try:
            for name, value in record.headers:
                if (
                    name in _HEADERS
                    and value is not None
                    and values.setdefault(name, text := value.decode()) is not text
                ):
                    return None
            if record.key is None or not values.keys() >= _REQUIRED:
                return None
            confidence = float(values["confidence"]) if values["confidence"] else None
            key = record.key.decode()
        except ValueError:
            return None
        raw = values.get("raw", "")
        symbols, label = _symbols(values["symbols"], old=not raw), values["label"]
        return cls(values["signal-id"], key, symbols, label, confidence, values["source"], values["item-type"], raw)


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
_HEADERS = _REQUIRED | {"raw"}  # `raw` exists since signal 1.1


class Wanted(TypedDict, total=False):
    """Filter arguments of a caller, live and in a replay alike; see Selection."""

    symbols: Collection[str] | None
    labels: Collection[str] | None
    min_confidence: float
    sources: Collection[str] | None
    item_types: Collection[str] | None
    single_symbol: bool


class Filters(Wanted, total=False):
    """All filter arguments: Wanted, and the arguments of Gate."""

    distinct: bool
    held: Iterable[str]
    remember: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions that a signal must meet; None sets no condition.

    Symbols are canonical (`of` takes any spelling). `symbols`: about at least one of them. `min_confidence` and
    `labels` are never met by a retraction, which carries neither. `single_symbol`: about exactly one instrument, so
    that the score belongs to it alone.
    """

    symbols: frozenset[str] | None = None
    labels: frozenset[str] | None = None
    min_confidence: float = 0.0
    sources: frozenset[str] | None = None
    item_types: frozenset[str] | None = None
    single_symbol: bool = False

    @classmethod
    def of(cls, **wanted: Unpack[Wanted]) -> Self:
        """Build a selection from a caller's arguments.

        Raises ValueError for what no signal can be, TypeError for an unknown name.
        """
        if unknown := wanted.keys() - Wanted.__annotations__.keys():
            raise TypeError(f"filters: of {', '.join(Wanted.__annotations__)}, was {', '.join(sorted(unknown))}")
        min_confidence = wanted.get("min_confidence", 0.0)
        if not 0.0 <= min_confidence <= 1.0:
            raise ValueError(f"min_confidence: 0 to 1, was {min_confidence}")
        symbols, sources = _names("symbols", wanted.get("symbols")), _names("sources", wanted.get("sources"))
        return cls(
            None if symbols is None else frozenset(map(_symbol, symbols)),
            _known("labels", wanted.get("labels"), {label.value for label in Label}),
            min_confidence,
            None if sources is None else frozenset(map(_source, sources)),
            _known("item_types", wanted.get("item_types"), {"news", "tweet"}),
            wanted.get("single_symbol", False),
        )

    @property
    def everything(self) -> bool:
        return self == type(self)()

    def matches(self, headers: SignalHeaders) -> bool:
        """Return whether this signal by itself is wanted."""
        return (
            (self.symbols is None or not self.symbols.isdisjoint(headers.symbols))
            and (self.labels is None or headers.label in self.labels)
            and (self.min_confidence == 0.0 or (headers.confidence or 0.0) >= self.min_confidence)
            and (self.sources is None or headers.source in self.sources)
            and (self.item_types is None or headers.item_type in self.item_types)
            and (not self.single_symbol or len(headers.symbols) == 1)
        )


class SignalFilter:
    """Admits wanted signals and every later signal of their items.

    A correction or retraction of an admitted item passes every filter: it may have lost the label, the symbols or the
    confidence that the strategy acted on. The last `remember` item keys are known; a strategy that waits for a
    correction of something older must ask again with wider filters, and one that restarts names what it still holds in
    `held`. Filtered items are not remembered: an old version that comes late may pass where the newer one did not. Not
    thread-safe.
    """

    def __init__(
        self, selection: Selection, *, distinct: bool, remember: int = REMEMBERED, held: Iterable[str] = ()
    ) -> None:
        self.filtered = 0  # not wanted
        self.repeated = 0  # signal_ids that were let through before
        self.selection = selection
        self._passed = LruSet(remember, held)
        self._ids = LruSet(remember) if distinct else None

    @classmethod
    def of(
        cls, *, distinct: bool = False, remember: int = REMEMBERED, held: Iterable[str] = (), **wanted: Unpack[Wanted]
    ) -> Self:
        """Build a gate from a caller's arguments; raises the errors of Selection.of."""
        if isinstance(held, str):
            raise ValueError(f"held: a list of item keys required, was the string {held!r}")
        held = tuple(held)
        if len(held) > remember:
            raise ValueError(f"held: at most `remember` ({remember:,}) item keys, was {len(held):,}")
        return cls(Selection.of(**wanted), distinct=distinct, remember=remember, held=held)

    @property
    def open(self) -> bool:
        """Whether everything passes, so that no record needs a check."""
        return self._ids is None and self.selection.everything

    @property
    def distinct(self) -> bool:
        """Whether repeats are dropped, by signal_id and raw position."""
        return self._ids is not None

    @property
    def passed(self) -> LruSet:
        """Item keys with an admitted signal, and those in `held`."""
        return self._passed

    def record_filter(self) -> Callable[[Record], bool] | None:
        """Return a header filter that drops records this gate surely rejects, or None.

        Dropped records are counted in `filtered` here; None where the gate is open. The filter takes each partition in
        offset order, and the gate itself decides on the rest.
        """
        if self.open:
            return None
        signal_filter = SignalFilter(self.selection, distinct=False, remember=self._passed.size, held=self._passed)

        def wanted(record: Record) -> bool:
            try:
                admitted = signal_filter.admits(SignalHeaders.of_record(record))
            except ValueError:  # the decoder reports it
                return True
            self.filtered += not admitted
            return admitted

        return wanted

    def knows(self, item_key: str) -> bool:
        """Return whether an admitted signal, or `held`, named this item."""
        return item_key in self._passed

    def admits(self, headers: SignalHeaders) -> bool:
        """Return whether the strategy gets this signal, and remember it if so."""
        if headers.item_key not in self._passed and not self.selection.matches(headers):
            self.filtered += 1
            return False
        # One text sent twice (such as a correction that is undone) has one signal_id and two raw positions.
        if self._ids is not None and not self._ids.add(f"{headers.signal_id} {headers.raw}"):
            self.repeated += 1
            return False
        self._passed.add(headers.item_key)
        return True


def _names(field: str, given: Collection[str] | None) -> frozenset[str] | None:
    if isinstance(given, str):
        raise ValueError(f"{field}: a list of names required, was the string {given!r}")
    return None if given is None else frozenset(str(name) for name in given)


def _known(field: str, given: Collection[str] | None, known: set[str]) -> frozenset[str] | None:
    names = _names(field, given)
    if names is not None and not names <= known:
        raise ValueError(f"{field}: of {', '.join(sorted(known))}, was {sorted(names)}")
    return names


def _symbol(written: str) -> str:
    try:
        return canonical_symbol(written)
    except ValueError as error:
        raise ValueError(f"symbols: {written!r} matches no signal: {error}") from None


def _source(name: str) -> str:
    if not 0 < len(name) <= 64:
        raise ValueError(f"sources: {name!r} matches no signal: 1 to 64 characters required, was {len(name)}")
    return name
