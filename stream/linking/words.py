"""Splits a text into words, so that a name is found as whole words only.

| written | words |
|---|---|
| `Apple's`, `APPLE’S` | `Apple` `'s`; in `O'Reilly` and `L'Oreal` the apostrophe is part of the word |
| `AT&T`, `J.P.`, `Amazon.com` | one word each, without a full stop at the end |
| `Apple-backed` | `Apple` `-` `backed`, where the hyphen tells what stands beside it (see Linker) |
| `@Apple`, `https://apple.example/Apple` | one word each, which no name equals |
| `$NVDA`, `#Apple`, `Apple, Inc.` | signs, commas and full stops between words are dropped |
| Chinese, Japanese and Korean | each character is a word, since no blanks separate them |

Every other mark is a word of its own, so no name reaches across it.
"""

import html
import re
import unicodedata

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"


def _pattern(letter: str, alone: str, flags: re.RegexFlag) -> re.Pattern[str]:
    """Return the pattern of a word: of these letters, or one that stands `alone`."""
    possessive = rf"'[sS](?!{letter})"
    word = rf"@?{letter}+(?:(?!{possessive})['.&@]{letter}+)*"
    return re.compile(rf"(?:https?://|www\.)\S+|{word}|{possessive}|(?<=\w)-(?=\w)|{alone}[^\w\s.,'!?$#*-]", flags)


_ASCII = _pattern(r"\w", "", re.ASCII)  # equal on ASCII, and faster
_ANY = _pattern(rf"[^\W{_CJK}]", f"[{_CJK}]|", re.UNICODE)
# Of all letters only the Turkish capital I with a dot changes its length in lower case.
_PLAIN = (("\u2018", "'"), ("\u2019", "'"), ("\u2010", "-"), ("\u2011", "-"), ("\u0130", "I"))


def split(text: str) -> list[str]:
    """Return the words and marks of a text, with their capitals; HTML entities are resolved."""
    if "&" in text:
        text = html.unescape(text)
    if text.isascii():
        return _ASCII.findall(text)
    text = unicodedata.normalize("NFC", text)
    for sign, plain in _PLAIN:  # several times as fast as str.translate
        text = text.replace(sign, plain)
    return _ANY.findall(text)


def framed(words: list[str]) -> str:
    """Join words so that each has a blank on both sides.

    Then a framed name occurs in a framed text only as whole words, and two names side by side share no character.
    """
    return f" {'  '.join(words)} " if words else ""


def unframed(part: str) -> list[str]:
    """Return the words of a framed part."""
    return part.split()
