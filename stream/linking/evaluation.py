"""Precision and recall of a table on items that carry symbols of their own."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from earlybird.schemas.raw import RawNews, RawTweet
from earlybird.stream.linking.linker import Linker
from earlybird.stream.parsing.records import symbols_of, text_of

_EXAMPLES = 20  # kept of each kind
_WORST = 10


@dataclass
class Evaluation:
    """Counts of linked symbols against those of the items.

    Only symbols that some item carries are judged: of others the items say nothing.
    """

    texts: int = 0
    with_symbols: int = 0
    linked: int = 0  # texts with at least one linked symbol that is judged
    right: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    unjudged: int = 0  # linked symbols that no item carries
    examples: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: {"wrong": [], "missed": []})

    def report(self) -> dict[str, Any]:
        """Return counts and shares, all symbols taken together."""
        right, wrong, missed = self.right.total(), self.wrong.total(), self.missed.total()
        precision, recall = _share(right, right + wrong), _share(right, right + missed)
        return {
            "texts": self.texts,
            "with_symbols": self.with_symbols,
            "linked": self.linked,
            "right": right,
            "wrong": wrong,
            "missed": missed,
            "unjudged": self.unjudged,
            "precision": precision,
            "recall": recall,
            "f1": _share(2 * right, 2 * right + wrong + missed),
            "most_wrong": dict(self.wrong.most_common(_WORST)),
            "most_missed": dict(self.missed.most_common(_WORST)),
        }


def evaluate(linker: Linker, items: Iterable[RawNews | RawTweet], *, labelled_only: bool = False) -> Evaluation:
    """Link every text as if it had no symbols, and compare.

    `labelled_only`: items without symbols are left out; else a symbol linked to them is wrong.
    """
    found = Evaluation()
    pairs: list[tuple[str, frozenset[str], frozenset[str]]] = []
    for item in items:
        own = frozenset(symbol.symbol for symbol in symbols_of(item))
        if labelled_only and not own:
            continue
        text = text_of(item)
        linked = frozenset(symbol.symbol for symbol in linker.symbols(text, linker.time_of(item)))
        found.texts += 1
        found.with_symbols += bool(own)
        if own or linked:
            pairs.append((text.parts[0], own, linked))
    judged = frozenset[str]().union(*(own for _, own, _ in pairs))
    for text_, own, linked in pairs:
        found.unjudged += len(linked - judged)
        linked &= judged
        found.linked += bool(linked)
        found.right.update(own & linked)
        for kind, counter, symbols in (("wrong", found.wrong, linked - own), ("missed", found.missed, own - linked)):
            counter.update(symbols)
            for symbol in sorted(symbols)[: _EXAMPLES - len(found.examples[kind])]:
                found.examples[kind].append((symbol, text_))
    return found


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
