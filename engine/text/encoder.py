"""Text encoder: assembles, cleans, cuts to the model's limit and tokenises texts."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from earlybird.engine.text.assembly import CLEAN_CHARACTERS_PER_TOKEN, Assembly, Text, joined, shortened
from earlybird.engine.text.profiles import Profile
from earlybird.engine.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Encoded:
    """One text as the model reads it."""

    token_ids: tuple[int, ...]  # special tokens included, at most max_tokens
    truncated: bool  # something was left out
    text_sha256: str  # of the cleaned, assembled text that was tokenised, UTF-8


@dataclass(frozen=True)
class TextEncoder:
    """Encoder from texts to one model's token ids; pure, may be shared between threads."""

    profile: Profile
    assembly: Assembly
    tokenizer: Tokenizer
    max_tokens: int

    def encode(self, texts: Sequence[Text]) -> list[Encoded | None]:
        """Encode texts in order; None for a text without any known piece after cleaning.

        Any str is allowed: NULs become spaces, lone surrogates the replacement character.
        """
        assembled = [self.assemble(text) for text in texts]
        batch = self.tokenizer.encode([whole for whole, _ in assembled])
        return [self._encoded(*each, ids) for each, ids in zip(assembled, batch, strict=True)]

    def assemble(self, text: Text) -> tuple[str, bool]:
        """Return the cleaned text in one piece, and whether anything was left out.

        The text has at most 16 characters per token.
        """
        limit = CLEAN_CHARACTERS_PER_TOKEN * self.max_tokens
        whole, taken, truncated = "", list[str](), False
        for part, is_markup in self.assembly.parts(text):
            if len(whole) >= limit:
                truncated = truncated or bool(part.strip())
                continue
            part, cut = self.assembly.read(part, is_markup, self.max_tokens)
            truncated = truncated or cut
            part = self.assembly.without_repeats(self.profile.clean(_readable(part)), taken)
            if part:
                taken.append(part)
                whole = joined(whole, part)
        if len(whole) > limit:
            whole, truncated = shortened(whole, limit), True
        return whole, truncated

    def _encoded(self, whole: str, truncated: bool, ids: list[int]) -> Encoded | None:
        if self._specials.issuperset(ids):
            return None
        if len(ids) > self.max_tokens:
            ids, truncated = [*ids[: self.max_tokens - 1], self._last], True
        return Encoded(tuple(ids), truncated, hashlib.sha256(whole.encode()).hexdigest())

    def describe(self) -> dict[str, Any]:
        """Return all settings here that change a verdict, for the configuration's hash."""
        return {
            "profile": self.profile.name,
            "profile_hash": self.profile.hash,
            "tokenizer_sha256": self.tokenizer.sha256,
            "max_tokens": self.max_tokens,
            "assembly": self.assembly.describe(),
        }

    @cached_property
    def _specials(self) -> frozenset[int]:
        return self.tokenizer.specials

    @cached_property
    def _last(self) -> int:
        return self.tokenizer.frame[-1]


def _readable(text: str) -> str:
    """Return valid Unicode without NULs; split surrogate pairs are joined again."""
    text = text.replace("\0", " ")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
