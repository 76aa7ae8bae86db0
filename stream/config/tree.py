"""Merging and pruning of settings trees from files and the environment."""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

Tree = dict[str, Any]


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Tree:
    """Merge two trees; `above` wins, tables are merged, lists are replaced."""
    result = dict(below)
    for name, value in above.items():
        under = result.get(name)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        result[name] = merged(under, value) if both and under is not None else value
    return result


def without(tree: Mapping[str, Any], places: Sequence[tuple[int | str, ...]]) -> Tree:
    """Return the tree without these places, so that their defaults apply.

    Returns an empty tree when none of the places is in it.
    """
    result: Tree = json.loads(json.dumps(tree, default=str))
    before = json.dumps(result)
    for place in places:
        _remove(result, place)
    return {} if json.dumps(result) == before else result


def without_unreadable(variables: Mapping[str, str | None], complaint: str, prefix: str) -> dict[str, str | None]:
    """Return the variables without those of the field that the complaint names.

    Returns none of them where it names no field, so that a reader that tries again comes to an end.
    """
    named = re.search(r'field "(\w+)"', complaint)
    if named is None:
        return {}
    root = prefix.lower() + named[1]
    return {name: value for name, value in variables.items() if not (name == root or name.startswith(f"{root}__"))}


def _remove(node: Tree, place: Sequence[int | str]) -> None:
    """Remove one place from the tree, in place.

    A list is removed as a whole, since a list with one element less would mean something else. So is an option whose
    name has dots.
    """
    for name, following in pairwise(place):
        child = node.get(str(name))
        if not isinstance(child, dict) or str(following) not in child:
            node.pop(str(name), None)
            return
        node = child
    if place:
        node.pop(str(place[-1]), None)
