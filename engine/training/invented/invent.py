"""Invented labelled texts: a subject's polarity times a verb's direction is the label.

Directional frames and events come with their mirror, the same text with the opposite sign; freely worded rows carry
their label. Everything is a function of the seed and the tables. Companies, people and towns do not exist.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from random import Random

from earlybird.engine.errors import ConfigError
from earlybird.engine.manifest import LABELS
from earlybird.engine.training.data import Example, normal_form
from earlybird.engine.training.invented import tables
from earlybird.engine.training.invented.numbers import PRICES
from earlybird.engine.training.invented.scene import Scene
from earlybird.engine.training.invented.style import styled
from earlybird.engine.training.invented.tables import COMPANY, Event, Frame, Move, Subject

_GROUPS = {  # share of each group of subjects among directional texts
    "figures": 16,
    "balance": 9,
    "operations": 9,
    "price": 4,
    "short": 1,
    "market": 4,
    "macro": 8,
    "commodity": 3,
    "crypto": 3,
}
_KINDS = {"direction": 38, "negation": 12, "event": 56, "tweet": 18, "neutral": 54, "written": 600}
_MAIN = 4  # weight of the subjects that most texts speak of
_NEUTRAL = LABELS.index("neutral")


@dataclass(frozen=True, slots=True)
class Invented:
    """One text with its label, an index into manifest.LABELS, and the kind of news."""

    text: str
    label: int
    kind: str


def invent(count: int, seed: int = 0, *, balanced: bool = False) -> Iterator[Invented]:
    """Yield `count` texts, mirrors one after the other, no normal form twice.

    `balanced`: as many texts of each label, give or take one. Raises ConfigError.
    """
    if count < 1:
        raise ConfigError(f"invented: at least one text required, was {count}")
    rng = Random(f"invented/{seed}")
    known: set[str] = set()
    left = count
    room = Counter({label: (count + label) // len(LABELS) for label in range(len(LABELS))})
    while left:
        drawn = _unit(rng)
        forms = [normal_form(each.text) for each in drawn]
        wanted = Counter(each.label for each in drawn)
        full = balanced and any(room[label] < number for label, number in wanted.items())
        if len(drawn) > left or full or len(set(forms)) < len(forms) or not known.isdisjoint(forms):
            continue
        known.update(forms)
        room.subtract(wanted)
        left -= len(drawn)
        yield from drawn


def invented_examples(count: int, seed: int) -> list[Example]:
    """Return balanced texts for training."""
    return [Example(each.text, each.label) for each in invent(count, seed, balanced=True)]


def _unit(rng: Random) -> list[Invented]:
    """Draw a text and its mirror, or one text that has none."""
    key = rng.getrandbits(48)
    match _weighted(_KINDS, rng):
        case "direction":
            return _direction("frames", key, rng)
        case "negation":
            return _direction("negations", key, rng)
        case "event":
            return _event(rng.choice(tables.events("events")), key, "company")
        case "tweet":
            return _event(rng.choice(tables.events("tweets")), key, "tweet")
        case "written":
            return [_written(rng.choice(tables.written()), key)]
        case _:
            return [_neutral(key, rng)]


def _direction(table: str, key: int, rng: Random) -> list[Invented]:
    group = _weighted(_GROUPS, rng)
    fitting = _fitting(table, group)
    if not fitting:
        return _direction(table, key, rng)
    frame, subjects = rng.choice(fitting)
    subject = rng.choice(subjects)
    move = _move(frame, subject, rng)
    strengths = ("normal",) if frame.effect == "flip" else ("slight", "normal", "normal", "strong")
    strength = move.strength if move else rng.choice(strengths)
    kind = {"keep": f"{group}/{frame.verbs}", "flip": "negation", "none": "question", "level": "level"}[frame.effect]
    source = "company" if group in COMPANY | {"price", "short"} else "wire"
    found = []
    for sign in (1, -1):
        sentiment = sign if frame.verbs == "quality" else sign * subject.polarity
        scene = Scene(key, sign, sentiment, subject, move, strength)
        text = scene.fill(frame.template)
        sentiment *= {"keep": 1, "flip": -1}.get(frame.effect, 0)
        found.append(Invented(styled(text, replace(scene, sentiment=sentiment), source), _NEUTRAL + sentiment, kind))
    return found


@cache
def _fitting(table: str, group: str) -> list[tuple[Frame, list[Subject]]]:
    """Return the frames of a group of subjects, each with the subjects that it fits."""
    names = {group, "company"} if group in COMPANY else {group}
    frames = [frame for frame in tables.frames(table) if frame.group in names]
    return [(frame, subjects) for frame in frames if (subjects := _subjects(group, frame.verbs))]


@cache
def _subjects(group: str, verbs: str) -> list[Subject]:
    """Return a group's subjects that frames with these verbs fit, the main ones several times."""
    often = [each for each in tables.subjects() for _ in range(_MAIN if "main" in each.tags else 1)]
    return [each for each in often if each.group == group and _speaks_of(verbs, each)]


