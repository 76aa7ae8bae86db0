"""A table of names made of the company file that the SEC publishes.

Both of its forms are read: `company_tickers.json` (an object of `cik_str`, `ticker`, `title`) and
`company_tickers_exchange.json` (`fields` and rows of `data`). They list today's companies: for a backtest, earlier
names, and those that are gone, are added by hand, with their dates.

A company gets its name as filed, without its legal form, without words like Group, and, if one uncommon word is left,
without its trade (`Norvex Systems`); of several share classes the first listed one counts. A name that is made of
common words alone, or is very short, gets context words. One that several companies share is left out.
"""

import json
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any, NamedTuple

from earlybird.schemas.symbols import canonical_symbol
from earlybird.stream.errors import SettingsError
from earlybird.stream.linking.words import split

CONTEXT = "shares stock earnings revenue profit quarter dividend nasdaq nyse ceo"
"""Context words of ambiguous names."""

SHORT = 3  # letters; names of so few are kept in capitals
_STATE = re.compile(r"\s*(?:[/\\][A-Za-z .]{2,12})?[/\\]?\s*$")  # of incorporation: /DE/


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LEGAL = _words("""
    inc incorporated corp corporation co company cos companies ltd limited plc llc lp l.p nv n.v sa s.a ag se asa ab as
    oyj spa s.p.a bhd kgaa adr ads
""")
_FURTHER = _words("holdings holding hldgs group international intl trust bancorp the")
_TRADE = _words("""
    chase communications financial foods industries laboratories labs materials motor motors pharma pharmaceutical
    pharmaceuticals sciences semiconductor software solutions stores systems technologies technology therapeutics
    wireless
""")
_SMALL = _words("of and the for in de la du")


class Company(NamedTuple):
    """One company with its first ticker."""

    cik: int
    name: str
    ticker: str
    exchange: str


class Built(NamedTuple):
    """Rows for a table: alias, symbol, exchange, context; and the names that were left out."""

    rows: list[tuple[str, str, str, str]]
    shared: list[str]


def build(content: bytes) -> Built:
    """Return the rows of a table. Raises SettingsError for content of another form."""
    companies: dict[int, Company] = {}
    for company in _companies(content):
        companies.setdefault(company.cik, company)
    common = _common_words()
    owners: dict[str, dict[int, str]] = {}  # by name in lower case: companies with their spelling
    for company in companies.values():
        for name in names(company.name, common):
            owners.setdefault(name.lower(), {}).setdefault(company.cik, name)
    rows, shared = [], []
    for owned in owners.values():
        (cik, name), *others = owned.items()
        if others:
            shared.append(name)
            continue
        company = companies[cik]
        context = CONTEXT if _is_ambiguous(name, common) else ""
        rows.append((name, company.ticker, company.exchange, context))
    return Built(sorted(rows), sorted(shared))


def names(title: str, common: frozenset[str]) -> list[str]:
    """Return the spellings of a company's name, from the longest to the shortest."""
    whole = re.sub(r"(?i) (com)\b", r".\1", _STATE.sub("", title))
    words = [word.rstrip(".,") for word in whole.replace(",", " ").split()]
    words = [word for word in words if split(word)]
    words = [_written(word, common) for word in words]
    if len(words) > 1 and words[0].lower() == "the":
        words = words[1:]
    found = [words]
    for droppable in (_LEGAL, _LEGAL | _FURTHER):
        while len(words) > 1 and words[-1].lower() in droppable | {"&", "and", "of"}:
            words = words[:-1]
        found.append(words)
    if len(words) == 2 and words[-1].lower() in _TRADE and not _is_ambiguous(words[0], common):
        found.append(words[:1])
    spelt = [" ".join(each) for each in found if each]
    spelt += [name.removesuffix(".com") for name in spelt]
    if spelt[-1].endswith("s") and spelt[-1].isalpha() and spelt[-1].upper() in title:  # which has no apostrophes
        spelt.append(f"{spelt[-1][:-1]}'s")
    return [name for name in dict.fromkeys(spelt) if name[0].isalnum() and name[-1].isalnum()]


def _written(word: str, common: frozenset[str]) -> str:
    """Return a word in capitals as texts write it.

    Short ones, and those with signs, are abbreviations and stay.
    """
    if not word.isupper() or (len(word) <= SHORT and word.lower() not in common | _LEGAL | _SMALL):
        return word
    if word.lower() in _SMALL:
        return word.lower()
    sign = "&" in word or ("." in word and not word.endswith(".COM"))
    return word if sign else "-".join(part.capitalize() for part in word.split("-"))


def _is_ambiguous(name: str, common: frozenset[str]) -> bool:
    words = name.lower().split()
    short = len(words) == 1 and len(name) <= SHORT and not name.isupper()
    return short or all(word in common or len(word) == 1 for word in words)


def _common_words() -> frozenset[str]:
    return _words((resources.files("earlybird.stream.linking") / "common_words.txt").read_text("utf-8"))


def _companies(content: bytes) -> Iterator[Company]:
    try:
        tree = json.loads(content)
        rows: list[dict[str, Any]]
        if "fields" in tree:
            rows = [dict(zip(tree["fields"], row, strict=True)) for row in tree["data"]]
        else:
            rows = list(tree.values())
        for row in rows:
            yield Company(
                int(row["cik"] if "cik" in row else row["cik_str"]),
                str(row["name"] if "name" in row else row["title"]),
                canonical_symbol(str(row["ticker"])),
                str(row.get("exchange") or ""),
            )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise SettingsError(f"not the SEC's company file: {type(error).__name__}: {error}") from None
