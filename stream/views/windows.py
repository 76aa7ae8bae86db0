"""Sentiment per symbol over windows of availability.

    >>> from earlybird.stream.client import Signals, Windows
    >>> from earlybird.stream.strategies.invented import invented
    >>> at_us = 1_714_571_100_000_000
    >>> items = [(invented("1", at_us, 0.9), at_us), (invented("2", at_us + 1, -0.5), at_us + 1)]     # or "archive/"
    >>> windows = Windows()
    >>> [windows.apply(signal) for signal in Signals.replay(items)]
    [True, True]
    >>> windows.summary("NVDA", "15m").n
    2
    >>> windows.summary("NVDA", "15m", as_of_us=at_us).mean         # nothing later is seen
    0.9

A window ends at an instant (included) and begins one length earlier (excluded). An item counts in it once, with the
signal of it that stood at that instant (schemas.order), if it began to stand within the window: so a correction
replaces what it corrects and counts from its own availability, and a retraction takes the item out. Order of arrival
and repeated signals change nothing.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from earlybird.schemas.signal import Label
from earlybird.schemas.symbols import canonical_symbol
from earlybird.stream.subscription.received import Received
from earlybird.stream.timeline.instants import Duration, duration_us
from earlybird.stream.views.history import History
from earlybird.stream.views.mention import Mention

SPANS_US = {"5m": 300_000_000, "15m": 900_000_000, "1h": 3_600_000_000, "1d": 86_400_000_000}
"""Lengths of the windows that the service shows, by name."""

KEPT_US = 2 * 86_400_000_000
HALF_LIFE_US = 3_600_000_000


class Counted(NamedTuple):
    """An item as a window counts it."""

    since_us: int  # from when this version of it stood
    item_key: str
    mention: Mention


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures of the items of one window.

    Means, extremes and the last are None where there are no items. `weighted_mean` weighs scores by confidence.
    `duplicate_share`: items whose text an earlier item had. `exit_depth`: mean share of the model's layers that the
    texts took.
    """

    n: int = 0
    mean: float | None = None
    weighted_mean: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    last: float | None = None
    last_us: int | None = None
    positive: int = 0
    negative: int = 0
    duplicate_share: float | None = None
    exit_depth: float | None = None


@dataclass(frozen=True, slots=True)
class Decayed:
    """Scores weighed by confidence and by 2 ** (-age / half-life).

    `weight` is the sum of the weights: how much news there is behind `mean`.
    """

    weight: float = 0.0
    mean: float | None = None


class Board:
    """Histories of items by symbol, and the summaries over them. Not thread-safe."""

    def __init__(self) -> None:
        self._symbols: dict[str, dict[str, History]] = {}

    def history(self, symbol: str, item_key: str) -> History | None:
        """Return an item's history under a symbol."""
        return self._symbols.get(symbol, {}).get(item_key)

    def put(self, symbol: str, item_key: str, history: History) -> None:
        """Put an item under a symbol."""
        self._symbols.setdefault(symbol, {})[item_key] = history

    def remove(self, symbol: str, item_key: str) -> None:
        """Take an item from under a symbol."""
        items = self._symbols.get(symbol, {})
        items.pop(item_key, None)
        if not items:
            self._symbols.pop(symbol, None)

    def symbols(self) -> tuple[str, ...]:
        """Return all symbols with an item, in the order of the alphabet."""
        return tuple(sorted(self._symbols))

    def count(self) -> int:
        """Return the number of items under all symbols."""
        return sum(map(len, self._symbols.values()))

    def outdated(self, before_us: int) -> list[tuple[str, str]]:
        """Return symbol and item_key of items without a signal since an instant."""
        return [
            (symbol, item_key)
            for symbol, items in self._symbols.items()
            for item_key, history in items.items()
            if history.changed_us <= before_us
        ]

    def counted(self, symbol: str, length_us: int, as_of_us: int) -> list[Counted]:
        """Return the items of a window, the one that stood last at the end."""
        return sorted(self._counted(symbol, as_of_us - length_us, as_of_us), key=_order)

    def summary(self, symbol: str, length_us: int, as_of_us: int) -> Summary:
        """Return the summary of a window."""
        return summarised(self.counted(symbol, length_us, as_of_us))

    def decayed(self, symbol: str, half_life_us: int, length_us: int, as_of_us: int) -> Decayed:
        """Return the decayed mean over a window."""
        return decayed(self.counted(symbol, length_us, as_of_us), half_life_us, as_of_us)

    def series(self, symbol: str, length_us: int, points: int, as_of_us: int) -> list[float | None]:
        """Return the confidence-weighted mean per part of a window that is cut into `points`.

        The latest part is last.
        """
        parts: list[list[Counted]] = [[] for _ in range(points)]
        for one in self.counted(symbol, length_us, as_of_us):
            back = (as_of_us - one.since_us) * points // length_us
            parts[points - 1 - back].append(one)
        return [summarised(part).weighted_mean for part in parts]

    def _counted(self, symbol: str, after_us: int, as_of_us: int) -> Iterator[Counted]:
        for item_key, history in self._symbols.get(symbol, {}).items():
            state = history.at(as_of_us)
            if state is None or state.since_us <= after_us or state.mention is None:
                continue
            if symbol in state.mention.symbols:  # a correction may name other symbols
                yield Counted(state.since_us, item_key, state.mention)


