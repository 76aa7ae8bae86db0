"""Steps of text profiles: pure functions from text to text with full self-descriptions."""

import html
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol

_NUMBER = re.compile(r"&#(?=[0-9])0*+([0-9]*)")


def unescaped(text: str) -> str:
    """Replace HTML entities by their characters, for any text."""
    try:
        return html.unescape(text)
    except ValueError:  # int() refuses thousands of digits; a number of eight names no character either
        return html.unescape(_NUMBER.sub(lambda number: f"&#{number[1][:8] or 0}", text))


class Step(Protocol):
    """One rule of a profile: a pure function with a full description of itself."""

    def __call__(self, text: str) -> str: ...

    def describe(self) -> Any:
        """Return everything that changes the result, as JSON without floats."""


@dataclass(frozen=True)
class Unescape:
    """Replacement of HTML entities by their characters."""

    def __call__(self, text: str) -> str:
        return unescaped(text)

    def describe(self) -> Any:
        return "unescape"


@dataclass(frozen=True)
class UnescapeNested:
    """Replacement of HTML entities by their characters, also where they were escaped several times."""

    rounds: int

    def __call__(self, text: str) -> str:
        for _ in range(self.rounds):
            if "&" not in text:
                break
            text = unescaped(text)
        return text

    def describe(self) -> Any:
        return ["unescape_nested", self.rounds]


@dataclass(frozen=True)
class UnescapeJson:
    """Replacement of escapes like \\u2019, left over from double JSON encoding, by their characters.

    Unpaired surrogates become U+FFFD.
    """

    PATTERN = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")

    def __call__(self, text: str) -> str:
        return self.PATTERN.sub(self._characters, text) if "\\u" in text else text

    def _characters(self, escapes: re.Match[str]) -> str:
        units = bytes.fromhex(escapes[0].replace("\\u", ""))
        return units.decode("utf-16-be", "replace")

    def describe(self) -> Any:
        return ["unescape_json", self.PATTERN.pattern]


@dataclass(frozen=True)
class Lower:
    """Conversion to lower case."""

    def __call__(self, text: str) -> str:
        return text.lower()

    def describe(self) -> Any:
        return "lower"


@dataclass(frozen=True)
class Strip:
    """Removal of white space at both ends."""

    def __call__(self, text: str) -> str:
        return text.strip()

    def describe(self) -> Any:
        return "strip"


@dataclass(frozen=True)
class Replace:
    """Replacement of every match of a pattern by a fixed text.

    Patterns must match in linear time, because feeds are untrusted. `possible` is a faster test that holds for every
    text which the step changes; most headlines fail it.
    """

    pattern: re.Pattern[str]
    by: str
    possible: Callable[[str], bool] | None = None

    def __call__(self, text: str) -> str:
        return text if self.possible and not self.possible(text) else self.pattern.sub(self.by, text)

    def describe(self) -> Any:
        return ["replace", self.pattern.pattern, self.pattern.flags, self.by]


@dataclass(frozen=True)
class Trailing:
    """Removal of the consecutive matches of a pattern at the end of a text.

    Does what replacing `(?:pattern)+$` does, which takes quadratic time where many matches precede other text. A match
    begins with a space and holds at most five.
    """

    pattern: re.Pattern[str]

    def __call__(self, text: str) -> str:
        end = len(text)
        while (start := self._start(text, end)) is not None:
            end = start
        return text[:end]

    def _start(self, text: str, end: int) -> int | None:
        start = end
        for _ in range(5):
            if (start := text.rfind(" ", 0, start)) < 0:
                return None
            if self.pattern.fullmatch(text, start, end):
                return start
        return None

    def describe(self) -> Any:
        return ["replace", f"(?:{self.pattern.pattern})+$", self.pattern.flags, ""]


@dataclass(frozen=True)
class Translate:
    """Replacement of single characters by fixed texts; `among` is a character class of them all."""

    among: re.Pattern[str]
    table: Mapping[str, str] = field(repr=False)

    def __call__(self, text: str) -> str:
        # str.translate would look up every character, and few are in the table.
        return self.among.sub(lambda found: self.table.get(found[0], found[0]), text)

    def describe(self) -> Any:
        return ["translate", self.among.pattern, sorted(self.table.items())]


@dataclass(frozen=True)
class Compose:
    """Composition of letters and combining accents into one character (Unicode NFC)."""

    RUN = re.compile("[\u0300-\U0010ffff]{100,}+")  # no combining character lies below

    def __call__(self, text: str) -> str:
        return unicodedata.normalize("NFC", self.RUN.sub(self._ordered, text))

    @staticmethod
    def _ordered(run: re.Match[str]) -> str:
        """Return an equivalent of the run in canonical order, which unicodedata sorts in quadratic time."""
        single = "".join(unicodedata.normalize("NFD", char) for char in run[0])
        return "".join(
            "".join(sorted(chars, key=unicodedata.combining) if combining else chars)
            for combining, chars in groupby(single, key=lambda char: unicodedata.combining(char) > 0)
        )

    def describe(self) -> Any:
        return "nfc"


@dataclass(frozen=True)
class BeyondAscii:
    """Steps that leave ASCII text unchanged and are skipped for it, as for most headlines."""

    steps: tuple[Step, ...]

    def __call__(self, text: str) -> str:
        if text.isascii():
            return text
        for step in self.steps:
            text = step(text)
        return text

    def describe(self) -> Any:
        return ["beyond_ascii", [step.describe() for step in self.steps]]


@dataclass(frozen=True)
class Tokens:
    """Filter that keeps tokens that match `meaningful` and are no stop words.

    Tokens are split at white space; the stop word test ignores case and characters in `edges`.
    """

    meaningful: re.Pattern[str]
    stop_words: frozenset[str] = field(repr=False)
    edges: str = ""

    def __call__(self, text: str) -> str:
        return " ".join(token for token in text.split() if self._stays(token))

    def _stays(self, token: str) -> bool:
        return bool(self.meaningful.search(token)) and self._bare(token).lower() not in self.stop_words

    def _bare(self, token: str) -> str:
        return token.strip(self.edges) if self.edges else token

    def describe(self) -> Any:
        return ["tokens", self.meaningful.pattern, self.meaningful.flags, sorted(self.stop_words), self.edges]


@dataclass(frozen=True)
class BareTokens:
    """Filter that strips `edges` from tokens and keeps the meaningful ones without stop words.

    Tokens are split at white space; a meaningful one matches `meaningful`.
    """

    meaningful: re.Pattern[str]
    stop_words: frozenset[str] = field(repr=False)
    edges: re.Pattern[str]

    def __call__(self, text: str) -> str:
        bare = (self.edges.sub("", token) for token in text.split())
        return " ".join(token for token in bare if self._stays(token))

    def _stays(self, token: str) -> bool:
        return bool(self.meaningful.search(token)) and token.lower() not in self.stop_words

    def describe(self) -> Any:
        patterns = [[each.pattern, each.flags] for each in (self.meaningful, self.edges)]
        return ["bare_tokens", patterns, sorted(self.stop_words)]


def replace(pattern: str, by: str = " ", flags: int = 0, possible: Callable[[str], bool] | None = None) -> Replace:
    """Build a Replace step from a pattern's text."""
    return Replace(re.compile(pattern, flags), by, possible)
