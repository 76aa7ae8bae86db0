"""Styles of sources: agency prefixes, source notes, sentences around a text, capitals."""

import re
from collections.abc import Callable
from random import Random

from earlybird.engine.training.invented.scene import Scene
from earlybird.engine.training.invented.tables import contexts

_PLACES: dict[tuple[str, ...], int] = {(): 50, ("before",): 20, ("after",): 23, ("before", "after"): 7}
_CASES: tuple[tuple[float, Callable[[str], str]], ...] = (
    (0.04, str.upper),
    (0.05, lambda text: " ".join(word[:1].upper() + word[1:] for word in text.split(" "))),
    (0.04, str.lower),
    (0.12, lambda text: text if text.endswith((".", "?", "!", ":")) else f"{text}."),
)


def styled(text: str, scene: Scene, source: str) -> str:
    """Return a text as a source of this kind would send it.

    `source` is company, wire (the text names no company) or tweet.
    """
    rng = Random(scene.key + 1)
    for place in rng.choices(list(_PLACES), list(_PLACES.values()))[0]:
        text = _surround(text, scene, source, place, rng)
    drawn = rng.random()
    for share, changed in _CASES:
        if drawn < share and (source != "tweet" or changed is not _CASES[1][1]):
            return changed(text)
        drawn -= share
    return text


def _surround(text: str, scene: Scene, source: str, place: str, rng: Random) -> str:
    fitting = [row for row in contexts() if row[0] == place and _fits(row, scene, source)]
    _, style, template = rng.choice(fitting)
    around = scene.fill(template, capital=style != "tweet")
    if place == "before":
        if style == "contrast" and text.startswith(scene.company("1")):
            around = f"{around.removesuffix(':')},"
        return f"{around} {text}"
    if around.startswith(","):
        return text if re.search(r"\bsa(y|ys|id)\b|\?$", text) else text.removesuffix(".") + around
    end = "." if style == "any" and not text.endswith((".", "?", "!")) else ""
    return f"{text}{end} {around}"


def _fits(row: tuple[str, str, str], scene: Scene, source: str) -> bool:
    _, style, template = row
    if source == "tweet":
        return style == "tweet"
    if style == "contrast":
        return scene.sentiment != 0 and source == "company"
    if source == "wire":
        return style == "wire" and "{co}" not in template
    return style != "tweet"
