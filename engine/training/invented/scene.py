"""Scene: everything one text speaks of, drawn slot by slot from one key.

Two scenes with one key and opposite directions are mirrors: same companies, dates, wordings and starting figures.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from zlib import crc32

from earlybird.engine.training.invented import names, numbers
from earlybird.engine.training.invented.tables import Move, Subject, nouns, words

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_BY_DIRECTION = re.compile(r"<([^<>|]*)\|([^<>|]*)>")
_SLOT = re.compile(r"\{([A-Za-z_.0-9]+)\}")
_ARTICLE = re.compile(r"\ba\(n\) (?=([\w$€£]*))")
_AN = re.compile(r"([aeio]|u(?!n|s)|8|11\b|18\b)", re.IGNORECASE)
_PROFIT = re.compile(r"profit|income|earnings")
_SENTIMENTS = {1: "good", 0: "neutral", -1: "bad"}


@dataclass(slots=True)
class Scene:
    """Values that fill a template.

    `direction` is 1 for a rise and -1 for a fall; `sentiment` is the sign of the label.
    """

    key: int
    direction: int
    sentiment: int
    subject: Subject | None = None
    move: Move | None = None
    strength: str = "normal"

    def fill(self, template: str, *, capital: bool = True) -> str:
        """Return the text of a template.

        `[a|b]` is a free choice, `<a|b>` is a for a rise and b for a fall, `{name}` is a slot, `a(n)` an article.
        """
        rng = self.rng(template)
        while _CHOICE.search(template):
            template = _CHOICE.sub(lambda found: rng.choice(found[1].split("|")), template)
        template = _BY_DIRECTION.sub(lambda found: found[1] if self.direction > 0 else found[2], template)
        while _SLOT.search(template):
            template = _SLOT.sub(lambda found: self._slot(found[1]), template)
        text = _tidy(template)
        return text[:1].upper() + text[1:] if capital else text

    def _slot(self, name: str) -> str:
        if name.startswith(("v.", "V.")):
            return self._verb(name)
        rng = self.rng(name)
        made = _MADE.get(name) or _MADE.get(name.rstrip("0123456789"))
        if made is not None:
            return made(self, rng)
        lists = words()
        for known in (name, name.rstrip("0123456789"), f"{name.rstrip('0123456789')}_{_SENTIMENTS[self.sentiment]}"):
            if known in lists:
                return rng.choice(lists[known])
        raise KeyError(f"template: a known slot required, was {{{name}}}")

    def _verb(self, name: str) -> str:
        assert self.move is not None
        forms = self.move.up if self.direction > 0 else self.move.down
        form = name[2:]
        if name.startswith("v.") and form == "s" and self._plural:
            form = "base"
        return str(getattr(forms, form))

    def rng(self, name: str) -> Random:
        """Return the generator of a slot; the order of slots does not matter."""
        return Random(self.key ^ crc32(name.encode()))

    @property
    def _plural(self) -> bool:
        return self.subject is not None and self.subject.plural

    def agree(self, singular: str, plural: str) -> str:
        """Return the form that agrees with the subject's number."""
        return plural if self._plural else singular

    def change(self) -> numbers.Change:
        """Return the subject's figures before and after."""
        assert self.subject is not None
        return numbers.change(self.subject.unit, self.strength, self.direction, self.rng("change"))

    def size(self, rng: Random) -> str:
        """Return the change as it follows a verb."""
        return ("by " if rng.random() < 0.35 else "") + self.change().size

    def noun(self, rng: Random, *, single: bool = False) -> str:
        """Return a noun for the change.

        `single`: one word, so that a figure may stand before it.
        """
        fitting = [row for row in nouns() if row[0] == self.strength and not (single and " " in row[1] + row[2])]
        _, up, down = rng.choice(fitting)
        return up if self.direction > 0 else down

    def result(self, sign: int) -> str:
        """Return the subject, a kind of profit, or the loss of that kind."""
        assert self.subject is not None
        return self.subject.name if sign > 0 else _PROFIT.sub("loss", self.subject.name)

    def by_direction(self, rng: Random, *pairs: tuple[str, str]) -> str:
        """Return one of several words for a rise, or its mirror for a fall."""
        return rng.choice(pairs)[0 if self.direction > 0 else 1]

    def company(self, number: str) -> str:
        """Return the first, second or third company of the text."""
        return names.company(self.rng(f"company{number}"))


