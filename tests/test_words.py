"""First lines of docstrings: one short sentence that a reader can act on."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from project import ROOT

PACKAGES = ("schemas", "engine", "stream")
MOST_WORDS = 15


def released() -> set[str]:
    """Return the descriptions in released message schemas: docstrings that can no longer change."""

    def described(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(text := node.get("description"), str):
                yield text
            for child in node.values():
                yield from described(child)

    schemas = (ROOT / "schemas" / "released").glob("*.json")
    return {text for path in schemas for text in described(json.loads(path.read_text(encoding="utf-8")))}


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of every docstring of a file, private functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield node.body[0].lineno, text


def faults(text: str) -> list[str]:
    """Return what is wrong with the first two lines of a docstring."""
    first, *rest = text.split("\n")
    words = len(first.split())
    found = [f"{words} words"] if words > MOST_WORDS else []
    if not first.endswith("."):
        found.append("no full stop at the end of line 1")
    if rest and rest[0].strip():
        found.append("no blank line after line 1")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_first_line_of_a_docstring_is_one_short_sentence(package: str) -> None:
    """Private functions are included: they are read as often as public ones."""
    kept = released()
    found = [
        f"{path.relative_to(ROOT)}:{line}: {', '.join(wrong)}: {text.splitlines()[0]}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, text in docstrings(path)
        if (wrong := faults(text)) and text not in kept
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Return the lag.", []),
        ("Return the lag.\n\nIn records.", []),
        ("Return the lag.\nIn records.", ["no blank line after line 1"]),
        ("Return the lag", ["no full stop at the end of line 1"]),
        (f"Return {'the ' * MOST_WORDS}lag.", [f"{MOST_WORDS + 2} words"]),
    ],
)
def test_faults_are_found(text: str, wrong: list[str]) -> None:
    """Check the rule itself on one docstring of each kind."""
    assert faults(text) == wrong
