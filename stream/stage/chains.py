"""Entries whose outcomes are not sent yet, in raw order per item_key."""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby

from earlybird.stream.stage.messages import Entry, Siblings


class Chains:
    """Entries not sent yet: a correction waits for the text that it corrects. Not thread-safe."""

    def __init__(self) -> None:
        self._chains: dict[str, deque[Entry]] = {}

    def add(self, entries: Sequence[Entry]) -> None:
        """Append entries in raw order; all those of one record come in one call."""
        for entry in entries:
            if (item_key := entry.element.item_key) is not None:
                self._chains.setdefault(item_key, deque()).append(entry)

    def leaving(self, entry: Entry) -> Iterator[Entry]:
        """Yield what can leave now that `entry` was added or answered, in order."""
        item_key = entry.element.item_key
        if item_key is None:
            yield entry
            return
        chain = self._chains.get(item_key)
        while chain and chain[0].answered:
            yield chain.popleft()
        if not chain:
            self._chains.pop(item_key, None)


class RecordChains(Chains):
    """Chains in which the elements of one record leave together, once all of them can."""

    def add(self, entries: Sequence[Entry]) -> None:
        for _, group in groupby(entries, key=lambda entry: id(entry.record)):
            of_record = list(group)
            if len(of_record) > 1:
                siblings = Siblings(of_record)
                for entry in of_record:
                    entry.siblings = siblings
        super().add(entries)

    def leaving(self, entry: Entry) -> Iterator[Entry]:
        waiting = [entry]
        while waiting:
            entry = waiting.pop()
            siblings = entry.siblings
            group = [entry] if siblings is None else siblings.entries
            if (siblings is not None and not siblings.answered()) or not all(map(self._can_leave, group)):
                continue
            for member in group:
                if member.element.item_key is not None:
                    self._chains[member.element.item_key].popleft()
            if siblings is not None:
                siblings.entries = []  # they have left
            yield from group
            for item_key in dict.fromkeys(member.element.item_key for member in group):
                if item_key is None:
                    continue
                if chain := self._chains[item_key]:
                    waiting.append(chain[0])
                else:
                    del self._chains[item_key]

    def _can_leave(self, entry: Entry) -> bool:
        """Return whether it is answered, and first in its chain but for its own siblings."""
        if entry.element.item_key is None or not entry.answered:
            return entry.answered
        chain = self._chains.get(entry.element.item_key)
        if chain is None:
            return False  # it has left
        return chain[0] is entry or (entry.siblings is not None and chain[0].siblings is entry.siblings)
