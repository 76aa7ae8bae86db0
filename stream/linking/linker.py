"""Links texts to symbols by a table of names, as of the text's own time.

A link is a function of the item and the table alone. It never changes what the model reads.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ahocorasick_rs import AhoCorasick

from earlybird.engine.text import markup
from earlybird.engine.text.assembly import Text
from earlybird.schemas.identity import canonical, sha256_hex
from earlybird.schemas.raw import RawNews, RawTweet, Symbol
from earlybird.stream.linking.table import Alias, SymbolTable
from earlybird.stream.linking.words import framed, split, unframed
from earlybird.stream.parsing.records import symbols_of, text_of

RULES = "link-v1"
"""Name of the rules below; other rules need another name, so that recorded signals stay reproducible."""

LONGEST_PART = 2_000  # characters read of a headline, a summary, a body; about what a model reads
MOST_SYMBOLS = 32  # linked to one text; those of the highest relevance stay
MOST_ALL = 512  # the limit in RawItem
FURTHER = 0.5  # relevance of a name behind the headline, as a share of one in it
SHOUTED = 4  # words, from which on capitals alone say nothing
PREFIX = 4  # letters of a wire's own word before a hyphen, as in BRIEF-Apple


class Found(NamedTuple):
    """A name in a text, framed, and the rows that hold for it."""

    words: str
    aliases: tuple[Alias, ...]


class Linker:
    """Finds the names of a table in texts.

    A name counts where its words stand whole; of overlapping ones the first and then the longest counts. A word of the
    table in capitals (a ticker) stands for itself only, one with a capital for any spelling that begins with a capital,
    one in lower case for any. Where a row names context words, one of them must stand in the text. In a text all in
    capitals, a name in capitals needs them.

    Not thread-safe: consumer thread only; other threads may read `texts`.
    """

    def __init__(self, table: SymbolTable, *, every: bool = False) -> None:
        """`every`: link every text; else those that came without symbols."""
        self._every = every
        self.hash = sha256_hex(canonical([RULES, table.hash, every]))[:16]
        self.texts = 0  # texts to which a symbol was linked
        by_name: dict[str, list[Alias]] = {}
        for alias in table.aliases:
            by_name.setdefault(alias.name.lower(), []).append(alias)
        self._aliases = list(by_name.values())
        self._automaton = AhoCorasick(list(by_name), store_patterns=False)

    def linked(self, item: RawNews | RawTweet) -> RawNews | RawTweet:
        """Return the item with the symbols that its text names, or as it was."""
        present = symbols_of(item)
        if present and not self._every:
            return item
        names = {symbol.symbol for symbol in present}
        found = [symbol for symbol in self.symbols(text_of(item), self.time_of(item)) if symbol.symbol not in names]
        if not found:
            return item
        self.texts += 1
        return item.model_copy(update={"symbols": (*present, *found)[: max(MOST_ALL, len(present))]})

    @staticmethod
    def time_of(item: RawNews | RawTweet) -> int:
        """Return the instant whose names hold for an item: when it was published.

        All versions of an item share it. Without it, or where its source's clock was ahead, it is the ingest time.
        """
        return item.ingested_us if item.published_us is None else min(item.published_us, item.ingested_us)

    def symbols(self, text: Text, at_us: int) -> list[Symbol]:
        """Return the symbols that a text names, the most relevant first."""
        best: dict[str, Symbol] = {}
        for number, part in enumerate(self.find(text, at_us)):
            for alias in (alias for found in part for alias in found.aliases if alias.symbol):
                relevance = alias.relevance if number == 0 else round(alias.relevance * FURTHER, 6)
                known = best.get(alias.symbol)
                if known is None or relevance > (known.relevance or 0.0):
                    best[alias.symbol] = Symbol(
                        symbol=alias.symbol, origin="linked", exchange=alias.exchange or None, relevance=relevance
                    )
        return sorted(best.values(), key=lambda symbol: -(symbol.relevance or 0.0))[:MOST_SYMBOLS]

    def find(self, text: Text, at_us: int) -> list[list[Found]]:
        """Return the names in each part of a text, in their order."""
        parts = [framed(_words(part, text.html and number > 0)) for number, part in enumerate(text.parts)]
        lower = [part.lower() for part in parts]
        candidates = [self._automaton.find_matches_as_indexes(part, overlapping=True) for part in lower]
        if not any(candidates):
            return []
        whole = "".join(lower)
        return [self._chosen(*each, whole, at_us) for each in zip(parts, candidates, strict=True)]

    def _chosen(self, part: str, candidates: list[tuple[int, int, int]], whole: str, at_us: int) -> list[Found]:
        """Choose from overlapping candidates: pattern, start and end in the framed part."""
        shouted = part.isupper() and part.count("  ") >= SHOUTED - 1
        found, end = list[Found](), 0
        for number, start, stop in sorted(candidates, key=lambda each: (each[1], -each[2])):
            if start < end or _is_hyphenated(part, start, stop):
                continue
            words = unframed(part[start:stop])
            aliases = tuple(
                alias
                for alias in self._aliases[number]
                if alias.holds(at_us)
                and _is_spelt(unframed(alias.name), words)
                and (
                    any(word in whole for word in alias.context)
                    if alias.context
                    else not (shouted and alias.name.isupper())
                )
            )
            if aliases:
                found.append(Found(part[start:stop], aliases))
                end = stop
        return found


def _words(part: str, is_markup: bool) -> list[str]:
    if is_markup:
        part = markup.read(part, LONGEST_PART)[0]
    words = split(part[:LONGEST_PART])
    return words[:-1] if len(part) > LONGEST_PART else words  # the last one may be cut


def _is_spelt(names: Sequence[str], words: Iterable[str]) -> bool:
    """Return whether words, equal but for their case, have the capitals of a name."""
    return all(
        word == name or name.islower() or (not name.isupper() and (word.isupper() or word[0] == name[0].upper()))
        for name, word in zip(names, words, strict=True)
    )


def _is_hyphenated(part: str, start: int, stop: int) -> bool:
    """Return whether the words at this place are a piece of a longer, hyphenated name.

    They are not in `Apple-backed`, nor behind a wire's prefix: `BRIEF-Apple`, `UPDATE 1-Apple`.
    """
    if part.startswith(" - ", stop) and not part[stop + 4 : stop + 5].islower():
        return True
    if not part.endswith(" - ", 0, start):
        return False
    before = part[: start - 3].rsplit(None, 1)[-1]
    return not (before.isdecimal() or (before.isupper() and len(before) >= PREFIX))
