"""Numbers and durations as options of commands take them."""

import argparse
import re
from contextlib import suppress

from earlybird.stream.errors import InvalidTime
from earlybird.stream.timeline.instants import DURATION_FORMS, duration_us


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


def seconds(text: str) -> float:
    """A length of time in seconds: a number, as the option's SECONDS says, or a duration with its unit."""
    with suppress(InvalidTime):
        return duration_us(text if text[-1:].isalpha() else f"{text}s") / 1e6
    raise argparse.ArgumentTypeError(f"a number of seconds, or a duration like {DURATION_FORMS} expected, was {text!r}")


def add_bounds(parser: argparse.ArgumentParser) -> None:
    """--from and --to, as stream.timeline.merge.parse_bounds reads them."""
    parser._negative_number_matcher = re.compile(r"^-\d+(\.\d+)?(us|ms|s|m|h|d)?$")  # so that --from -2h needs no =
    parser.add_argument("--from", dest="start", action="append", default=[], metavar="BOUND")
    parser.add_argument("--to", dest="end", action="append", default=[], metavar="BOUND", help="excluded")


def _positive_float(text: str, allowed: str) -> float:
    with suppress(ValueError):
        if 0 < (number := float(text)) < float("inf"):
            return number
    raise argparse.ArgumentTypeError(f"{allowed} expected, was {text!r}")
