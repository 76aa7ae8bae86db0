"""Selects the signals that a strategy wants by record headers, before decoding."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Self, TypedDict, Unpack

from earlybird.schemas.signal import Label
from earlybird.schemas.symbols import canonical_symbol
from earlybird.stream.ports import Record
from earlybird.stream.subscription.lru import LruSet
from earlybird.stream.subscription.signal_headers import SignalHeaders

REMEMBERED = 100_000  # item keys; about 20 MB at most


class Wanted(TypedDict, total=False):
    """Filter arguments of a caller, live and in a replay alike; see Selection."""

    symbols: Collection[str] | None
    labels: Collection[str] | None
    min_confidence: float
    max_duplicates: int | None
    min_relevance: float
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

    Symbols are canonical (`of` takes any spelling). `symbols`: about at least one of them. `min_relevance`: at least
    one of them (without `symbols`: any) has at least this relevance; an unknown one never has. `max_duplicates`: so
    many earlier items of the whole feed, wanted or not, may have had the text; 0: new texts only. `single_symbol`:
    about exactly one instrument, so that the score belongs to it alone. A retraction carries neither label nor
    confidence nor novelty, and meets no condition on these.
    """

    symbols: frozenset[str] | None = None
    labels: frozenset[str] | None = None
    min_confidence: float = 0.0
    max_duplicates: int | None = None
    min_relevance: float = 0.0
    sources: frozenset[str] | None = None
    item_types: frozenset[str] | None = None
    single_symbol: bool = False

    @classmethod
    def of(cls, **wanted: Unpack[Wanted]) -> Self:
        """Build a selection from a caller's arguments.

        Raises ValueError for a value that no signal can have, TypeError for an unknown name.
        """
        if unknown := wanted.keys() - Wanted.__annotations__.keys():
            raise TypeError(f"filters: of {', '.join(Wanted.__annotations__)}, was {', '.join(sorted(unknown))}")
        min_confidence, min_relevance = wanted.get("min_confidence", 0.0), wanted.get("min_relevance", 0.0)
        for name, share in (("min_confidence", min_confidence), ("min_relevance", min_relevance)):
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"{name}: 0 to 1, was {share}")
        if (max_duplicates := wanted.get("max_duplicates")) is not None and max_duplicates < 0:
            raise ValueError(f"max_duplicates: 0 or more, was {max_duplicates}")
        symbols, sources = _names("symbols", wanted.get("symbols")), _names("sources", wanted.get("sources"))
        return cls(
            None if symbols is None else frozenset(map(_symbol, symbols)),
            _known("labels", wanted.get("labels"), {label.value for label in Label}),
            min_confidence,
            max_duplicates,
            min_relevance,
            None if sources is None else frozenset(map(_source, sources)),
            _known("item_types", wanted.get("item_types"), {"news", "tweet"}),
            wanted.get("single_symbol", False),
        )

    @property
    def everything(self) -> bool:
        return self == type(self)()

    @property
    def needed(self) -> tuple[str, ...]:
        """Facts that decide, of those that earlier stages and archives have in messages only."""
        decides = {"relevance": self.min_relevance > 0.0, "dup_count": self.max_duplicates is not None}
        return tuple(name for name, needed in decides.items() if needed)

    def matches(self, headers: SignalHeaders) -> bool:
        """Return whether this signal by itself is wanted."""
        symbols = headers.symbols
        if self.min_relevance > 0.0:
            weighed = zip(symbols, headers.relevance, strict=False)  # a name with a comma counts as two in the header
            symbols = tuple(name for name, weight in weighed if (weight or 0.0) >= self.min_relevance)
            if not symbols:
                return False
        return (
            (self.symbols is None or not self.symbols.isdisjoint(symbols))
            and (self.labels is None or headers.label in self.labels)
            and (self.min_confidence == 0.0 or (headers.confidence or 0.0) >= self.min_confidence)
            and (self.max_duplicates is None or _at_most(headers.dup_count, self.max_duplicates))
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
        """Return a header filter that drops records that cannot pass this gate, or None.

        Dropped records are counted in `filtered` here; None where the gate is open. The filter takes each partition in
        offset order, and the gate itself decides on the rest.
        """
        if self.open:
            return None
        signal_filter = SignalFilter(self.selection, distinct=False, remember=self._passed.size, held=self._passed)

        def wanted(record: Record) -> bool:
            try:
                admitted = signal_filter.admits(SignalHeaders.of_record(record, self.selection.needed))
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


def _at_most(count: int | None, most: int) -> bool:
    return count is not None and count <= most


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