class Windows:
    """Windows over signals applied in any order, in a strategy or a replay.

    Forgets items `keep` after their last signal: windows longer than that, and instants further back, miss items.
    Without `as_of_us` windows end at the latest availability seen. Not thread-safe.
    """

    def __init__(self, keep: Duration = timedelta(microseconds=KEPT_US)) -> None:
        self._keep_us = _length_us(keep, "keep")
        self._board = Board()
        self._histories: dict[str, History] = {}
        self._pruned_us = self.newest_us = 0

    def apply(self, signal: Received) -> bool:
        """Apply a signal; return whether it told something new."""
        history = self._histories.setdefault(signal.item_key, History())
        changed = history.add([Mention.of(signal, signal.available_us)])
        for symbol in history.symbols if changed else ():
            self._board.put(symbol, signal.item_key, history)
        self.newest_us = max(self.newest_us, signal.available_us)
        if self.newest_us - self._pruned_us > self._keep_us // 16:
            self._prune()
        return changed

    def symbols(self) -> tuple[str, ...]:
        """Return all symbols of items kept, in the order of the alphabet."""
        return self._board.symbols()

    def summary(self, symbol: str, window: Duration, *, as_of_us: int | None = None) -> Summary:
        """Return the summary of a window.

        Any spelling of the symbol will do. Raises ValueError for what can name no instrument and no length.
        """
        return self._board.summary(canonical_symbol(symbol), _length_us(window, "window"), self._as_of(as_of_us))

    def decayed(
        self, symbol: str, half_life: Duration = timedelta(microseconds=HALF_LIFE_US), *, as_of_us: int | None = None
    ) -> Decayed:
        """Return the decayed mean over all items kept; raises like `summary`."""
        half_life_us = _length_us(half_life, "half_life")
        return self._board.decayed(canonical_symbol(symbol), half_life_us, self._keep_us, self._as_of(as_of_us))

    def items(self, symbol: str, window: Duration, *, as_of_us: int | None = None) -> list[Counted]:
        """Return the items of a window, the latest last; raises like `summary`."""
        return self._board.counted(canonical_symbol(symbol), _length_us(window, "window"), self._as_of(as_of_us))

    def __len__(self) -> int:
        return len(self._histories)

    def _as_of(self, as_of_us: int | None) -> int:
        return self.newest_us if as_of_us is None else as_of_us

    def _prune(self) -> None:
        self._pruned_us, horizon_us = self.newest_us, self.newest_us - self._keep_us
        for symbol, item_key in self._board.outdated(horizon_us):
            self._board.remove(symbol, item_key)
        old = [item_key for item_key, history in self._histories.items() if history.changed_us <= horizon_us]
        for item_key in old:
            del self._histories[item_key]


def summarised(counted: Iterable[Counted]) -> Summary:
    """Return the summary of items in the order in which they began to stand."""
    counted = list(counted)
    if not counted:
        return Summary()
    scores = [one.mention.score or 0.0 for one in counted]
    labels = [one.mention.label for one in counted]
    depths = [
        one.mention.exit_layer / one.mention.max_layers
        for one in counted
        if one.mention.exit_layer is not None and one.mention.max_layers
    ]
    n = len(counted)
    return Summary(
        n=n,
        mean=math.fsum(scores) / n,
        weighted_mean=_weighted(counted, [one.mention.confidence or 0.0 for one in counted]),
        minimum=min(scores),
        maximum=max(scores),
        last=scores[-1],
        last_us=counted[-1].since_us,
        positive=labels.count(Label.POSITIVE),
        negative=labels.count(Label.NEGATIVE),
        duplicate_share=sum(one.mention.duplicate for one in counted) / n,
        exit_depth=math.fsum(depths) / len(depths) if depths else None,
    )


def since(counted: list[Counted], after_us: int) -> list[Counted]:
    """Return the part of ordered items that began to stand after an instant."""
    return counted[bisect_right(counted, after_us, key=lambda one: one.since_us) :]


def decayed(counted: list[Counted], half_life_us: int, as_of_us: int) -> Decayed:
    """Return the decayed mean of items."""
    weights = [(one.mention.confidence or 0.0) * 2.0 ** ((one.since_us - as_of_us) / half_life_us) for one in counted]
    return Decayed(math.fsum(weights), _weighted(counted, weights))


def _weighted(counted: list[Counted], weights: list[float]) -> float | None:
    total = math.fsum(weights)
    if not total:
        return None
    return math.fsum((one.mention.score or 0.0) * weight for one, weight in zip(counted, weights, strict=True)) / total


def _order(one: Counted) -> tuple[int, str, int, int, int, str]:
    raw = one.mention.raw
    return (one.since_us, raw.topic, raw.partition, raw.offset, raw.index, one.item_key)


def _length_us(given: Duration, name: str) -> int:
    length_us = duration_us(given, name)
    if length_us <= 0:
        raise ValueError(f"{name}: a length above 0 required, was {given!r}")
    return length_us
