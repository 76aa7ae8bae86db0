"""Numbers as options of commands take them."""

import argparse
from contextlib import suppress


def positive_int(text: str) -> int:
    """A whole number above 0."""
    with suppress(ValueError):
        if (number := int(text)) > 0:
            return number
    raise argparse.ArgumentTypeError(f"a whole number above 0 expected, was {text!r}")


def positive_float(text: str) -> float:
    """A number above 0."""
    return _positive_float(text, "a number above 0")


def speed(text: str) -> float | None:
    """How many times as fast as recorded; None: as fast as it goes."""
    return None if text == "max" else _positive_float(text, "a number above 0 or max")


def _positive_float(text: str, allowed: str) -> float:
    with suppress(ValueError):
        if 0 < (number := float(text)) < float("inf"):
            return number
    raise argparse.ArgumentTypeError(f"{allowed} expected, was {text!r}")
