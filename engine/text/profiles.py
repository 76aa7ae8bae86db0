"""Text profiles: how a text is cleaned before it is tokenised.

A profile is a list of declared steps, so that its hash covers every rule and every word. A model manifest names the
profile and the hash it was trained under, so an edited rule cannot pass for the old one.

natural-v1  entities, a leading RT, links and handles; every word stays.
natural-v2  as natural-v1, with feed damage repaired: nested escapes, mojibake, styled letters, invisible characters,
            minus signs. Equal to natural-v1 on undamaged text.
natural-v3  as natural-v2, with words for common emoji and for which of two compared amounts is larger. Profile of the
            bundled model.
paper-v1    the cleaning behind Table I of the ELBERT paper, for text with spaces around its punctuation: lower case,
            no NLTK stop words, no bare punctuation.
paper-v2    as paper-v1, for any text: punctuation at the edges of words is removed, too.
finance-v1  as paper-v1, but words of negation, direction, comparison and quantity stay, numbers keep their sign, and
            agencies' additions (datelines, UPDATE 1-, "- Reuters") are removed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from types import MappingProxyType

from earlybird.engine.errors import ConfigError
from earlybird.engine.text.characters import CHARACTERS
from earlybird.engine.text.comparison import Comparison
from earlybird.engine.text.steps import (
    BareTokens,
    BeyondAscii,
    Lower,
    Step,
    Strip,
    Tokens,
    Trailing,
    Translate,
    Unescape,
    UnescapeJson,
    UnescapeNested,
    replace,
)
from earlybird.schemas.identity import canonical, sha256_hex


@dataclass(frozen=True)
class Profile:
    """A named, versioned, hashed sequence of text cleaning steps."""

    name: str
    steps: tuple[Step, ...] = field(repr=False)

    def clean(self, text: str) -> str:
        """Return the text as the model reads it, perhaps empty; pure, accepts any str."""
        for step in self.steps:
            text = step(text)
        return text

    @cached_property
    def hash(self) -> str:
        """64 hex digits over the name, every rule and every word."""
        return sha256_hex(canonical([self.name, [step.describe() for step in self.steps]]))


def profile(name: str) -> Profile:
    """Return the profile of this name; raises ConfigError."""
    if name not in PROFILES:
        raise ConfigError(f"text profile: one of {', '.join(PROFILES)} required, was {name!r}")
    return PROFILES[name]


def words(name: str) -> frozenset[str]:
    """Load a word list of this package, one word per line."""
    return frozenset(resources.files("earlybird.engine.text").joinpath("words", name).read_text("utf-8").split())


def emoji() -> Step:
    """Return the replacement of common emoji by words.

    The words are those of the list emoji.txt; skin tones become nothing.
    """
    lines = resources.files("earlybird.engine.text").joinpath("words", "emoji.txt").read_text("utf-8").splitlines()
    table = {line[0]: f" {line[2:]} " for line in lines} | dict.fromkeys(map(chr, range(0x1F3FB, 0x1F400)), "")
    return BeyondAscii((Translate(re.compile(f"[{''.join(table)}]"), table),))


def _may_hold_links(text: str) -> bool:
    return "http" in text or "www." in text or "pic.twitter.com" in text


def _may_hold_handles(text: str) -> bool:
    return "@" in text


def _may_hold_other_than_single_spaces(text: str) -> bool:
    return "  " in text or not text.isprintable()  # a space is the only printable white space


LINKS = replace(
    r"https?://\S*|https?…|\bhttp…|www\.\S+|\bpic\.twitter\.com\S*",
    possible=_may_hold_links,
)
SPACES = replace(r"\s+", possible=_may_hold_other_than_single_spaces)
RETWEET = replace(r"^RT\s+(@\w+:?)?\s*", "", re.IGNORECASE)
HANDLES = replace(r"(?<!\w)@\w+", "@user", possible=_may_hold_handles)

# NLTK's English list of 2021 (179 words) is the only common list that reproduces the paper's Table I.
NLTK = words("nltk-english-179.txt")
# Words of that list that reverse a sentence when they are missing. "won" (a contract) and "m" (million) stay as well.
KEPT = words("finance-kept.txt")

AGENCIES = (
    r"(?:dpa-)?AFX|AFP|AP|Reuters|RTRS|Thomson (?:Financial|Reuters)|Bloomberg(?: News)?|Dow Jones(?: Newswires)?|"
    r"PR ?Newswire|Business ?Wire|Globe ?Newswire|Marketwired|ACCESSWIRE|Newsfile Corp\.?|CNW|RTTNews|Benzinga|"
    r"MarketWatch|ADP ?news|Interfax|Xinhua|Kyodo|PTI|TASS|UPI|CNBC|Seeking Alpha|Financial Times|"
    r"(?:The )?Wall Street Journal|WSJ"
)

NATURAL = Profile(
    "natural-v1",
    (Unescape(), RETWEET, LINKS, HANDLES, SPACES, Strip()),
)

NATURAL_2 = Profile(
    "natural-v2",
    (UnescapeJson(), UnescapeNested(3), CHARACTERS, Strip(), RETWEET, LINKS, HANDLES, SPACES, Strip()),
)

NATURAL_3 = Profile("natural-v3", (*NATURAL_2.steps, emoji(), SPACES, Strip(), Comparison()))

PAPER = Profile(
    "paper-v1",
    (Unescape(), Lower(), LINKS, Tokens(re.compile("[a-z0-9]"), NLTK)),
)

# ".5" and "-5" keep their point and sign; "'s" is a word in the paper's Table I.
_MARKS = r",;:!?\"“”()\[\]…"
EDGES = re.compile(rf"^(?:[{_MARKS}]|\.(?!\d))+|(?<![.{_MARKS}])[.{_MARKS}]+$")

PAPER_2 = Profile(
    "paper-v2",
    (UnescapeNested(3), CHARACTERS, Lower(), LINKS, BareTokens(re.compile("[a-z0-9]"), NLTK, EDGES)),
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
        replace(
            r"^(?:(?:BREAKING(?: NEWS)?|UPDATE|WRAPUP|REFILE|CORRECTED|ALERT|FLASH|URGENT|EXCLUSIVE|JUST IN)"
            r"(?: ?\d{1,2})? ?[-:–—] ?){1,3}",
            "",
        ),
        # HELSINKI (AFX) - / LONDON, Nov 20 (Reuters) - / (Reuters) - / NEW YORK, May 3 /PRNewswire/ --
        replace(rf"^(?:[A-Z][^()/]{{0,60}}? ?)?[(/] ?(?:{AGENCIES}) ?[)/] ?[-–—:]{{1,2}} ?", ""),
        Trailing(re.compile(rf" [-–—|] (?:{AGENCIES})")),
        Trailing(re.compile(r" (?:via|h/t) @\w+", re.IGNORECASE)),
        replace(r"(?<!\w)@\w+:?"),
        SPACES,
        # "EUR13 .1 m" is one number, "- 5 %" is a loss; "3 - 5 %" is a range, so its dash stays separate.
        replace(r"(?<=\d) (?=\.\d)", ""),
        replace(r"(?<![\d%] )(?<!\S)([-+−]) (?=\d[\d.,]{0,20} ?%)", r"\1"),
        Tokens(re.compile(r"[^\W_]|[%$€£¥₹]"), NLTK - KEPT, edges=".,;:!?\"'()[]"),
    ),
)

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {each.name: each for each in (NATURAL, NATURAL_2, NATURAL_3, PAPER, PAPER_2, FINANCE)}
)
