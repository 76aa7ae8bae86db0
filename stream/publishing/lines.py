"""Numbered lines of a feed file.

Each holds one JSON object; the objects of a pretty-printed document become one line each.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import IO


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line of a file that holds no record, and the reason."""

    why: str


Numbered = tuple[int, bytes | Unreadable]
"""A line's number, and its content."""

_Line = tuple[int, bytes]

LARGEST_DOCUMENT = 64 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_OPENING = re.compile(rb"\s*[\[{](.*[,:\[{])?\s*")  # the beginning of a value that goes on in the next line
_BETWEEN = re.compile(r"[\s,\[\]]*")  # separators between objects, in an array or without one


def feed_lines(lines: Iterable[bytes]) -> Iterator[_Line]:
    """Yield the number and content of each line.

    Blank lines and a UTF-8 byte order mark are left out. A file whose first line only begins a value is
    pretty-printed: each of its objects is yielded as one line, with the number of its first line. From where the
    document stops being JSON, lines are yielded as they are.
    """
    numbered = ((number, line.removeprefix(_BOM) if number == 1 else line) for number, line in enumerate(lines, 1))
    filled = ((number, line) for number, line in numbered if line.strip())
    first = next(filled, None)
    if first is None:
        return
    if _OPENING.fullmatch(first[1]):
        yield from _document(chain([first], numbered))
    else:
        yield first[0], first[1].strip()
    for number, line in filled:
        yield number, line.strip()


def whole(content: IO[bytes]) -> Iterator[Numbered]:
    """Yield a document, such as XML, as one line."""
    document = content.read(LARGEST_DOCUMENT + 1)
    yield 1, document if len(document) <= LARGEST_DOCUMENT else Unreadable(f"more than {LARGEST_DOCUMENT:,} bytes")


def _document(lines: Iterator[_Line]) -> Iterator[_Line]:
    """Yield the objects of a pretty-printed document.

    At invalid JSON it ends, after yielding the lines held back until then.
    """
    held: list[_Line] = []
    enough = 1  # doubled within an object, so that a large one is not parsed again at each line
    for line in lines:
        held.append(line)
        if len(held) < enough:
            continue
        found, held, broken = _objects(held)
        yield from found
        if broken:
            break
        enough = 2 * len(held) if held else 1
    found, held, _ = _objects(held)
    yield from found
    for number, content in held:
        if content.strip():
            yield number, content.strip()


def _objects(held: list[_Line]) -> tuple[list[_Line], list[_Line], bool]:
    """Return complete objects, the lines of the incomplete one, and whether it is broken.

    A broken object cannot become valid JSON by further lines.
    """
    text = b"".join(line for _, line in held).decode("utf-8", "surrogateescape")
    found: list[_Line] = []
    at, number = 0, held[0][0] if held else 0
    while True:
        begin = _end_of(_BETWEEN.match(text, at), at)
        number += text.count("\n", at, begin)
        if begin == len(text):
            return found, [], False
        try:
            value, at = json.JSONDecoder().raw_decode(text, begin)
        except RecursionError:
            return found, _lines(text[begin:], number), True
        except json.JSONDecodeError as error:
            going_on = error.pos >= len(text.rstrip())  # incomplete: the error is at the end of the text
            return found, _lines(text[begin:], number), not going_on
        compact = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        found.append((number, compact.encode("utf-8", "surrogateescape")))
        number += text.count("\n", begin, at)


def _end_of(match: re.Match[str] | None, otherwise: int) -> int:
    return otherwise if match is None else match.end()


def _lines(text: str, first: int) -> list[_Line]:
    lines = text.encode("utf-8", "surrogateescape").splitlines(keepends=True)
    return list(enumerate(lines, first))
