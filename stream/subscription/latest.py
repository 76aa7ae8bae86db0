"""The state of each item, by revision and never by arrival."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

from schemas.signal import Signal, SignalAction
from stream.subscription.received import rank

S = TypeVar("S", bound=Signal)


class Latest(Generic[S]):
    """What is known of each item_key. A signal that comes late, twice or out of order changes nothing it should not.

    Of the last `size` item keys; older ones are forgotten. Not thread-safe.
    """

    def __init__(self, size: int = 100_000) -> None:
        self._size = size
        self._states: OrderedDict[str, S] = OrderedDict()  # the one that changed last at the end
        self._about: dict[str, dict[str, None]] = {}  # symbol -> item keys that stand, in the same order

    def update(self, signal: S) -> bool:
        """Take a signal in; whether it changed the item's state."""
        known = self._states.get(signal.item_key)
        if known is not None and rank(signal) <= rank(known):
            return False
        if known is not None:
            self._unlist(known)
        self._states[signal.item_key] = signal
        self._states.move_to_end(signal.item_key)
        if signal.action is not SignalAction.RETRACT:
            for named in signal.symbols:
                self._about.setdefault(named.symbol, {})[signal.item_key] = None
        if len(self._states) > self._size:
            self._unlist(self._states.popitem(last=False)[1])
        return True

    def get(self, item_key: str) -> S | None:
        """The item's latest state; None if it is unknown or was retracted."""
        state = self._states.get(item_key)
        return None if state is None or state.action is SignalAction.RETRACT else state

    def about(self, symbol: str) -> list[S]:
        """States that stand and name this instrument, the one that changed last at the end."""
        return [self._states[item_key] for item_key in self._about.get(symbol, ())]

    def __iter__(self) -> Iterator[S]:
        return iter([state for state in self._states.values() if state.action is not SignalAction.RETRACT])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _unlist(self, state: S) -> None:
        for named in state.symbols:
            listed = self._about.get(named.symbol, {})
            listed.pop(state.item_key, None)
            if not listed:
                self._about.pop(named.symbol, None)