def _speaks_of(verbs: str, subject: Subject) -> bool:
    if verbs in tables.TAGGED:
        return verbs in subject.tags
    if verbs in ("beat", "please"):
        return subject.polarity > 0
    return verbs != "quality" or subject.polarity != 0


def _move(frame: Frame, subject: Subject, rng: Random) -> Move | None:
    figures = {"figure"} if subject.group in COMPANY | {"macro"} else set[str]()
    gaps = {"gap"} if "gap" in subject.tags else set[str]()
    kinds = {
        "move": {"move"} | figures,
        "profit": {"move"} | figures,
        "any": {"move"} | figures | gaps,
        "quality": {"quality", "please"} if subject.polarity > 0 else {"quality"},
        "anyprice": {"move", "price"} if subject.unit in PRICES else {"move"},
    }.get(frame.verbs, {frame.verbs})
    plain = frame.effect == "flip"  # "not to rise sharply" leaves open a rise
    fitting = _moves(frozenset(kinds), frame.sized, plain)
    return rng.choices(fitting, [move.weight for move in fitting])[0] if fitting else None


@cache
def _moves(kinds: frozenset[str], sized: bool, plain: bool) -> list[Move]:
    """Return the verbs of these kinds.

    `sized`: they go with a number; `plain`: they say nothing of strength.
    """
    found = [move for move in tables.moves() if move.kind in kinds and (move.sized or not sized)]
    return [move for move in found if move.strength == "normal" or not plain]


def _event(event: Event, key: int, source: str) -> list[Invented]:
    found = []
    for sign, template in ((1, event.good), (-1, event.bad)):
        if template:
            scene = Scene(key, sign, sign)
            found.append(Invented(styled(scene.fill(template), scene, source), _NEUTRAL + sign, event.kind))
    return found


def _written(row: tuple[str, str, str], key: int) -> Invented:
    kind, label, template = row
    sentiment = LABELS.index(label) - _NEUTRAL
    scene = Scene(key, 1, sentiment)
    source = "tweet" if kind.startswith("post") else "company" if "{co}" in template else "wire"
    text = styled(scene.fill(template), scene, source)
    return Invented(text.upper() if kind == "flash" else text, _NEUTRAL + sentiment, f"written_{kind}")


def _neutral(key: int, rng: Random) -> Invented:
    kind, template = rng.choice(tables.neutral())
    scene = Scene(key, 1, 0, rng.choice(_company_subjects()))
    source = "tweet" if kind == "tweet_neutral" else "company"
    return Invented(styled(scene.fill(template), scene, source), _NEUTRAL, kind)


@cache
def _company_subjects() -> list[Subject]:
    return [each for each in tables.subjects() if each.group in COMPANY]


def _weighted(shares: dict[str, int], rng: Random) -> str:
    names: Sequence[str] = list(shares)
    return rng.choices(names, weights=list(shares.values()))[0]
