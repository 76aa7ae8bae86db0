"""Comparison: a word that says which of two amounts is larger.

Models of this size cannot compare numbers.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


def _by_word(table: Mapping[T, str]) -> dict[str, T]:
    return {word: meaning for meaning, words in table.items() for word in words.split()}


POWERS = _by_word(
    {3: "k thousand", 5: "lakh", 6: "m mn mln mil million", 7: "crore", 9: "b bn bln billion", 12: "t tn trn trillion"}
)
UNITS = _by_word(
    {
        "%": "% pct percent",
        "bp": "bp bps",
        "EUR": "euro euros",
        "$": "dollars",
        "GBP": "pounds",
        "JPY": "yen",
        "SEK": "crowns",
        "INR": "rupees",
        "cents": "c cents",
        "pence": "p pence",
        "times": "x times",
        "days": "days",
    }
)
CURRENCIES = _by_word(
    {
        "$": "$ us$ usd",
        "EUR": "€ eur",
        "GBP": "£ gbp",
        "JPY": "¥ jpy",
        "INR": "₹ rs rs. inr",
        "CAD": "c$ cad",
        "AUD": "a$ aud",
        "HKD": "hk$ hkd",
        "SEK": "sek",
        "NOK": "nok",
        "DKK": "dkk",
        "CHF": "chf",
        "CNY": "cny rmb",
    }
)
ATTACHED = "bktcpx"  # letters that are units or scales only where they touch the number: "5p", not "5 p.m."


def _suffixes(words: Mapping[str, Any]) -> str:
    apart = "|".join(re.escape(word) for word in words if word not in ATTACHED)
    return f"(?:[ -]?({apart})|([{''.join(word for word in words if word in ATTACHED)}]))"


NUMBER = re.compile(
    r"(?<![0-9])(?<![0-9][.,:/])(?:[0-9]{1,3}(?:,[0-9]{3}){1,4}|[0-9]{1,12}|(?=\.[0-9]))(?:\.[0-9]{1,6})?"
    r"(?![0-9]|[.,:/][0-9])"
)
NUMBERS = re.compile(r"[0-9][^0-9]++[0-9]")  # at least two of them, or of their parts; faster than NUMBER
CURRENCY = "|".join(sorted(map(re.escape, CURRENCIES), key=len, reverse=True))
BEFORE = re.compile(rf"(?<![^\W_])(?:(?<![^\s(])([-−+]))?(?:({CURRENCY})[ ]?([-−+])?)?$", re.IGNORECASE)
AFTER = re.compile(rf"(?:{_suffixes(POWERS)}(?!\w))?(?:{_suffixes(UNITS)}(?!\w))?(?!\w|-[a-z])", re.IGNORECASE)
DATE = re.compile(r"\b(?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)[a-z]*\.? $", re.IGNORECASE)
# Words between an amount and the one that it is compared with.
REFERENCE = re.compile(
    r"\b(?:vs?|versus|from|compared|compares|against|than|est|ests|estimates?|estimated|expected|expectations?|exp"
    r"|forecasts?|consensus|cons|street|factset|year[- ]ago|year[- ]earlier"
    r"|previous|previously|prior|prev|looked for|pencilled in|(?:19|20)\d\d:)(?!\w)",
    re.IGNORECASE,
)
# What follows an amount in brackets, or after a comma, that the amount before it is compared with.
FOLLOWING = re.compile(
    r"[ ]?(?:\)|(?:was |were |had been |is )?(?:expected|exp|est|consensus|forecast|estimated"
    r"|(?:a )?year[- ](?:ago|earlier)|last year|the year before|previously|prior|then|yr ago|in (?:19|20)\d\d)\b)",
    re.IGNORECASE,
)
# What stands around the older and the newer of two amounts where the older comes first.
OLDER = re.compile(r"\b(?:instead|expectations|forecasts?|consensus|estimates?) of $", re.IGNORECASE)
NEWER = re.compile(r"[ ,]{0,2}(?:now|today)\b", re.IGNORECASE)
# Words that give an amount a sign, or say that it is the newer one.
SIGNED = re.compile(r"\b(?:loss|losses|deficit|profits?|surplus|actual|reported|posted)\b", re.IGNORECASE)
GAP = 60  # characters between two amounts of one comparison, at most
APART = 1000  # times that one of them is larger, at most
RANGE = ("-", "–", "—", "to")  # between the ends of a range
ARROWS = ("->", "-->", "=>", "→")
TODAY = ("", "now", "today")


class _Amount(NamedTuple):
    start: int  # in the text, with sign and currency
    end: int
    value: Decimal
    power: int | None  # of ten, as a word of the text says
    unit: str  # "" for a bare number


@dataclass(frozen=True)
class Comparison:
    """Insertion of `higher`, `lower` or `unchanged` before an amount that is compared with another.

    "EPS $1.42 vs $1.19 expected" becomes "EPS higher $1.42 vs $1.19 expected"; "raised from $3 to $4" becomes "raised
    from $3 to higher $4". Amounts of different units stay as they are, and so do a loss and a profit. Linear time.
    """

    def __call__(self, text: str) -> str:
        if NUMBERS.search(text) is None:
            return text
        amounts = list(_amounts(text))
        pieces, done, place = list[str](), 0, 0
        while place + 1 < len(amounts):
            found = _compared(text, amounts, place)
            if found is None:
                place += 1
                continue
            start, word = found
            pieces += [text[done:start], word, " "]
            done, place = start, place + 2
        return "".join([*pieces, text[done:]]) if pieces else text

    def describe(self) -> Any:
        patterns = [each.pattern for each in (NUMBER, BEFORE, AFTER, DATE, REFERENCE, FOLLOWING, OLDER, NEWER, SIGNED)]
        return [
            "comparison",
            patterns,
            [sorted(each.items()) for each in (POWERS, UNITS, CURRENCIES)],
            GAP,
            APART,
            RANGE,
            ARROWS,
            TODAY,
        ]


def _amounts(text: str) -> Iterator[_Amount]:
    """Yield the amounts of a text in order.

    Dates, and the numbers of names such as Q3, are none.
    """
    numbers = list(NUMBER.finditer(text))
    if len(numbers) < 2:
        return
    for number in numbers:
        start, end = number.span()
        before = BEFORE.search(text, max(0, start - 6), start)
        after = AFTER.match(text, end)
        if before is None or after is None:
            continue
        power = POWERS.get((after[1] or after[2] or "").casefold())
        currency = CURRENCIES.get((before[2] or "").casefold(), "")
        unit = currency or UNITS.get((after[3] or after[4] or "").casefold(), "")
        bare = not unit and power is None
        if bare and (DATE.search(text, max(0, start - 12), start) or re.fullmatch("(?:19|20)[0-9][0-9]", number[0])):
            continue
        value = Decimal(number[0].replace(",", ""))
        if (before[1] or before[3] or "+") != "+":
            value = -value
        yield _Amount(before.start(), after.end(), value, power, unit)


def _compared(text: str, amounts: Sequence[_Amount], place: int) -> tuple[int, str] | None:
    """Return where a word belongs that compares this amount with the next, and the word."""
    first, second = amounts[place : place + 2]
    gap = text[first.end : second.start]
    if len(gap) > GAP:
        return None
    before = text[max(0, first.start - GAP) : first.start].casefold()
    if not {sign.casefold() for sign in SIGNED.findall(gap)} <= set(SIGNED.findall(before)):
        return None
    refers = REFERENCE.search(gap) is not None
    values = _values(text, first, second, losses=refers)
    if values is None:
        return None
    between = gap.strip().casefold()
    rises = (before.endswith("from ") and between == "to") or between in ARROWS
    if rises or (OLDER.search(before) and not refers) or (refers and NEWER.match(text, second.end)):
        return second.start, _word(values[1], values[0])
    if refers or (between and between.strip(" ,;([") in TODAY and FOLLOWING.match(text, second.end)):
        start = first.start
        if place:
            last = amounts[place - 1]
            if text[last.end : start].strip().casefold() in RANGE and last.unit in ("", first.unit):
                start = last.start
        return start - (refers and _bracketed(text, first)), _word(*values)
    return None


def _values(text: str, first: _Amount, second: _Amount, *, losses: bool) -> tuple[Decimal, Decimal] | None:
    """Return two amounts in one unit; None where they have none in common.

    `losses`: amounts in brackets are negative, as accountants write them.
    """
    if first.unit != second.unit and "%" in (first.unit, second.unit):
        return None
    if first.unit != second.unit and first.unit and second.unit:
        return None
    values = [first.value, second.value]
    if None not in (first.power, second.power):
        values = [each.value.scaleb(each.power or 0) for each in (first, second)]
    apart = APART if (first.power is None) == (second.power is None) else 10
    small, large = sorted(map(abs, values))
    if small and large > apart * small:
        return None
    if losses:
        values = [
            -value if _bracketed(text, each) else value for value, each in zip(values, (first, second), strict=True)
        ]
    return values[0], values[1]


def _bracketed(text: str, amount: _Amount) -> bool:
    return text[amount.start - 1 : amount.start] == "(" and text[amount.end : amount.end + 1] == ")"


def _word(now: Decimal, then: Decimal) -> str:
    return "unchanged" if now == then else "higher" if now > then else "lower"
