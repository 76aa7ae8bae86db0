"""Novelty without look-ahead: a replayed signal names only what was available by then.

Pure. `first_seen_us` and `dup_of` name the first item with the same text, as the live cache knew it. Workers share that
cache: the item whose text was computed first is the first, though another partition may publish its signal later. A
backlog is processed in any order, whatever the times of its texts. So a first may lie ahead in the order of the view.

A first that the view does not hold precedes it where it was ingested long enough before the view begins, and the stage
was not processing a backlog by then.
"""

from earlybird.schemas.signal import Novelty, Signal

LIVE_US = 3_600_000_000
"""Longest delay from text to signal outside a backlog."""

_NEW = Novelty(cache_hit=False)


class NoveltyView:
    """Removes the novelty of signals whose first is not yet available in the view."""

    def __init__(self, begins_us: int | None) -> None:
        """`begins_us`: items ingested earlier were available before the view; None: none were."""
        self.taken_back = 0
        self._begins_us = begins_us
        self._available: set[str] = set()  # item keys

    def of(self, signal: Signal, available_us: int) -> Signal:
        """Return the next signal of the view, which becomes available there at this instant."""
        known = self._knows(signal, available_us)
        self._available.add(signal.item_key)
        if known:
            return signal
        self.taken_back += 1
        return signal.model_copy(update={"novelty": _NEW})

    def _knows(self, signal: Signal, available_us: int) -> bool:
        novelty = signal.novelty
        if novelty is None or (novelty.first_seen_us is None and novelty.dup_of is None):
            return True
        if not _ingested_by(novelty, available_us):
            return False
        return (novelty.dup_of or signal.item_key) in self._available or self._precedes(novelty, signal, available_us)

    def _precedes(self, novelty: Novelty, signal: Signal, available_us: int) -> bool:
        if self._begins_us is None or novelty.first_seen_us is None:
            return False
        return novelty.first_seen_us < self._begins_us and available_us - signal.ts.ingested_us <= LIVE_US


def in_view(signal: Signal, available_us: int) -> Signal:
    """Return one signal as a view without memory knows it.

    Novelty whose first was ingested later is removed.
    """
    novelty = signal.novelty
    if novelty is None or _ingested_by(novelty, available_us):
        return signal
    return signal.model_copy(update={"novelty": _NEW})


def _ingested_by(novelty: Novelty, available_us: int) -> bool:
    return novelty.first_seen_us is None or novelty.first_seen_us <= available_us
