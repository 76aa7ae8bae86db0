"""Numbers, durations and symbols as command-line options."""

import argparse
import re
from contextlib import suppress

from earlybird.schemas.symbols import canonical_symbol
from earlybird.stream.errors import InvalidTime
from earlybird.stream.timeline.instants import DURATION_FORMS, duration_us


def positive_int(text: str) -> int:
    """Parse a whole number above 0."""
    with suppress(ValueError):
        if (number := int(text)) > 0:
            return number
    raise argparse.ArgumentTypeError(f"a whole number above 0 expected, was {text!r}")


def positive_float(text: str) -> float:
    """Parse a number above 0."""
    return _positive_float(text, "a number above 0")


def speed(text: str) -> float | None:
    """Parse a multiple of the recorded speed; `max` is None, as fast as possible."""
    return None if text == "max" else _positive_float(text, "a number above 0 or max")


def seconds(text: str) -> float:
    """Parse a duration and return it in seconds.

    A plain number is in seconds; otherwise the unit is part of the text.
    """
    with suppress(InvalidTime):
        return duration_us(text if text[-1:].isalpha() else f"{text}s") / 1e6
    raise argparse.ArgumentTypeError(f"a number of seconds, or a duration like {DURATION_FORMS} expected, was {text!r}")


def as_utf8(argument: str) -> str:
    """Decode a text argument as UTF-8 where an ASCII locale has left its bytes undecoded."""
    return argument.encode(errors="surrogateescape").decode(errors="replace")


def symbol(written: str) -> str:
    """Parse an instrument in any spelling to its canonical name."""
    try:
        return canonical_symbol(written)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{written!r} names no instrument: {error}") from None


def add_from(parser: argparse.ArgumentParser, about: str | None = None) -> None:
    """Add --from, as read by stream.timeline.merge.parse_window."""
    parser._negative_number_matcher = re.compile(r"^-\d+(\.\d+)?(us|ms|s|m|h|d)?$")  # --from -2h works without =
    parser.add_argument("--from", dest="start", action="append", default=[], metavar="BOUND", help=about)


def add_bounds(parser: argparse.ArgumentParser) -> None:
    """Add --from and --to, as read by stream.timeline.merge.parse_window."""
    add_from(parser)
    parser.add_argument("--to", dest="end", action="append", default=[], metavar="BOUND", help="excluded")


def _positive_float(text: str, allowed: str) -> float:
    with suppress(ValueError):
        if 0 < (number := float(text)) < float("inf"):
            return number
    raise argparse.ArgumentTypeError(f"{allowed} expected, was {text!r}")
