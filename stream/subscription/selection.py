"""Which signals a strategy wants, decided on a record's headers, before anything is decoded."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self, TypedDict, Unpack

from earlybird.schemas.codec import decode
from earlybird.schemas.signal import Label, Signal
from earlybird.schemas.symbols import canonical_symbol
from earlybird.stream.ports import Record
from earlybird.stream.subscription.lru import LruSet

REMEMBERED = 100_000  # item keys; about 20 MB at most


class Facts(NamedTuple):
    """What a record's key and headers tell of its signal."""

    signal_id: str
    item_key: str
    symbols: tuple[str, ...]
    label: str  # empty in a retraction
    confidence: float | None
    source: str
    item_type: str
    raw: str = ""  # the raw position; empty where nothing but a message tells it

    @classmethod
    def of_signal(cls, signal: Signal) -> Self:
        """The same facts, where there is no record."""
        return cls(
            signal.signal_id,
            signal.item_key,
            _symbols(",".join([symbol.symbol for symbol in signal.symbols])),  # as in the header, whatever they hold
            signal.label.value if signal.label else "",
            signal.confidence,
            signal.source,
            signal.item_type or "",
            place_of(signal),
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
        """The same facts, from the columns of an archive."""
        return cls(signal_id, item_key, _symbols(",".join(symbols)), label or "", confidence, source, item_type or "")

    @classmethod
    def of_record(cls, record: Record) -> Self:
        """From key and headers; decoded where these are not whole (a bridge may have dropped, doubled or recoded some).
        Other headers are not looked at, and may hold anything. Raises DecodeError."""
        return cls._told(record) or cls.of_signal(decode(Signal, record.value or b""))

    @classmethod
    def _told(cls, record: Record) -> Self | None:
        told: dict[str, str] = {}
        try:
            for name, value in record.headers:
                if name in _TOLD and value is not None and told.setdefault(name, text := value.decode()) is not text:
                    return None
            if record.key is None or not told.keys() >= _NEEDED:
                return None
            confidence = float(told["confidence"]) if told["confidence"] else None
            key = record.key.decode()
        except ValueError:
            return None
        raw = told.get("raw", "")
        symbols, label = _symbols(told["symbols"], old=not raw), told["label"]
        return cls(told["signal-id"], key, symbols, label, confidence, told["source"], told["item-type"], raw)


def place_of(signal: Signal) -> str:
    """The raw position, as in the header `raw`."""
    raw = signal.raw
    return f"{raw.topic}/{raw.partition}/{raw.offset}/{raw.index}"


def _symbols(joined: str, *, old: bool = True) -> tuple[str, ...]:
    """`old`: perhaps of before signal 1.1, when BTC/USD was written BTC.USD."""
    names = joined.split(",") if joined else []
    return tuple(map(_as_today, names) if old else names)


def _as_today(name: str) -> str:
    try:
        return canonical_symbol(name)
    except ValueError:
        return name


_NEEDED = frozenset(("signal-id", "symbols", "label", "confidence", "source", "item-type"))
_TOLD = _NEEDED | {"raw"}  # since signal 1.1


class Wanted(TypedDict, total=False):
    """What a caller writes to select signals, live and in a replay alike; see Selection."""

    symbols: Collection[str] | None
    labels: Collection[str] | None
    min_confidence: float
    sources: Collection[str] | None
    item_types: Collection[str] | None
    single_symbol: bool


class Filters(Wanted, total=False):
    """What decides which signals reach a strategy: Wanted, and the arguments of Gate."""

    distinct: bool
    held: Iterable[str]
    remember: int


@dataclass(frozen=True, slots=True)
class Selection:
    """What a signal must be; None asks for nothing. Symbols are canonical (`of` takes any spelling).

    `symbols`: about at least one of them. `min_confidence` and `labels` are never met by a retraction, which carries
    neither. `single_symbol`: about exactly one instrument, for texts whose score is nobody else's.
    """

    symbols: frozenset[str] | None = None
    labels: frozenset[str] | None = None
    min_confidence: float = 0.0
    sources: frozenset[str] | None = None
    item_types: frozenset[str] | None = None
    single_symbol: bool = False

    @classmethod
    def of(cls, **wanted: Unpack[Wanted]) -> Self:
        """From what a caller writes. Raises ValueError for what no signal can be, TypeError for an unknown name."""
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
        """Whether every signal matches."""
        return self == type(self)()

    def matches(self, facts: Facts) -> bool:
        """Whether this signal by itself is wanted."""
        return (
            (self.symbols is None or not self.symbols.isdisjoint(facts.symbols))
            and (self.labels is None or facts.label in self.labels)
            and (self.min_confidence == 0.0 or (facts.confidence or 0.0) >= self.min_confidence)
            and (self.sources is None or facts.source in self.sources)
            and (self.item_types is None or facts.item_type in self.item_types)
            and (not self.single_symbol or len(facts.symbols) == 1)
        )


class Gate:
    """Lets through what is wanted, and everything that follows on it. Not thread-safe.

    A correction or retraction of an item that was let through passes every filter: it may have lost the label, the
    symbols or the confidence that the strategy acted on. The last `remember` item keys are known; whoever waits for a
    correction of something older must ask again with wider filters, and whoever restarts names what it still holds in
    `held`. What was filtered is not remembered: an old version that comes late may pass where the newer one did not.
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
        """From what a caller writes. Raises as Selection.of."""
        return cls(Selection.of(**wanted), distinct=distinct, remember=remember, held=held)

    @property
    def open(self) -> bool:
        """Whether it lets everything through, so that nobody has to ask."""
        return self._ids is None and self.selection.everything

    @property
    def distinct(self) -> bool:
        """Whether repeats are dropped, by signal_id and raw position."""
        return self._ids is not None

    @property
    def passed(self) -> LruSet:
        """Item keys of which something was let through (or that are held)."""
        return self._passed

    def forerunner(self) -> Callable[[Record], bool] | None:
        """Tells by a record's headers what this gate will surely not let through, and counts it here; None where that
        is nothing. Each partition in offset order; the gate itself decides on the rest."""
        if self.open:
            return None
        gate = Gate(self.selection, distinct=False, remember=self._passed.size, held=self._passed)

        def wanted(record: Record) -> bool:
            try:
                admitted = gate.admits(Facts.of_record(record))
            except ValueError:  # whoever decodes it says so
                return True
            self.filtered += not admitted
            return admitted

        return wanted

    def knows(self, item_key: str) -> bool:
        """Whether something of this item was let through (or is held)."""
        return item_key in self._passed

    def admits(self, facts: Facts) -> bool:
        """Whether the strategy gets this one; remembers that it did."""
        if facts.item_key not in self._passed and not self.selection.matches(facts):
            self.filtered += 1
            return False
        # One text sent twice (a correction that is taken back, say) has one signal_id, and two places.
        if self._ids is not None and not self._ids.add(f"{facts.signal_id} {facts.raw}"):
            self.repeated += 1
            return False
        self._passed.add(facts.item_key)
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
