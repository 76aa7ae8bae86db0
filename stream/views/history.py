"""History of one item: all of its signals, and what stood when. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

from earlybird.schemas.order import Versions, same_result
from earlybird.stream.views.mention import Mention

LARGEST = 64
"""Signals kept of one item; of more, the earliest that no longer stand are forgotten."""


class State(NamedTuple):
    """What stood of an item from an instant on; None: nothing."""

    since_us: int
    mention: Mention | None


class History:
    """The signals of one item, as a set.

    Adding is idempotent, and the order of arrival changes nothing: what stood when follows from the availability of
    each signal alone. Not thread-safe.
    """

    __slots__ = ("_mentions", "_states")

    def __init__(self, mentions: Iterable[Mention] = ()) -> None:
        self._mentions: tuple[Mention, ...] = ()
        self._states: tuple[State, ...] = ()
        self.add(mentions)

    @property
    def mentions(self) -> tuple[Mention, ...]:
        """Its signals in the order of availability, without copies that tell nothing."""
        return self._mentions

    @property
    def symbols(self) -> frozenset[str]:
        """Symbols that any of its signals names: all that a retraction concerns."""
        return frozenset(symbol for mention in self._mentions for symbol in mention.symbols)

    @property
    def states(self) -> tuple[State, ...]:
        """Its states by the instant from which each stood, ascending."""
        return self._states

    @property
    def changed_us(self) -> int:
        """Instant of the last signal that it knows; 0 without any."""
        return self._mentions[-1].available_us if self._mentions else 0

    def add(self, mentions: Iterable[Mention]) -> bool:
        """Add signals; return whether any told something new."""
        known = self._mentions
        for mention in mentions:
            known = _with(known, mention)
        if known is self._mentions:
            return False
        self._mentions = tuple(sorted(known, key=_arrival))
        self._states = _states(self._mentions)
        if len(self._mentions) > LARGEST:
            self._shorten()
        return True

    def at(self, as_of_us: int) -> State | None:
        """Return what stood at an instant; None before its first signal."""
        for state in reversed(self._states):
            if state.since_us <= as_of_us:
                return state
        return None

    def _shorten(self) -> None:
        last = self._states[-1].mention if self._states else None
        while len(self._mentions) > LARGEST:
            at = next(number for number, mention in enumerate(self._mentions) if mention is not last)
            self._mentions = self._mentions[:at] + self._mentions[at + 1 :]
        self._states = _states(self._mentions)


def _with(known: tuple[Mention, ...], mention: Mention) -> tuple[Mention, ...]:
    """Return the set with a signal; the same object where that tells nothing.

    A signal published twice counts as available when its first copy was.
    """
    if any(_tells_as_much(one, mention) for one in known):
        return known
    return (*(one for one in known if not _tells_as_much(mention, one)), mention)


def _tells_as_much(one: Mention, other: Mention) -> bool:
    if not same_result(one, other) or (one.refused, one.revision_kind) != (other.refused, other.revision_kind):
        return False
    return one.available_us <= other.available_us and one.ts.emitted_us <= other.ts.emitted_us


def _arrival(mention: Mention) -> tuple[int, str, int, int, int, int, int, str, str, str]:
    raw = mention.raw
    place = (raw.topic, raw.partition, raw.offset, raw.index)
    told = (mention.revision, mention.ts.emitted_us, mention.digest, mention.refused or "", mention.revision_kind or "")
    return (mention.available_us, *place, *told)


def _states(mentions: tuple[Mention, ...]) -> tuple[State, ...]:
    """Fold signals in the order of availability."""
    versions, states = Versions[Mention](), list[State]()
    for mention in mentions:
        versions.add(mention)
        stands = versions.standing()
        before = states[-1].mention if states else None
        if same_result(before, stands):
            continue
        if states and states[-1].since_us == mention.available_us:
            states.pop()  # it stood for no time at all
        states.append(State(mention.available_us, stands))
    return tuple(states)
