"""The lines of a feed's file, numbered: one JSON object each, or the objects of a pretty-printed document."""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain

Numbered = tuple[int, bytes]

_BOM = b"\xef\xbb\xbf"
_OPENING = re.compile(rb"\s*[\[{][\[{\s]*")  # brackets alone: an object on one line does not begin so
_BETWEEN = re.compile(r"[\s,\[\]]*")  # the objects of a document, of an array or of several


def feed_lines(lines: Iterable[bytes]) -> Iterator[Numbered]:
    """Number and content of each line; blank lines and the mark that some programs put before UTF-8 are left out.

    A file that begins with brackets alone is pretty-printed: each of its objects is given as one line, numbered as it
    begins. From where that is no JSON any more, its lines are given as they are.
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


def _document(lines: Iterator[Numbered]) -> Iterator[Numbered]:
    """Ends at what is no JSON, with the lines that were taken for it."""
    held: list[Numbered] = []
    enough = 1  # doubled while an object goes on, so that a large one is not read again at each of its lines
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


def _objects(held: list[Numbered]) -> tuple[list[Numbered], list[Numbered], bool]:
    """The objects that end within these lines, the lines of what goes on, and whether that can be JSON no more."""
    text = b"".join(line for _, line in held).decode("utf-8", "surrogateescape")
    found: list[Numbered] = []
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
            going_on = error.pos >= len(text.rstrip())  # at the end of a line, where strings and numbers are over
            return found, _lines(text[begin:], number), not going_on
        compact = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        found.append((number, compact.encode("utf-8", "surrogateescape")))
        number += text.count("\n", begin, at)


def _end_of(match: re.Match[str] | None, otherwise: int) -> int:
    return otherwise if match is None else match.end()


def _lines(text: str, first: int) -> list[Numbered]:
    lines = text.encode("utf-8", "surrogateescape").splitlines(keepends=True)
    return list(enumerate(lines, first))
