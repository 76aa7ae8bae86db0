"""Parsers by name: those of this package, and those of the entry-point group `earlybird.feeds`.

A house adds its own format with a function of type Parser in a package that declares it:

    [project.entry-points."earlybird.feeds"]
    acme = "acme_feeds.wire:parse"
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from earlybird.stream.feeds.base import Parser
from earlybird.stream.feeds.seen import FeedParser

GROUP = "earlybird.feeds"
OWN = "earlybird"
"""Name of our own format, which has no parser here: see stream.parsing.records."""

FRAMED = "schema-registry"
"""Name of our own format in a schema registry's frame, as JSON or Avro; it has no parser here either."""
OURS = (OWN, FRAMED)

_BUILT_IN: Mapping[str, str] = {
    "alpaca": "alpaca:parse",
    "benzinga": "benzinga:parse",
    "finnhub": "finnhub:parse",
    "gdelt": "gdelt:parse",
    "massive": "massive:parse",
    "mrn": "mrn:parse",
    "newsapi": "newsapi:parse",
    "polygon": "massive:parse",
    "reddit": "reddit:parse",
    "rss": "rss:parse",
    "stocktwits": "stocktwits:parse",
    "tiingo": "tiingo:parse",
    "x": "x:parse",
}
_ASSEMBLERS: Mapping[str, str] = {"mrn": "fragments:Assembler"}


def names() -> list[str]:
    """Return the names of all formats, sorted; nothing is loaded."""
    return sorted({*_BUILT_IN, *(entry.name for entry in _entries())})


def parser(name: str) -> Parser:
    """Return the pure parser of a format.

    It reads each record by itself, like those of a topic. Raises ValueError for an unknown name, and for an entry point
    that cannot be loaded.
    """
    if name in _BUILT_IN:
        return _own(_BUILT_IN[name])
    found = [entry for entry in _entries() if entry.name == name]
    if not found:
        raise ValueError(f"one of {', '.join(names())} required")
    return _loaded(found[0])


def topic_parsers(formats: Mapping[str, str]) -> dict[str, Parser]:
    """Return the parsers of topics; those of our own formats have none."""
    return {topic: parser(name) for topic, name in formats.items() if name not in OURS}


def feed_parser(name: str) -> FeedParser:
    """Return a new parser with memory, for one feed.

    It assembles fragments and knows edits by what it saw. Raises ValueError as `parser` does.
    """
    if name in _ASSEMBLERS:
        return FeedParser(_own(_ASSEMBLERS[name])())
    return FeedParser(parser(name))


def _own(place: str) -> Callable[..., Any]:
    module, _, attribute = place.partition(":")
    found: Callable[..., Any] = getattr(import_module(f"earlybird.stream.feeds.{module}"), attribute)
    return found


def _entries() -> list[EntryPoint]:
    return [*entry_points(group=GROUP)]


def _loaded(entry: EntryPoint) -> Parser:
    try:
        found = entry.load()
    except Exception as error:  # a third party's code
        raise ValueError(f"{entry.value} cannot be loaded: {type(error).__name__}: {error}") from None
    if not callable(found):
        raise ValueError(f"{entry.value} is no function")
    parser: Parser = found
    return parser
