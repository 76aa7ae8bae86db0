"""Rows of the two tables behind the views, by partition. Pure.

`items` has one row per item, in the partition of its signals: which symbols does it name, and by which signals.
`symbols` has one row per symbol and item, in the partition of the symbol. A row is the set of an item's signals, so
that writing it again, or an older one after it, never loses any.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from earlybird.schemas.codec import DecodeError, describe
from earlybird.stream.views.history import History
from earlybird.stream.views.mention import Mention
from earlybird.stream.views.windows import SPANS_US, Board

_SEPARATOR = "\0"


@dataclass(frozen=True, slots=True)
class ItemMentions:
    """What is sent to a symbol's partition: an item and all signals known of it."""

    item_key: str
    mentions: tuple[Mention, ...]


_ITEM = TypeAdapter(ItemMentions)


def encode_item(item_key: str, mentions: Sequence[Mention]) -> bytes:
    """Encode a row, or what is sent to a symbol's partition."""
    return _ITEM.dump_json(ItemMentions(item_key, tuple(mentions)), exclude_defaults=True)


def decode_item(content: bytes) -> ItemMentions:
    """Decode what `encode_item` wrote. Raises DecodeError."""
    try:
        return _ITEM.validate_json(content)
    except ValidationError as error:
        raise DecodeError(describe(error)) from None


class Rows(Protocol):
    """A table's rows in memory. Owned by the event loop's thread."""

    def restore(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Apply a record of the changelog. Raises DecodeError."""

    def drop(self, partition: int) -> None:
        """Forget a partition, which another worker may own now."""


class ItemRows:
    """Histories by item_key, per partition of signals."""

    def __init__(self) -> None:
        self.partitions: dict[int, dict[str, History]] = {}

    def add(self, partition: int, item_key: str, mention: Mention) -> History:
        """Add a signal and return the item's history."""
        history = self.partitions.setdefault(partition, {}).setdefault(item_key, History())
        history.add([mention])
        return history

    def restore(self, partition: int, key: bytes, value: bytes | None) -> None:
        """See Rows.restore."""
        rows = self.partitions.setdefault(partition, {})
        if value is None:
            rows.pop(key.decode(), None)
        else:
            rows.setdefault(key.decode(), History()).add(decode_item(value).mentions)

    def drop(self, partition: int) -> None:
        """See Rows.drop."""
        self.partitions.pop(partition, None)

    def prune(self, partition: int, before_us: int) -> list[bytes]:
        """Forget items without a signal since an instant; return the keys of their rows."""
        rows = self.partitions.get(partition, {})
        old = [item_key for item_key, history in rows.items() if history.changed_us <= before_us]
        for item_key in old:
            del rows[item_key]
        return [item_key.encode() for item_key in old]


class Shard(Board):
    """The board of one partition, which knows when a symbol's windows change."""

    def __init__(self) -> None:
        super().__init__()
        self._changed: set[str] = set()
        self._lapses: list[tuple[int, str]] = []  # when an item leaves a window, as a heap

    def put(self, symbol: str, item_key: str, history: History) -> None:
        """Put an item under a symbol, and note its lapses."""
        super().put(symbol, item_key, history)
        self._changed.add(symbol)
        for length_us in SPANS_US.values():
            heapq.heappush(self._lapses, (history.changed_us + length_us, symbol))

    def remove(self, symbol: str, item_key: str) -> None:
        """Take an item from under a symbol."""
        super().remove(symbol, item_key)
        self._changed.add(symbol)

    def due(self, now_us: int) -> list[str]:
        """Return symbols whose windows changed since the last call, by an item or by time."""
        while self._lapses and self._lapses[0][0] <= now_us:
            self._changed.add(heapq.heappop(self._lapses)[1])
        due, self._changed = sorted(self._changed), set()
        return due


class SymbolRows:
    """Shards by partition of symbols."""

    def __init__(self) -> None:
        self.partitions: dict[int, Shard] = {}

    def add(self, partition: int, symbol: str, item: ItemMentions) -> History | None:
        """Add an item's signals under a symbol; None where they told nothing new."""
        shard = self.partitions.setdefault(partition, Shard())
        history = shard.history(symbol, item.item_key) or History()
        if not history.add(item.mentions):
            return None
        shard.put(symbol, item.item_key, history)
        return history

    def restore(self, partition: int, key: bytes, value: bytes | None) -> None:
        """See Rows.restore."""
        symbol, _, item_key = key.decode().partition(_SEPARATOR)
        if value is not None:
            self.add(partition, symbol, decode_item(value))
        elif partition in self.partitions:
            self.partitions[partition].remove(symbol, item_key)

    def drop(self, partition: int) -> None:
        """See Rows.drop."""
        self.partitions.pop(partition, None)

    def prune(self, partition: int, before_us: int) -> list[bytes]:
        """Forget items without a signal since an instant; return the keys of their rows."""
        shard = self.partitions.get(partition)
        old = [] if shard is None else shard.outdated(before_us)
        for symbol, item_key in old:
            assert shard is not None, "rows without a shard. This is a bug."
            shard.remove(symbol, item_key)
        return [row_key(symbol, item_key) for symbol, item_key in old]


def row_key(symbol: str, item_key: str) -> bytes:
    """Return the key of a row of `symbols`."""
    return f"{symbol}{_SEPARATOR}{item_key}".encode()