def _price(rng: Random, least: float, most: float) -> str:
    return f"${rng.uniform(least, most):.{rng.choice((0, 0, 2))}f}"


_HIGHER = (("higher", "lower"), ("higher", "lower"), ("rising", "falling"), ("increased", "reduced"))
_MADE: dict[str, Callable[[Scene, Random], str]] = {
    "subject": lambda scene, _: scene.subject.name if scene.subject else "",
    "subject2": lambda _, rng: rng.choice(("volume", "footprint", "tax rate", "product mix")),
    "size": lambda scene, rng: scene.size(rng),
    "size0": lambda scene, _: scene.change().size,
    "now": lambda scene, _: scene.change().now,
    "then": lambda scene, _: scene.change().then,
    "est": lambda scene, _: scene.change().est,
    "ago": lambda scene, _: scene.change().ago,
    "result": lambda scene, _: scene.result(scene.direction),
    "unresult": lambda scene, _: scene.result(-scene.direction),
    "noun": lambda scene, rng: scene.noun(rng),
    "noun1": lambda scene, rng: scene.noun(rng, single=True),
    "sizeadj": lambda scene, _: scene.change().size.removesuffix("s"),
    "updown": lambda scene, rng: scene.by_direction(rng, ("up", "down")),
    "higherlower": lambda scene, rng: scene.by_direction(rng, *_HIGHER),
    "is": lambda scene, _: scene.agree("is", "are"),
    "was": lambda scene, _: scene.agree("was", "were"),
    "has": lambda scene, _: scene.agree("has", "have"),
    "itthey": lambda scene, _: scene.agree("it", "they"),
    "has1": lambda _scene, _rng: "has",
    "its": lambda _scene, _rng: "its",
    "feared": lambda scene, _: "hoped-for" if scene.sentiment > 0 else "feared",
    "avoids": lambda scene, _: "misses out on" if scene.sentiment > 0 else "avoids",
    "co": lambda scene, _: scene.company("1"),
    "co2": lambda scene, _: scene.company("2"),
    "co3": lambda scene, _: scene.company("3"),
    "t": lambda scene, _: names.ticker(scene.company("1")),
    "t2": lambda scene, _: names.ticker(scene.company("2")),
    "t3": lambda scene, _: names.ticker(scene.company("3")),
    "tick": lambda scene, rng: names.ticker(scene.company("1")) + rng.choice(("", "", ".X", " US")),
    "person": lambda _, rng: names.person(rng),
    "town": lambda _, rng: names.town(rng),
    "TOWN": lambda _, rng: names.town(rng).upper(),
    "broker": lambda _, rng: names.house("broker", rng),
    "paper": lambda _, rng: names.house("paper", rng),
    "agency": lambda _, rng: names.house("agency", rng),
    "handle": lambda _, rng: names.handle(rng),
    "kind_cap": lambda scene, _: scene.fill("{kind}").capitalize(),
    "driver_cap": lambda scene, _: scene.fill("{driver}"),
    "amount": lambda scene, rng: numbers.amount(rng, scene.rng("currency")),
    "count": lambda _, rng: f"{10 * round(10.0 * 90.0 ** rng.random()):,}",
    "smallcount": lambda _, rng: str(rng.randint(3, 60)),
    "pct": lambda _, rng: numbers.percent(rng.uniform(2, 40), rng),
    "pctsmall": lambda _, rng: numbers.percent(rng.uniform(4, 45), rng),
    "price": lambda _, rng: _price(rng, 60, 400),
    "pricelow": lambda _, rng: _price(rng, 4, 55),
    "day2": lambda scene, rng: rng.choice([day for day in words()["day"] if day != scene.fill("{day}")]),
    "code": lambda _, rng: "".join(rng.choices("abcdefghjkmnpqrstuvwxyz0123456789", k=8)),
}


def _tidy(text: str) -> str:
    """Set articles, spaces and possessives right."""
    text = _ARTICLE.sub(lambda found: "an " if _AN.match(found[1]) else "a ", text)
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" ([,.:;?!])(?=\s|$)", r"\1", text)
    return text.replace("s's ", "s' ")
