"""Names of companies, people and places that do not exist."""

import re
from random import Random

from earlybird.engine.training.invented.tables import words


def company(rng: Random) -> str:
    """Return a name such as `Norvex`, `Telari Energy` or `Copper Quay Foods plc`."""
    stem, kind = _stem(rng), rng.random()
    if kind < 0.45:
        return stem
    name = f"{stem} {rng.choice(words()['business'])}"
    return name if kind < 0.85 else f"{name} {rng.choice(words()['form'])}"


def ticker(name: str) -> str:
    """Return four letters that recall a company's name."""
    letters = name.split()[0].upper()
    consonants = [letter for letter in letters[1:] if letter not in "AEIOU"]
    return (letters[0] + "".join(consonants) + "QX")[:4]


def person(rng: Random) -> str:
    """Return first name and surname."""
    return f"{rng.choice(words()['given'])} {rng.choice(words()['surname'])}"


def town(rng: Random) -> str:
    """Return a town's name."""
    return rng.choice(words()["townstart"]) + rng.choice(words()["townend"])


def house(kind: str, rng: Random) -> str:
    """Return the name of a `kind`: broker, paper or agency."""
    return f"{_stem(rng)} {rng.choice(words()[f'{kind}last'])}"


def handle(rng: Random) -> str:
    """Return a user name of a tweet."""
    return f"{_stem(rng).lower().replace(' ', '')}{rng.choice(words()['handlelast'])}"


def _stem(rng: Random) -> str:
    """Return the core of a name: two fixed parts, free syllables, or two plain words.

    A model learns few names by heart, and then answers by the name.
    """
    kind = rng.random()
    while True:
        if kind < 0.4:
            stem = rng.choice(words()["first"]) + rng.choice(words()["last"])
        elif kind < 0.8:
            stem = "".join(_syllable(rng) for _ in range(rng.choice((2, 2, 3)))).capitalize()
        else:
            second = rng.choice(words()["wordend"])
            stem = rng.choice(words()["wordstart"]) + (second if kind < 0.9 else f" {second.capitalize()}")
        if stem not in words()["avoid"]:  # names that exist
            return re.sub(r"(.)\1\1", r"\1\1", stem)


def _syllable(rng: Random) -> str:
    return rng.choice(words()["onset"]) + rng.choice("aeiouaeioy") + rng.choice(words()["coda"])
