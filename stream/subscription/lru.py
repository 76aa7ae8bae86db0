"""A bounded set of names with least-recently-used eviction."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator


class LruSet:
    """The `size` most recently used names; the least recently used is evicted first.

    Not thread-safe.
    """

    def __init__(self, size: int, known: Iterable[str] = ()) -> None:
        if size < 1:
            raise ValueError(f"size of a memory: at least 1 required, was {size}")
        self.size = size
        self._used: OrderedDict[str, None] = OrderedDict()
        for name in known:
            self.add(name)

    def __contains__(self, name: str) -> bool:
        return name in self._used

    def __iter__(self) -> Iterator[str]:
        return iter(self._used)

    def __len__(self) -> int:
        return len(self._used)

    def add(self, name: str) -> bool:
        """Add a name, or mark it used; return whether it was new."""
        new = name not in self._used
        self._used[name] = None
        self._used.move_to_end(name)
        if len(self._used) > self.size:
            self._used.popitem(last=False)
        return new
