"""State of one worker of the views, and which part of it may be shown."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from earlybird.stream.timeline.instants import duration_us
from earlybird.stream.views.lease import Lease
from earlybird.stream.views.rows import ItemRows, Shard, SymbolRows
from earlybird.stream.views.windows import KEPT_US


@dataclass
class Counters:
    """Counts since the start, for /metrics."""

    signals: int = 0
    unreadable: int = 0
    items: int = 0  # items applied to a symbol
    unchanged: int = 0  # of these, those that told nothing new
    read_again: int = 0  # times that dropped events were sought
    emitted: int = 0
    pruned: int = 0
    rebalances: int = 0


@dataclass
class State:
    """Rows, lease and ownership. Owned by the event loop's thread, the lease excepted.

    `settled`: returns whether the group's assignment is complete and its rows restored. `owners`: base URL of the
    worker that owns a partition of symbols, as the group's leader assigned it. `behind`: records of a partition of
    symbols not applied yet, None if unknown.
    """

    partitions: int
    lease: Lease
    url: str
    half_life_us: int = duration_us("1h")
    settled: Callable[[], bool] = lambda: False
    owners: Callable[[], Mapping[int, str]] = dict
    behind: Callable[[int], int | None] = lambda _: None
    owned: frozenset[int] = frozenset()
    items: ItemRows = field(default_factory=ItemRows)
    symbols: SymbolRows = field(default_factory=SymbolRows)
    counters: Counters = field(default_factory=Counters)

    @property
    def waiting(self) -> tuple[str, ...]:
        """What is missing before anything is shown."""
        if not self.settled():
            return ("assignment",)
        return () if self.lease.valid else ("group",)

    @property
    def rows(self) -> int:
        """Number of rows of both tables in memory."""
        by_symbol = sum(shard.count() for shard in self.symbols.partitions.values())
        return by_symbol + sum(map(len, self.items.partitions.values()))

    def shards(self) -> dict[int, Shard]:
        """Return what may be shown now, by partition: never what another worker may own."""
        if self.waiting:
            return {}
        return {number: self.symbols.partitions.get(number) or Shard() for number in sorted(self.owned)}

    def prune(self, now_us: int) -> tuple[dict[int, list[bytes]], dict[int, list[bytes]]]:
        """Forget outdated items; return the keys of their rows by table and partition."""
        before_us = now_us - KEPT_US
        items = {number: self.items.prune(number, before_us) for number in list(self.items.partitions)}
        symbols = {number: self.symbols.prune(number, before_us) for number in list(self.symbols.partitions)}
        self.counters.pruned += sum(map(len, symbols.values()))
        return items, symbols
