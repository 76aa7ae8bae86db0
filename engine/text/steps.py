"""Steps of text profiles: pure functions from text to text that describe themselves in full."""

import html
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class Step(Protocol):
    """One rule of a profile: a pure function that can say in full what it does."""

    def __call__(self, text: str) -> str: ...

    def describe(self) -> Any:
        """Everything that changes the outcome, as JSON without floats."""


@dataclass(frozen=True)
class Unescape:
    """HTML entities to characters."""

    def __call__(self, text: str) -> str:
        return html.unescape(text)

    def describe(self) -> Any:
        return "unescape"


@dataclass(frozen=True)
class UnescapeNested:
    """HTML entities to characters, also where a feed escaped them several times."""

    rounds: int

    def __call__(self, text: str) -> str:
        for _ in range(self.rounds):
            if "&" not in text:
                break
            text = html.unescape(text)
        return text

    def describe(self) -> Any:
        return ["unescape_nested", self.rounds]


@dataclass(frozen=True)
class UnescapeJson:
    """Escapes like \\u2019, which are left where JSON was encoded twice, to characters; halves of pairs to U+FFFD."""

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
    """Lower case."""

    def __call__(self, text: str) -> str:
        return text.lower()

    def describe(self) -> Any:
        return "lower"


@dataclass(frozen=True)
class Strip:
    """No white space at either end."""

    def __call__(self, text: str) -> str:
        return text.strip()

    def describe(self) -> Any:
        return "strip"


@dataclass(frozen=True)
class Replace:
    """Every match of a pattern by a fixed text. Patterns must be linear in the text: feeds are hostile."""

    pattern: re.Pattern[str]
    by: str

    def __call__(self, text: str) -> str:
        return self.pattern.sub(self.by, text)

    def describe(self) -> Any:
        return ["replace", self.pattern.pattern, self.pattern.flags, self.by]


@dataclass(frozen=True)
class Translate:
    """Single characters by fixed texts; `among` is a class that holds them all."""

    among: re.Pattern[str]
    table: Mapping[str, str] = field(repr=False)

    def __call__(self, text: str) -> str:
        # Not str.translate: it looks up every character, and few are in the table.
        return self.among.sub(lambda found: self.table.get(found[0], found[0]), text)

    def describe(self) -> Any:
        return ["translate", self.among.pattern, sorted(self.table.items())]


@dataclass(frozen=True)
class Compose:
    """Letters and their combining accents as one character (Unicode NFC)."""

    def __call__(self, text: str) -> str:
        return unicodedata.normalize("NFC", text)

    def describe(self) -> Any:
        return "nfc"


@dataclass(frozen=True)
class BeyondAscii:
    """Steps that leave ASCII text as it is, and are skipped for it: most headlines."""

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
    """Keeps the white-space tokens that match `meaningful` and, stripped of `edges`, are no stop word in any case."""

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
    """White-space tokens without what `edges` matches, kept if they match `meaningful` and are no stop word."""

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


def replace(pattern: str, by: str = " ", flags: int = 0) -> Replace:
    """The step for a pattern's text."""
    return Replace(re.compile(pattern, flags), by)
