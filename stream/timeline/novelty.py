"""Novelty as a replayed view may know it: nothing names what is not yet available there. Pure.

`first_seen_us` and `dup_of` name the first item with the same text, as the live cache knew it. Workers share that
cache: the item whose text was computed first is the first, though another partition may publish its signal later; and a
backlog is worked off in any order, whenever its texts are from. In the order of a view such a first may lie ahead.

A first that the view does not hold precedes it where it was ingested long enough before the view begins, and the stage
was not working off a backlog by then.
"""

from earlybird.schemas.signal import Novelty, Signal

LIVE_US = 3_600_000_000
"""A signal that follows its text within this time was no part of a backlog."""

_NEW = Novelty(cache_hit=False)


class NoveltyView:
    """Takes back the novelty of signals whose first is not yet available in the view."""

    def __init__(self, begins_us: int | None) -> None:
        """`begins_us`: what was ingested earlier was available before the view begins; None: nothing was."""
        self.taken_back = 0
        self._begins_us = begins_us
        self._available: set[str] = set()  # item keys

    def of(self, signal: Signal, available_us: int) -> Signal:
        """The next signal in the order of the view, available there at this instant."""
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
    """One signal as a view knows it that remembers no others: without novelty whose first was ingested later."""
    novelty = signal.novelty
    if novelty is None or _ingested_by(novelty, available_us):
        return signal
    return signal.model_copy(update={"novelty": _NEW})


def _ingested_by(novelty: Novelty, available_us: int) -> bool:
    return novelty.first_seen_us is None or novelty.first_seen_us <= available_us
