"""Texts to token ids: assembled from their parts, cleaned by the profile, cut to what the model holds."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from engine.text import markup
from engine.text.profiles import Profile
from engine.text.tokenizer import Tokenizer

# No piece that matters is longer on average, so these many characters a token fill the model; what a 10 MB body holds
# beyond them is never touched.
CLEAN_CHARACTERS_PER_TOKEN = 16
RAW_CHARACTERS_PER_TOKEN = 64  # links, handles and white space go in cleaning
HTML_CHARACTERS_PER_TOKEN = 512  # and tags, scripts and styles before it

ASSEMBLY: dict[str, str | int] = {
    "name": "parts-v1",
    "clean_characters_per_token": CLEAN_CHARACTERS_PER_TOKEN,
    "raw_characters_per_token": RAW_CHARACTERS_PER_TOKEN,
    "html_characters_per_token": HTML_CHARACTERS_PER_TOKEN,
}
"""The assembly rule, part of a configuration's hash: headline, summary and start of the body, each cleaned, a part's
beginning dropped where it repeats an earlier part, joined into sentences until the model is full."""


@dataclass(frozen=True, slots=True)
class Text:
    """What one item says, most important part first. `html`: the parts after the first are markup."""

    parts: tuple[str, ...]
    html: bool = False


@dataclass(frozen=True, slots=True)
class Encoded:
    """One text as the model reads it."""

    token_ids: tuple[int, ...]  # special tokens included, at most max_tokens
    truncated: bool  # something was left out
    text_sha256: str  # of the cleaned, assembled text that was tokenised, UTF-8


@dataclass(frozen=True)
class TextEncoder:
    """Text -> token ids for one model. Pure; may be shared between threads."""

    profile: Profile
    tokenizer: Tokenizer
    max_tokens: int

    def encode(self, texts: Sequence[Text]) -> list[Encoded | None]:
        """One result a text, in order; None where the model would find nothing to read: no known piece is left after
        cleaning. Any str is allowed; NULs are spaces, lone surrogates the replacement character."""
        assembled = [self.assemble(text) for text in texts]
        batch = self.tokenizer.encode([whole for whole, _ in assembled])
        return [self._encoded(*each, ids) for each, ids in zip(assembled, batch, strict=True)]

    def assemble(self, text: Text) -> tuple[str, bool]:
        """The cleaned text in one piece, at most 16 characters a token, and whether anything was left out."""
        limit = CLEAN_CHARACTERS_PER_TOKEN * self.max_tokens
        whole, taken, truncated = "", list[str](), False
        for number, part in enumerate(text.parts):
            if len(whole) >= limit:
                truncated = truncated or bool(part.strip())
                continue
            part, cut = self._clean(part, text.html and number > 0)
            truncated = truncated or cut
            part = _without_repeats(part, taken)
            if part:
                taken.append(part)
                whole = _joined(whole, part)
        if len(whole) > limit:
            whole, truncated = _cut(whole, limit), True
        return whole, truncated

    def _clean(self, part: str, is_markup: bool) -> tuple[str, bool]:
        """One part, capped before any work is done on it; whether the cap left something out."""
        limit = RAW_CHARACTERS_PER_TOKEN * self.max_tokens
        cut = False
        if is_markup:
            widest = HTML_CHARACTERS_PER_TOKEN * self.max_tokens
            cut = len(part) > widest
            part = markup.to_text(part[:widest])
        if len(part) > limit:
            part, cut = _cut(part, limit), True
        return self.profile.clean(_readable(part)), cut

    def _encoded(self, whole: str, truncated: bool, ids: list[int]) -> Encoded | None:
        if self._specials.issuperset(ids):
            return None
        if len(ids) > self.max_tokens:
            ids, truncated = [*ids[: self.max_tokens - 1], self._last], True
        return Encoded(tuple(ids), truncated, hashlib.sha256(whole.encode()).hexdigest())

    def describe(self) -> dict[str, Any]:
        """Everything here that changes a verdict, for the configuration's hash."""
        return {
            "profile": self.profile.name,
            "profile_hash": self.profile.hash,
            "tokenizer_sha256": self.tokenizer.sha256,
            "max_tokens": self.max_tokens,
            "assembly": ASSEMBLY,
        }

    @cached_property
    def _specials(self) -> frozenset[int]:
        return self.tokenizer.specials

    @cached_property
    def _last(self) -> int:
        return self.tokenizer.frame[-1]


def _readable(text: str) -> str:
    """Valid Unicode without NULs; surrogate pairs that came apart are joined again."""
    text = text.replace("\0", " ")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _without_repeats(part: str, taken: Sequence[str]) -> str:
    """The part without a beginning that an earlier part has said already."""
    for earlier in taken:
        head, rest = part[: len(earlier)], part[len(earlier) :]
        if head.casefold() == earlier.casefold() and not rest[:1].isalnum():
            part = rest.lstrip(" .,:;|-–—")
    return part


def _joined(whole: str, part: str) -> str:
    if not whole:
        return part
    return f"{whole}. {part}" if whole[-1].isalnum() else f"{whole} {part}"


def _cut(text: str, limit: int) -> str:
    """At most `limit` characters, between words where a space is near."""
    cut = text[:limit]
    if text[limit].isspace():
        return cut
    head, space, tail = cut.rpartition(" ")
    return head if space and len(tail) < 100 else cut
