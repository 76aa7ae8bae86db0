"""Codec for a commit's metadata: finished offsets, and attempts at the first unfinished one.

Layout of the text: `eb2`, then 15 bits per character from U+4E00 on. The broker limits metadata to 4,095 characters,
not bytes, so a character outside ASCII carries more than base64's 6 bits: 7.6 KB in all. The bits are a codec byte, a
byte with the attempts, a CRC-32 over base offset, attempts and body, and the body: the shortest of a bitset, run
lengths and deltas, plain or deflated. All offsets are relative to the committed offset, which enters the checksum: a
map never fits another commit.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from earlybird.stream.ports import Commit

LONGEST_TEXT = 4_095 - 29  # the rest of the metadata names the topic
WIDEST_SPAN = 1 << 20  # far above what Budget.max_span allows; bounds the memory a corrupt map can claim

_MAGIC = "eb2"
_FIRST_CHARACTER = 0x4E00  # 32,768 code points from here stay below the surrogates
_BITS = 15
_BITSET, _RUNS, _DELTAS, _DEFLATED = 0, 1, 2, 4


class Metadata(NamedTuple):
    """Content of a commit's metadata."""

    finished: frozenset[int] = frozenset()  # offsets above the committed one
    attempts: int = 0  # starts with the committed offset as the first unfinished one, none of which came further


class UnusableMap(ValueError):
    """Metadata that is no map for this commit.

    `reason` is foreign (not written by earlybird) or corrupt (which includes a map of another base offset).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"commit metadata is not usable: {reason}")
        self.reason = reason


def encode(base: int, finished: Sequence[int], attempts: int = 0) -> str | None:
    """Encode finished offsets and attempts (at most 255) as text; None if it cannot fit.

    `finished` is ascending, `base` is the committed offset. Returns "" for no offsets and no attempts.
    """
    if not finished and not attempts:
        return ""
    relative = [offset - base for offset in finished]
    if relative and relative[-1] >= WIDEST_SPAN:
        return None
    bodies = [(_DELTAS, _varints(_deltas(relative)))]
    if relative:
        bodies += [(_BITSET, _bitset(relative)), (_RUNS, _varints(_runs(relative)))]
    bodies += [(codec | _DEFLATED, zlib.compress(body, 9)) for codec, body in bodies]
    codec, body = min(bodies, key=lambda candidate: len(candidate[1]))
    text = _MAGIC + _to_text(bytes([codec, attempts]) + _checksum(base, attempts, body) + body)
    return text if len(text) <= LONGEST_TEXT else None


def decode(base: int, text: str) -> Metadata:
    """Return the finished offsets above `base`, and the attempts. Raises only UnusableMap, on any text."""
    if not text:
        return Metadata()
    if not text.startswith(_MAGIC):
        raise UnusableMap("foreign")
    content = _from_text(text[len(_MAGIC) :])
    if len(content) < 6:
        raise UnusableMap("corrupt")
    codec, attempts, checksum, body = content[0], content[1], content[2:6], content[6:]
    if checksum != _checksum(base, attempts, body):
        raise UnusableMap("corrupt")
    try:
        if codec & _DEFLATED:
            body = zlib.decompressobj().decompress(body, WIDEST_SPAN)
        relative = _READERS[codec & ~_DEFLATED](body)
        return Metadata(frozenset(base + offset for offset in relative if offset < WIDEST_SPAN), attempts)
    except (zlib.error, LookupError, ValueError):
        raise UnusableMap("corrupt") from None


def finished_above(commit: Commit) -> frozenset[int]:
    """Return the offsets in a commit's map; none where it is unusable."""
    try:
        return decode(commit.offset, commit.metadata).finished
    except UnusableMap:
        return frozenset()


def _checksum(base: int, attempts: int, body: bytes) -> bytes:
    return zlib.crc32(body, zlib.crc32(base.to_bytes(8, "big") + bytes([attempts]))).to_bytes(4, "big")


def _runs(relative: Sequence[int]) -> Iterator[int]:
    """Yield alternating run lengths from the base on: unfinished, finished, unfinished ..."""
    position = start = 0
    for index, offset in enumerate(relative):
        if index == 0 or offset != relative[index - 1] + 1:
            if index:
                yield position - start
            yield offset - position
            start = offset
        position = offset + 1
    yield position - start


def _deltas(relative: Iterable[int]) -> Iterator[int]:
    before = -1
    for offset in relative:
        yield offset - before - 1
        before = offset


def _bitset(relative: Sequence[int]) -> bytes:
    bits = bytearray(relative[-1] // 8 + 1)
    for offset in relative:
        bits[offset >> 3] |= 1 << (offset & 7)
    return bytes(bits)


def _varints(numbers: Iterable[int]) -> bytes:
    content = bytearray()
    for number in numbers:
        while number > 0x7F:
            content.append(number & 0x7F | 0x80)
            number >>= 7
        content.append(number)
    return bytes(content)


def _read_varints(body: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in body:
        number |= (byte & 0x7F) << shift
        shift += 7
        if shift > 35:
            raise ValueError("number too long")
        if byte < 0x80:
            yield number
            number = shift = 0


def _read_bitset(body: bytes) -> Iterator[int]:
    for index, byte in enumerate(body):
        while byte:
            low = byte & -byte
            yield (index << 3) + low.bit_length() - 1
            byte ^= low


def _read_runs(body: bytes) -> Iterator[int]:
    position, finished = 0, False
    for length in _read_varints(body):
        if position + length > WIDEST_SPAN:
            raise ValueError("span too wide")
        if finished:
            yield from range(position, position + length)
        position += length
        finished = not finished


def _read_deltas(body: bytes) -> Iterator[int]:
    position = 0
    for gap in _read_varints(body):
        position += gap
        yield position
        position += 1


_READERS = {_BITSET: _read_bitset, _RUNS: _read_runs, _DELTAS: _read_deltas}


def _to_text(content: bytes) -> str:
    bits = format(int.from_bytes(b"\x01" + content, "big"), "b")  # the leading 1 keeps leading zeros
    bits = bits.zfill(-(-len(bits) // _BITS) * _BITS)
    return "".join(chr(_FIRST_CHARACTER + int(bits[at : at + _BITS], 2)) for at in range(0, len(bits), _BITS))


def _from_text(text: str) -> bytes:
    numbers = [ord(character) - _FIRST_CHARACTER for character in text[:LONGEST_TEXT]]
    if any(not 0 <= number < 1 << _BITS for number in numbers):
        raise UnusableMap("corrupt")
    number = int("".join(f"{number:015b}" for number in numbers) or "0", 2)
    content = number.to_bytes(-(-number.bit_length() // 8), "big")
    if content[:1] != b"\x01":
        raise UnusableMap("corrupt")
    return content[1:]
