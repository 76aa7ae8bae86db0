"""Assembly rules: how an item's parts become the text that a model reads.

A rule is named and versioned, part of a model's manifest and of a configuration's hash. A rule that feeds the model
anything else needs a new name, so that recorded signals stay reproducible under the old one.

parts-v1  headline, summary and start of the body, each cleaned; a part's beginning is dropped where it repeats an
          earlier part; joined into sentences until the model is full. Markup is read where the item declares it,
          after the first part that is not empty, and within its first 512 characters per token.
parts-v2  as parts-v1, but a repeated beginning ends where a word ends and takes no sign or decimal point off a number;
          markup is read wherever it stands, escaped or not, as far as the model has room; embedded data is dropped.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from earlybird.engine.errors import ConfigError
from earlybird.engine.text import markup
from earlybird.engine.text.steps import unescaped

# Relevant tokens are shorter on average, so this many characters per token fill the model. The rest of a 10 MB body is
# never touched.
CLEAN_CHARACTERS_PER_TOKEN = 16
RAW_CHARACTERS_PER_TOKEN = 64  # cleaning removes links, handles and white space
HTML_CHARACTERS_PER_TOKEN = 512  # parts-v1: tags, scripts and styles are removed, too


@dataclass(frozen=True, slots=True)
class Text:
    """One item's text parts, most important first: the headline, perhaps empty, then the rest.

    `html`: the parts after the headline are markup.
    """

    parts: tuple[str, ...]
    html: bool = False


class Assembly(Protocol):
    """A named assembly rule; pure, may be shared between threads."""

    @property
    def name(self) -> str:
        """The name that manifests use."""

    def parts(self, text: Text) -> list[tuple[str, bool]]:
        """Return the parts to read, in order, each with whether it is declared as markup."""

    def read(self, part: str, is_markup: bool, max_tokens: int) -> tuple[str, bool]:
        """Return a part as plain text, and whether something was left out.

        The text has at most 64 characters per token.
        """

    def without_repeats(self, part: str, taken: Sequence[str]) -> str:
        """Drop the beginning of a cleaned part that repeats an earlier part."""

    def describe(self) -> dict[str, Any]:
        """Return the rule's entry in a configuration's hash."""


@dataclass(frozen=True, slots=True)
class PartsV1:
    """The rule parts-v1, see the module's docstring."""

    name: str = "parts-v1"

    def parts(self, text: Text) -> list[tuple[str, bool]]:
        found = [part for part in text.parts if part]
        return [(part, text.html and number > 0) for number, part in enumerate(found)]

    def read(self, part: str, is_markup: bool, max_tokens: int) -> tuple[str, bool]:
        cut = False
        if is_markup:
            widest = HTML_CHARACTERS_PER_TOKEN * max_tokens
            cut = len(part) > widest
            part = markup.to_text(part[:widest])
        return _capped(part, RAW_CHARACTERS_PER_TOKEN * max_tokens, cut)

    def without_repeats(self, part: str, taken: Sequence[str]) -> str:
        for earlier in taken:
            head, rest = part[: len(earlier)], part[len(earlier) :]
            if head.casefold() == earlier.casefold() and not rest[:1].isalnum():
                part = rest.lstrip(" .,:;|-–—")
        return part

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "clean_characters_per_token": CLEAN_CHARACTERS_PER_TOKEN,
            "raw_characters_per_token": RAW_CHARACTERS_PER_TOKEN,
            "html_characters_per_token": HTML_CHARACTERS_PER_TOKEN,
        }


# A feed may escape its markup, even twice.
_ROUNDS = 3

# Long runs of letters and digits, perhaps in lines: an image or a key in base64, no word of any language. The
# quantifiers are possessive, so that matching is linear.
_DATA = re.compile(r"(?:data:[\w.+/-]++;base64,)?+(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{64,}+(?:\s++[A-Za-z0-9+/]{64,}+)*+=*")
_LONG_WORD = 64

# Where a repeated beginning may end: at white space, at marks that end a word, before a new sentence.
_BOUNDARY = re.compile(r"\s|\Z|[.,:;!?|)\]\"'”’…]+(?:\s|\Z)|[.:;!?|](?=[A-Z])|[–—](?!\d)")
# Separators to drop after a repeated beginning. A sign, point or comma before a number belongs to the number.
_SEPARATORS = re.compile(r"(?:[\s:;|!?…]|[.,](?![$€£¥]?\d)|[-–—](?!\s?[$€£¥]?[.,]?\d))*")


@dataclass(frozen=True, slots=True)
class PartsV2:
    """The rule parts-v2, see the module's docstring."""

    name: str = "parts-v2"

    def parts(self, text: Text) -> list[tuple[str, bool]]:
        return [(part, text.html and number > 0) for number, part in enumerate(text.parts)]

    def read(self, part: str, is_markup: bool, max_tokens: int) -> tuple[str, bool]:
        limit, cut = RAW_CHARACTERS_PER_TOKEN * max_tokens, False
        for _ in range(_ROUNDS):
            if is_markup or markup.seems(part, limit):
                part, left_out = markup.read(part, limit)
                cut, is_markup = cut or left_out, False
            if not markup.is_escaped(part, limit):
                break
            part = unescaped(part)
        if max(map(len, part[:limit].split()), default=0) >= _LONG_WORD:
            part = _DATA.sub(" ", part)
        return _capped(part, limit, cut)

    def without_repeats(self, part: str, taken: Sequence[str]) -> str:
        for earlier in taken:
            head, rest = part[: len(earlier)], part[len(earlier) :]
            if head.casefold() == earlier.casefold() and _BOUNDARY.match(rest):
                part = _SEPARATORS.sub("", rest, count=1)
        return part

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "clean_characters_per_token": CLEAN_CHARACTERS_PER_TOKEN,
            "raw_characters_per_token": RAW_CHARACTERS_PER_TOKEN,
        }


ASSEMBLIES: Mapping[str, Assembly] = MappingProxyType({each.name: each for each in (PartsV1(), PartsV2())})


def assembly(name: str) -> Assembly:
    """Return the rule of this name; raises ConfigError."""
    if name not in ASSEMBLIES:
        raise ConfigError(f"assembly rule: one of {', '.join(ASSEMBLIES)} required, was {name!r}")
    return ASSEMBLIES[name]


def joined(whole: str, part: str) -> str:
    """Join two texts as sentences."""
    if not whole:
        return part
    return f"{whole}. {part}" if whole[-1].isalnum() else f"{whole} {part}"


def shortened(text: str, limit: int) -> str:
    """Cut a longer text to at most `limit` characters, preferably between words.

    A cut word is dropped where a space is near.
    """
    cut = text[:limit]
    if text[limit].isspace():
        return cut
    head, space, tail = cut.rpartition(" ")
    return head if space and len(tail) < 100 else cut


def _capped(part: str, limit: int, cut: bool) -> tuple[str, bool]:
    return (shortened(part, limit), True) if len(part) > limit else (part, cut)
