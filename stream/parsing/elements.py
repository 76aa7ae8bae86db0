"""Splitting of a JSON array into the bytes of its elements, without parsing them.

One broken element must not take its neighbours with it, so only strings and brackets are looked at. Nothing recurses,
so neither the stack's depth nor the version of Python limits the number of elements in a record.
"""

import re

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_PLAIN = rb'[^"\[\]{}]++'
_FLAT = rb"(?:" + _PLAIN + rb"|" + _STRING + rb")*+"
_INNER = rb"(?:" + _PLAIN + rb"|" + _STRING + rb"|[\[{]" + _FLAT + rb"[\]}])*+"
_ELEMENT = rb"(?:" + _PLAIN + rb"|" + _STRING + rb"|[\[{]" + _INNER + rb"[\]}])*+"
# An object or array of up to three levels is one match, so that an item costs one turn of the loop. Possessive
# repetitions never backtrack: each byte is looked at a few times at most.
_MARK = re.compile(rb"[\[{]" + _ELEMENT + rb"[\]}]|" + _STRING + rb'|["\[\]{},]', re.DOTALL)
_BRACKET = re.compile(_STRING + rb'|["\[\]{}]', re.DOTALL)
_OPENING, _CLOSING = frozenset(b"[{"), frozenset(b"]}")
_COMMA, _QUOTE, _END = b',"]'
_WHITE_SPACE = b" \t\r\n"


class NotAnArray(ValueError):
    """Bytes that are not one complete JSON array; the message gives the reason."""


class TooManyElements(ValueError):
    """An array with more elements than allowed."""


def is_array(value: bytes) -> bool:
    """Return whether these bytes begin a JSON array."""
    return value.lstrip(_WHITE_SPACE)[:1] == b"["


def split(value: bytes, most: int) -> list[bytes]:
    """Split an array into its elements, in order.

    Returns at least one and at most `most`. Raises NotAnArray, TooManyElements.
    """
    parts: list[bytes] = []
    depth, start = 1, value.index(b"[") + 1
    for mark in _MARK.finditer(value, start):
        if mark.end() - mark.start() > 1:
            continue
        char = value[mark.start()]
        depth += (char in _OPENING) - (char in _CLOSING)
        if char == _QUOTE:
            raise NotAnArray("a string without its end")
        if depth == 0 or (depth == 1 and char == _COMMA):
            parts.append(value[start : mark.start()].strip(_WHITE_SPACE))
            start = mark.end()
            if len(parts) > most:
                raise TooManyElements(f"at most {most:,} elements allowed")
        if depth == 0:
            return _whole(parts, char, value[start:])
    raise NotAnArray("an array without its end")


def deeper_than(value: bytes, most: int) -> bool:
    """Return whether brackets are nested deeper than `most`."""
    depth = 0
    for mark in _BRACKET.finditer(value):
        if mark.end() - mark.start() > 1:
            continue
        char = value[mark.start()]
        depth += (char in _OPENING) - (char in _CLOSING)
        if depth > most:
            return True
        if char == _QUOTE:  # unterminated: searching on would read the rest again at each quote
            return False
    return False


def _whole(parts: list[bytes], end: int, rest: bytes) -> list[bytes]:
    if end != _END or rest.strip(_WHITE_SPACE):
        raise NotAnArray("something behind the array's end")
    if parts == [b""]:
        raise NotAnArray("an array without elements")
    if b"" in parts:
        raise NotAnArray("nothing between two commas")
    return parts
