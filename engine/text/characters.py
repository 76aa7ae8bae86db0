"""Character repairs for text profiles: mojibake, compatibility forms, invisible characters, signs, emoji.

The rules are our own instead of ftfy's: a profile's hash must cover every rule, and must not change with the version of
a library.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from earlybird.engine.text.steps import BeyondAscii, Compose, Replace, Translate, replace


def _byte_table() -> Mapping[str, int]:
    """Map the Windows-1252 or Latin-1 readings of bytes 0x80 to 0xFF to their bytes."""
    table = {chr(byte): byte for byte in range(0x80, 0x100)}
    for byte in range(0x80, 0xA0):
        char = bytes([byte]).decode("cp1252", "ignore")
        if char:
            table[char] = byte
    return MappingProxyType(table)


BYTES = _byte_table()
_NEXT = "[" + re.escape("".join(sorted(char for char, byte in BYTES.items() if byte < 0xC0))) + "]"


_MAC = {"ô": "’", "ò": "‘", "ú": "“", "ù": "”", "ì": "–", "î": "—", "¶": "…"}  # the character after ‚Ä


@dataclass(frozen=True)
class Mojibake:
    """Decode UTF-8 that was read as Windows-1252, Latin-1 or Mac Roman.

    Repeats `rounds` times, since mojibake nests.

    Bounded to the contents of English feeds: Latin-1 letters and signs, punctuation and symbols (U+2000 to U+2FFF),
    emoji, the byte order mark. Their lead bytes with the right number of continuation bytes do not occur otherwise.
    """

    rounds: int

    SUSPECT = re.compile("[ÂÃâðï‚¬]")
    SEQUENCES = re.compile(f"[ÂÃ]{_NEXT}|â{_NEXT}{{2}}|ð[Ÿ\x9f]{_NEXT}{{2}}|ï»¿|ï¸\x8f")
    FURTHER: ClassVar[tuple[Replace, ...]] = (
        # The right double quotation mark is E2 80 9D; 9D is undefined in Windows-1252 and is often lost. The no-break
        # space of "Â " is often lost, too: it became a plain space.
        replace("â€", "”"),
        replace(r"Â(?=\s|\Z)", ""),
        *(replace(f"‚Ä{wrong}", right) for wrong, right in _MAC.items()),
        replace("‚Ç¨", "€"),
        replace("¬£", "£"),
    )

    def __call__(self, text: str) -> str:
        if not self.SUSPECT.search(text):
            return text
        for _ in range(self.rounds):
            text = self.SEQUENCES.sub(_decoded, text)
        for step in self.FURTHER:
            text = step(text)
        return text

    def describe(self) -> Any:
        patterns = [self.SUSPECT.pattern, self.SEQUENCES.pattern]
        return ["mojibake", patterns, self.rounds, [step.describe() for step in self.FURTHER]]


def _decoded(wrong: re.Match[str]) -> str:
    return bytes(BYTES[char] for char in wrong[0]).decode("utf-8")


# Subscripts, letter-like signs, Roman numerals, circled letters, ligatures, small and full-width forms, mathematical
# letters, squared letters, and two blocks of white letters on black.
_BLOCKS = (
    *((0x2080, 0x208E), (0x2100, 0x214F), (0x2160, 0x217F), (0x2460, 0x24FF), (0xFB00, 0xFB06), (0xFE50, 0xFE6B)),
    *((0xFF01, 0xFF5E), (0xFFE0, 0xFFE6), (0x1D400, 0x1D7FF), (0x1F130, 0x1F149)),
)
_ON_BLACK = ((0x1F150, 0x1F169), (0x1F170, 0x1F189))  # Unicode has no compatibility form for these


def _folded() -> Mapping[str, str]:
    """Map styled forms of ASCII characters (and four currencies) to the plain characters."""
    table = {}
    for first, last in _BLOCKS:
        for char in map(chr, range(first, last + 1)):
            plain = unicodedata.normalize("NFKC", char)
            if plain != char and (plain.isascii() or plain in "¢£¥₩") and plain not in _SPELLED_OUT:
                table[char] = plain
    for first, last in _ON_BLACK:
        table |= {chr(code): chr(ord("A") + code - first) for code in range(first, last + 1)}
    return MappingProxyType(table)


_SPELLED_OUT = frozenset({"TM", "SM", "TEL", "FAX", "No", "a/c", "a/s", "c/o", "c/u"})  # signs, not styled letters
FOLDED = _folded()
_STYLED = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in (*_BLOCKS, *_ON_BLACK)) + "]")

_CONTROLS = {chr(byte): char for char, byte in BYTES.items() if byte < 0xA0 and ord(char) >= 0xA0}

_AMOUNT = r"[$€£¥]?\.?\d"  # an amount, which a minus sign may precede

CHARACTERS = BeyondAscii(
    (
        Mojibake(rounds=2),
        Translate(re.compile("[\x80-\x9f]"), _CONTROLS),  # C1 controls: Windows-1252 read as Latin-1
        Translate(_STYLED, FOLDED),
        # Invisible: soft hyphens, zero-width characters, direction marks, variation selectors, keycaps, tags.
        replace(
            "[\x7f-\x9f\u00ad\u034f\u061c\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20e3\ufe00-\ufe0f\ufeff"
            "\ufff9-\ufffb\U000e0000-\U000e0fff]",
            "",
        ),
        replace("[\u115f\u1160\u2800\u3164\uffa0]"),  # blanks that Unicode does not count as white space
        replace(rf"[\u2010-\u2012\u2212](?=\s?{_AMOUNT})", "-"),
        replace(rf"–(?<![^\s(\[]–)(?={_AMOUNT})", "-"),  # "–3%" is a loss, "3–5%" is a range
        # Tokenizers know few emoji, and an emoji that touches a word makes the word unknown, too. So does "₹".
        replace("[₹\u2190-\u21ff\u2300-\u23ff\u2460-\u24ff\u2500-\u2bff\U0001f000-\U0001faff]+", r" \g<0> "),
        Compose(),
    )
)
