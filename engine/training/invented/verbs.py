"""Verb forms for headlines: `rise/rose/risen/rising`, `jump`, `edge up`."""

import re
from dataclasses import dataclass

_ADVERB = re.compile(r"(more than|almost|just|\w+ly) ")


@dataclass(frozen=True, slots=True)
class Verb:
    """Five forms of one verb or verb phrase."""

    base: str
    s: str  # third person singular, present
    past: str
    perf: str  # past participle
    ing: str


def verb(text: str) -> Verb:
    """Read a table cell: base form, then optionally past, participle and gerund.

    Missing forms are regular; in a phrase the first word is inflected.
    """
    base, *given = text.split("/")
    first, space, rest = base.partition(" ")
    stem = first.removesuffix("e")
    past = given[0] if given else f"{stem}ed{space}{rest}"
    perf = given[1] if len(given) > 1 else past
    ing = given[2] if len(given) > 2 else f"{stem}ing{space}{rest}"
    return Verb(base, _singular(base), past, perf, ing)


def _singular(base: str) -> str:
    """Inflect a phrase's verb, which an adverb may precede."""
    found = _ADVERB.match(base)
    lead = found[0] if found else ""
    first, space, rest = base.removeprefix(lead).partition(" ")
    if first.endswith(("s", "sh", "ch", "x", "o")):
        first += "es"
    elif first.endswith("y") and first[-2] not in "aeiou":
        first = f"{first[:-1]}ies"
    else:
        first += "s"
    return f"{lead}{first}{space}{rest}"
