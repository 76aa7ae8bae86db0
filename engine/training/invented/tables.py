"""Tables of wordings, read from the TSV files in tables/."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from earlybird.engine.training.invented.verbs import Verb, verb

FOLDER = Path(__file__).parent / "tables"
_POLARITY = {"up_good": 1, "neutral": 0, "up_bad": -1}
TAGGED = frozenset(
    {  # verbs that fit only the subjects of this tag
        "gap",  # narrows and widens
        "own",  # the company itself raises or cuts it
        "profit",  # outweighs sales, costs and volumes named beside it
        "swing",  # a profit with a loss of the same name
        "loss",
    }
)
COMPANY = frozenset({"figures", "balance", "operations"})  # groups that the frames of group `company` fit


@dataclass(frozen=True, slots=True)
class Subject:
    """A quantity that texts speak of.

    `polarity` is 1 where a rise is good news, -1 where it is bad, 0 where it is neither.
    """

    name: str
    plural: bool
    polarity: int
    group: str
    unit: str
    tags: frozenset[str]  # see TAGGED; main: drawn more often


@dataclass(frozen=True, slots=True)
class Move:
    """A verb for each direction."""

    kind: str
    strength: str
    sized: bool  # whether "by 8 %" may follow
    weight: int  # how often it is drawn: common verbs are common in the texts
    up: Verb
    down: Verb


@dataclass(frozen=True, slots=True)
class Frame:
    """A template for subjects of some group.

    `effect` is keep, flip (a negation), none (a question) or level (no change); the last two take the sign away.
    """

    group: str
    verbs: str
    template: str
    effect: str = "keep"

    @property
    def sized(self) -> bool:
        """Whether the template shows numbers, so that the verb must go with them."""
        return any(slot in self.template for slot in ("{size", "{now}", "{then}"))


@dataclass(frozen=True, slots=True)
class Event:
    """Two templates for a piece of news, good and bad; either may be empty."""

    kind: str
    good: str
    bad: str


@cache
def subjects() -> tuple[Subject, ...]:
    """Return all subjects."""
    return tuple(
        Subject(
            row["name"],
            row["number"] == "plural",
            _POLARITY[row["polarity"]],
            row["group"],
            row["unit"],
            frozenset(row["tags"].split(",")) - {"-"},
        )
        for row in _rows("subjects")
    )


@cache
def moves() -> tuple[Move, ...]:
    """Return all pairs of verbs."""
    return tuple(
        Move(
            row["kind"],
            row["strength"],
            row["sized"] == "yes",
            int(row["weight"]),
            verb(row["up"]),
            verb(row["down"]),
        )
        for row in _rows("verbs")
    )


@cache
def nouns() -> tuple[tuple[str, str, str], ...]:
    """Return strength, noun for a rise, noun for a fall."""
    return tuple((row["strength"], row["up"], row["down"]) for row in _rows("nouns"))


@cache
def frames(name: str) -> tuple[Frame, ...]:
    """Return the frames of the table `frames` or `negations`."""
    return tuple(Frame(row["groups"], row["verbs"], row["template"], row.get("effect", "keep")) for row in _rows(name))


@cache
def events(name: str) -> tuple[Event, ...]:
    """Return the rows of the table `events` or `tweets`."""
    return tuple(Event(row["kind"], row["good"].strip(), row["bad"].strip()) for row in _rows(name))


@cache
def neutral() -> tuple[tuple[str, str], ...]:
    """Return kind and template of texts that are no news for the price."""
    return tuple((row["kind"], row["template"]) for row in _rows("neutral"))


@cache
def written() -> tuple[tuple[str, str, str], ...]:
    """Return kind, label and template of the freely worded rows, those of all tables written_*.tsv."""
    names = sorted(path.stem for path in FOLDER.glob("written_*.tsv"))
    return tuple((row["kind"], row["label"], row["text"]) for name in names for row in _rows(name))


@cache
def contexts() -> tuple[tuple[str, str, str], ...]:
    """Return place, style and template of the surroundings of a text."""
    return tuple((row["place"], row["style"], row["template"]) for row in _rows("contexts"))


@cache
def words() -> dict[str, list[str]]:
    """Return the lists that slots draw from, by name."""
    return {row["list"]: row["words"].split("|") for name in ("words", "names") for row in _rows(name)}


def _rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / f"{name}.tsv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
