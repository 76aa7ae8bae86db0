"""Counted things in a sentence."""


def quantity(number: int, noun: str) -> str:
    """Return a number with its noun: 1 text, 2,000 texts."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
