"""Current state of each item, by the rule of schemas.order, not by arrival."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

from earlybird.schemas.order import Versions, same_result
from earlybird.schemas.signal import Signal, SignalAction
from earlybird.schemas.symbols import canonical_symbol

S = TypeVar("S", bound=Signal)


class Latest(Generic[S]):
    """Current state of each item_key, safe against late, repeated and reordered signals.

    Keeps the last `size` item keys that stand and as many that were retracted; older ones are forgotten. Not
    thread-safe.
    """

    def __init__(self, size: int = 100_000) -> None:
        self._size = size
        self._standing: OrderedDict[str, S] = OrderedDict()  # most recently changed last
        self._gone: OrderedDict[str, None] = OrderedDict()  # retracted: late signals must not revive them
        self._versions: dict[str, Versions[S]] = {}  # of items with more versions read than the one that stands
        self._about: dict[str, dict[str, None]] = {}  # symbol -> standing item keys, in the same order

    def update(self, signal: S) -> bool:
        """Apply a signal; return whether the item's state changed.

        The new state need not be this signal: see `get`.
        """
        item_key = signal.item_key
        before = self._standing.get(item_key)
        if before is None and item_key not in self._gone and signal.action is not SignalAction.RETRACT:
            after: S | None = signal
        else:
            after = self._of_several(signal, before)
            if before is not None and same_result(before, after):
                return False
        self._change(item_key, before, after)
        return before is not None or after is not None

    def get(self, item_key: str) -> S | None:
        """Return the item's current state; None if it is unknown or was retracted."""
        return self._standing.get(item_key)

    def about(self, symbol: str) -> list[S]:
        """Return standing states that name this instrument, the most recently changed last.

        Any spelling will do. Raises ValueError for what can name no instrument.
        """
        return [self._standing[item_key] for item_key in self._about.get(canonical_symbol(symbol), ())]

    def __iter__(self) -> Iterator[S]:
        return iter(list(self._standing.values()))

    def __len__(self) -> int:
        return len(self._standing)

    def _of_several(self, signal: S, before: S | None) -> S | None:
        versions = self._versions.get(signal.item_key)
        if versions is None:
            versions = self._versions[signal.item_key] = Versions()
            if before is not None:
                versions.add(before)
        versions.add(signal)
        return versions.standing()

    def _change(self, item_key: str, before: S | None, after: S | None) -> None:
        if before is not None:
            self._unlist(self._standing.pop(item_key))
        self._gone.pop(item_key, None)
        if after is None:
            self._gone[item_key] = None
        else:
            self._standing[item_key] = after
            for named in after.symbols:
                self._about.setdefault(named.symbol, {})[item_key] = None
        self._forget()

    def _forget(self) -> None:
        if len(self._standing) > self._size:
            item_key, state = self._standing.popitem(last=False)
            self._unlist(state)
            self._versions.pop(item_key, None)
        if len(self._gone) > self._size:
            self._versions.pop(self._gone.popitem(last=False)[0], None)

    def _unlist(self, state: S) -> None:
        for named in state.symbols:
            listed = self._about.get(named.symbol, {})
            listed.pop(state.item_key, None)
            if not listed:
                self._about.pop(named.symbol, None)
