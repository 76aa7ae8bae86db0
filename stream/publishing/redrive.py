"""Dead letters: choosing among them, and making raw records of them again. Pure."""

import base64
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from earlybird.schemas.codec import DecodeError, decode
from earlybird.schemas.identity import sha256_hex
from earlybird.schemas.rejection import Reason, Rejection
from earlybird.stream.parsing.elements import NotAnArray, TooManyElements, split
from earlybird.stream.ports import Outgoing, Partition, Record

REDRIVEN = "redriven"
"""Header: how often a record was redriven. The stage passes it on to the next dead letter."""

FROM = "redriven-from"
"""Header: topic/partition/offset of the dead letter that a record was made of."""

_MOST_ELEMENTS = 1_000_000

Obstacle = Literal["unreadable", "foreign", "cut", "tries", "repeated", "too_large"]
"""Why a dead letter is not redriven: `unreadable` is no dead letter; `foreign` its raw topic is not one of ours; `cut`
its original is not whole anywhere any more; `tries` it was redriven as often as allowed; `repeated` from this very dead
letter a record was made before; `too_large` its topic does not take it."""

OBSTACLES: dict[str, str] = {
    "unreadable": "not a dead letter of a known version",
    "foreign": "its raw topic is not in topics.raw",
    "cut": "neither the dead letter nor the raw topic holds the whole original",
    "tries": "redriven as often as --tries allows",
    "repeated": "this dead letter was redriven before",
    "too_large": "its topic does not take a record of this size",
}


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter at its place; without a rejection it cannot be read."""

    record: Record
    rejection: Rejection | None

    @classmethod
    def of(cls, record: Record) -> "Letter":
        """Read a record of the topic of dead letters."""
        try:
            return cls(record, decode(Rejection, record.value or b""))
        except DecodeError:
            return cls(record, None)

    @property
    def place(self) -> str:
        """Its place as people write it: partition/offset."""
        return f"{self.record.partition}/{self.record.offset}"

    @property
    def source(self) -> str | None:
        """Source of its item, from the item_key."""
        key = None if self.rejection is None else self.rejection.item_key
        return None if key is None else key.partition(":")[0]

    @property
    def whole(self) -> bool:
        """Whether it holds all of the refused bytes and of their key."""
        letter = self.rejection
        return letter is not None and letter.key_bytes is None and _same(letter, letter.original_value())

    @property
    def tries(self) -> int:
        """How often its record was redriven."""
        return _count(self.record.headers)

    @property
    def raw_place(self) -> tuple[Partition, int] | None:
        """Place of its raw record."""
        if self.rejection is None:
            return None
        raw = self.rejection.raw
        return Partition(raw.topic, raw.partition), raw.offset


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters; an empty part chooses all."""

    reasons: Collection[Reason] = ()
    sources: Collection[str] = ()
    topics: Collection[str] = ()
    places: Collection[str] = ()

    def chooses(self, letter: Letter) -> bool:
        """Return whether a dead letter passes every part."""
        told = letter.rejection
        if told is None:
            return not (self.reasons or self.sources or self.topics) and self._placed(letter)
        return (
            (not self.reasons or told.reason in self.reasons)
            and (not self.sources or letter.source in self.sources)
            and (not self.topics or told.raw.topic in self.topics)
            and self._placed(letter)
        )

    def _placed(self, letter: Letter) -> bool:
        return not self.places or letter.place in self.places


@dataclass(frozen=True, slots=True)
class Redrive:
    """What becomes of a dead letter: a record, or an obstacle.

    `headers_kept`: the raw record was still there, so all of its headers are kept, not its trace alone.
    """

    letter: Letter
    outgoing: Outgoing | None = None
    obstacle: Obstacle | None = None
    headers_kept: bool = False


def redrive(
    letter: Letter, raw: Record | None, *, topics: Collection[str], tries: int, done: Collection[str] = ()
) -> Redrive:
    """Make the raw record of a dead letter again.

    It is taken from the raw topic, else from the dead letter's copy.

    `raw` is what stands at the raw position now; it counts only where it holds the refused bytes, by their sha256.
    `done`: values of FROM that the raw topics hold already.
    """
    told = letter.rejection
    if told is None:
        return Redrive(letter, obstacle="unreadable")
    if told.raw.topic not in topics:
        return Redrive(letter, obstacle="foreign")
    origin = f"{letter.record.topic}/{letter.place}"
    if origin in done:
        return Redrive(letter, obstacle="repeated")
    found = None if raw is None else _refused_bytes(told, raw)
    genuine = raw if found is not None and found.same else None
    count = max(letter.tries, 0 if genuine is None else _count(genuine.headers))
    if count >= tries:
        return Redrive(letter, obstacle="tries")
    marks = ((REDRIVEN, str(count + 1).encode()), (FROM, origin.encode()))
    if genuine is not None:
        assert found is not None, "a genuine raw record without its bytes. This is a bug."
        headers = _kept(genuine.headers)
        outgoing = Outgoing(told.raw.topic, genuine.key, found.value, headers + marks)
        return Redrive(letter, outgoing, headers_kept=True)
    if not letter.whole:
        return Redrive(letter, obstacle="cut")
    key = None if told.key is None else base64.b64decode(told.key)
    trace = tuple(header for header in _kept(letter.record.headers) if header[0] in ("traceparent", "tracestate"))
    return Redrive(letter, Outgoing(told.raw.topic, key, told.original_value(), trace + marks))


def origins(records: Iterable[Record]) -> set[str]:
    """Return the dead letters that these raw records were made of."""
    return {
        (value or b"").decode("utf-8", "replace")
        for record in records
        for name, value in record.headers
        if name == FROM
    }


@dataclass(frozen=True, slots=True)
class _Found:
    value: bytes | None
    same: bool


def _refused_bytes(told: Rejection, raw: Record) -> _Found:
    value = raw.value
    if told.original_scope == "element":
        try:
            value = split(value or b"[]", _MOST_ELEMENTS)[told.raw.index]
        except (NotAnArray, TooManyElements, IndexError, ValueError):
            return _Found(None, same=False)
    return _Found(value, _same(told, value))


def _same(told: Rejection, value: bytes | None) -> bool:
    """Return whether these are all of the refused bytes, not their beginning."""
    if value is None:
        return told.original_sha256 is None and told.original_bytes == 0
    return len(value) == told.original_bytes and sha256_hex(value) == told.original_sha256


def _kept(headers: Sequence[tuple[str, bytes | None]]) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, value or b"") for name, value in headers if name not in (REDRIVEN, FROM))


def _count(headers: Sequence[tuple[str, bytes | None]]) -> int:
    """Return the count of REDRIVEN; anything else in it counts as 0."""
    counts = [
        int(value) for name, value in headers if name == REDRIVEN and value and value.isdigit() and len(value) < 4
    ]
    return max(counts, default=0)
