"""Assembly of MRN stories that come in fragments, with bounded memory.

Fragments of a story come in order, those of several stories mixed. A story that was not completed within a minute, or
whose fragments take too much room, is refused: it is never held for ever and never dropped without a word.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from earlybird.schemas.rejection import Reason
from earlybird.stream.feeds.base import Fields, Parsed, Refused, Result, Skipped
from earlybird.stream.feeds.frames import json_parser
from earlybird.stream.feeds.mrn import Fragment, fragment_of, message, parse, unpacked

LARGEST_HELD = 64 << 20  # bytes of all unfinished stories
LONGEST_WAIT_US = 60_000_000  # from a story's first fragment on


@dataclass(slots=True)
class _Story:
    """Fragments of one story so far."""

    size: int
    since_us: int
    parts: list[bytes] = field(default_factory=list)

    @property
    def got(self) -> int:
        return sum(map(len, self.parts))


class Assembler:
    """Parser that holds fragments until their story is complete. Not thread-safe: one per feed."""

    def __init__(self, largest_held: int = LARGEST_HELD) -> None:
        self._largest = largest_held
        self._open: OrderedDict[tuple[str, str], _Story] = OrderedDict()
        self._given_up: list[Refused] = []
        self._frames = json_parser(self._message)

    def __call__(self, value: bytes, received_us: int) -> Iterator[Parsed]:
        """Yield the results of one record, then a refusal per story given up."""
        yield from self._frames(value, received_us) if _may_hold_messages(value) else parse(value, received_us)
        for key in [key for key, held in self._open.items() if received_us - held.since_us > LONGEST_WAIT_US]:
            self._give_up(key, "its other fragments did not come")
        given_up, self._given_up = self._given_up, []
        yield from map(Parsed, given_up)

    @property
    def held(self) -> int:
        """Number of records whose content waits for more."""
        return sum(len(held.parts) for held in self._open.values())

    def rest(self) -> list[Parsed]:
        """Return a refusal for each story that was never completed."""
        for key in list(self._open):
            self._give_up(key, "the feed ended before its other fragments")
        given_up, self._given_up = self._given_up, []
        return list(map(Parsed, given_up))

    def _message(self, fields: Fields, received_us: int) -> Result:
        fragment = fragment_of(fields) if "Type" in fields else None
        if not isinstance(fragment, Fragment):
            return message(fields, received_us)
        if fragment.number == 1:
            return self._first(fragment, received_us)
        held = self._open.get(fragment.key)
        if held is None:
            return Refused(Reason.MALFORMED, f"fragment {fragment.number} of a story whose first one did not come")
        if fragment.number != len(held.parts) + 1:
            if fragment.number <= len(held.parts):
                return Skipped("repeated")
            self._give_up(fragment.key, f"fragment {fragment.number} came after {len(held.parts)}")
            return Skipped("fragment")
        held.parts.append(fragment.content)
        return self._whole(fragment.key, received_us)

    def _first(self, fragment: Fragment, received_us: int) -> Result:
        if fragment.key in self._open:
            return Skipped("repeated")
        if fragment.size is None or fragment.size > self._largest:
            return Refused(Reason.TOO_LARGE, f"TOT_SIZE: at most {self._largest} bytes held, was {fragment.size}")
        self._open[fragment.key] = _Story(fragment.size, received_us, [fragment.content])
        return self._whole(fragment.key, received_us)

    def _whole(self, key: tuple[str, str], received_us: int) -> Result:
        held = self._open[key]
        if held.got < held.size:
            while sum(other.got for other in self._open.values()) > self._largest:
                self._give_up(next(iter(self._open)), "no room for its fragments")
            return Skipped("fragment")
        del self._open[key]
        return unpacked(b"".join(held.parts), received_us)

    def _give_up(self, key: tuple[str, str], why: str) -> None:
        held = self._open.pop(key)
        detail = f"a story of {held.size:,} bytes of which {held.got:,} came: {why}"
        self._given_up.append(Refused(Reason.MALFORMED, detail))


def _may_hold_messages(value: bytes) -> bool:
    return b'"Type"' in value
