"""The state of each item, by the rule of schemas.order and never by arrival."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

from schemas.order import Versions, same_result
from schemas.signal import Signal
from schemas.symbols import canonical_symbol

S = TypeVar("S", bound=Signal)


class Latest(Generic[S]):
    """What is known of each item_key. A signal that comes late, twice or out of order changes nothing it should not.

    Of the last `size` item keys that stand, and of as many that do not; older ones are forgotten. Not thread-safe.
    """

    def __init__(self, size: int = 100_000) -> None:
        self._size = size
        self._standing: OrderedDict[str, tuple[Versions[S], S]] = OrderedDict()  # the one that changed last at the end
        self._gone: OrderedDict[str, Versions[S]] = OrderedDict()  # all taken back: late signals must not revive them
        self._about: dict[str, dict[str, None]] = {}  # symbol -> item keys that stand, in the same order

    def update(self, signal: S) -> bool:
        """Take a signal in; whether another one stands now, or none. It need not be this one: see `get`."""
        item_key = signal.item_key
        known = self._standing.get(item_key)
        versions, before = known or (self._gone.get(item_key) or Versions(), None)
        versions.add(signal)
        after = versions.standing()
        if before is not None and same_result(before, after):
            return False
        if before is not None:
            self._unlist(before)
        self._standing.pop(item_key, None)
        self._gone.pop(item_key, None)
        if after is None:
            self._gone[item_key] = versions
        else:
            self._list(versions, after)
        self._forget()
        return before is not None or after is not None

    def get(self, item_key: str) -> S | None:
        """The item's latest state; None if it is unknown or was retracted."""
        known = self._standing.get(item_key)
        return None if known is None else known[1]

    def about(self, symbol: str) -> list[S]:
        """States that stand and name this instrument, the one that changed last at the end. Any spelling will do;
        raises ValueError for what can name none."""
        return [self._standing[item_key][1] for item_key in self._about.get(canonical_symbol(symbol), ())]

    def __iter__(self) -> Iterator[S]:
        return iter([state for _, state in self._standing.values()])

    def __len__(self) -> int:
        return len(self._standing)

    def _list(self, versions: Versions[S], state: S) -> None:
        self._standing[state.item_key] = versions, state
        for named in state.symbols:
            self._about.setdefault(named.symbol, {})[state.item_key] = None

    def _unlist(self, state: S) -> None:
        for named in state.symbols:
            about = self._about.get(named.symbol, {})
            about.pop(state.item_key, None)
            if not about:
                self._about.pop(named.symbol, None)

    def _forget(self) -> None:
        if len(self._standing) > self._size:
            self._unlist(self._standing.popitem(last=False)[1][1])
        if len(self._gone) > self._size:
            self._gone.popitem(last=False)
