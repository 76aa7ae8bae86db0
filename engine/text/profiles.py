"""Text profiles: how a text is cleaned before it is tokenised.

A profile is a list of declared steps, so that its hash covers every rule and every word: a model manifest names the
profile and the hash it was trained under, and an edited rule can no longer pass for the old one.

natural-v1  entities, a leading RT, links and handles; every word stays. What the bundled model was trained with.
paper-v1    the cleaning behind Table I of the ELBERT paper: lower case, no NLTK stop words, no bare punctuation.
finance-v1  as paper-v1, but words of negation, direction, comparison and quantity stay, numbers keep their sign, and
            what an agency adds to its copy (datelines, UPDATE 1-, "- Reuters") goes.
"""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from types import MappingProxyType
from typing import Any, Protocol

from engine.errors import ConfigError
from schemas.identity import canonical, sha256_hex


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
class Profile:
    """A named, versioned, hashed way to clean a text."""

    name: str
    steps: tuple[Step, ...] = field(repr=False)

    def clean(self, text: str) -> str:
        """The text as the model is to read it, perhaps empty. Pure; any str is allowed."""
        for step in self.steps:
            text = step(text)
        return text

    @cached_property
    def hash(self) -> str:
        """64 hex digits over the name, every rule and every word."""
        return sha256_hex(canonical([self.name, [step.describe() for step in self.steps]]))


def profile(name: str) -> Profile:
    """The profile of this name. Raises ConfigError."""
    if name not in PROFILES:
        raise ConfigError(f"text profile: one of {', '.join(PROFILES)} required, was {name!r}")
    return PROFILES[name]


def words(name: str) -> frozenset[str]:
    """A word list of this package, one word a line."""
    return frozenset(resources.files("engine.text").joinpath("words", name).read_text("utf-8").split())


def _replace(pattern: str, by: str = " ", flags: int = 0) -> Replace:
    return Replace(re.compile(pattern, flags), by)


LINKS = _replace(r"https?://\S*|https?…|\bhttp…|www\.\S+|\bpic\.twitter\.com\S*")
SPACES = _replace(r"\s+")
RETWEET = _replace(r"^RT\s+(@\w+:?)?\s*", "", re.IGNORECASE)

# NLTK's English list as it was in 2021 (179 words): the only common list that reproduces the paper's Table I.
NLTK = words("nltk-english-179.txt")
# Of that list, what turns a sentence round when it is missing. "won" (a contract) and "m" (million) stay as well.
KEPT = words("finance-kept.txt")

AGENCIES = (
    r"(?:dpa-)?AFX|AFP|AP|Reuters|RTRS|Thomson (?:Financial|Reuters)|Bloomberg(?: News)?|Dow Jones(?: Newswires)?|"
    r"PR ?Newswire|Business ?Wire|Globe ?Newswire|Marketwired|ACCESSWIRE|Newsfile Corp\.?|CNW|RTTNews|Benzinga|"
    r"MarketWatch|ADP ?news|Interfax|Xinhua|Kyodo|PTI|TASS|UPI|CNBC|Seeking Alpha|Financial Times|"
    r"(?:The )?Wall Street Journal|WSJ"
)

NATURAL = Profile(
    "natural-v1",
    (Unescape(), RETWEET, LINKS, _replace(r"(?<!\w)@\w+", "@user"), SPACES, Strip()),
)

PAPER = Profile(
    "paper-v1",
    (Unescape(), Lower(), LINKS, Tokens(re.compile("[a-z0-9]"), NLTK)),
)

FINANCE = Profile(
    "finance-v1",
    (
        Unescape(),
        LINKS,
        SPACES,
        Strip(),
        RETWEET,
        # BREAKING: / UPDATE 1- / WRAPUP 3- / REFILE-UPDATE 2-
        _replace(
            r"^(?:(?:BREAKING(?: NEWS)?|UPDATE|WRAPUP|REFILE|CORRECTED|ALERT|FLASH|URGENT|EXCLUSIVE|JUST IN)"
            r"(?: ?\d{1,2})? ?[-:–—] ?){1,3}",
            "",
        ),
        # HELSINKI (AFX) - / LONDON, Nov 20 (Reuters) - / (Reuters) - / NEW YORK, May 3 /PRNewswire/ --
        _replace(rf"^(?:[A-Z][^()/]{{0,60}}? ?)?[(/] ?(?:{AGENCIES}) ?[)/] ?[-–—:]{{1,2}} ?", ""),
        _replace(rf"(?: [-–—|] (?:{AGENCIES}))+$", ""),
        _replace(r"(?: (?:via|h/t) @\w+)+$", "", re.IGNORECASE),
        _replace(r"(?<!\w)@\w+:?"),
        SPACES,
        # "EUR13 .1 m" is one number, "- 5 %" is a loss; "3 - 5 %" is a range and keeps its dash apart.
        _replace(r"(?<=\d) (?=\.\d)", ""),
        _replace(r"(?<![\d%] )(?<!\S)([-+−]) (?=\d[\d.,]{0,20} ?%)", r"\1"),
        Tokens(re.compile(r"[^\W_]|[%$€£¥₹]"), NLTK - KEPT, edges=".,;:!?\"'()[]"),
    ),
)

PROFILES: Mapping[str, Profile] = MappingProxyType({each.name: each for each in (NATURAL, PAPER, FINANCE)})
