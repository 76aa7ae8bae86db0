"""Measure the linking of symbols by a table of names, per text, on one core.

Beside it run the Aho-Corasick library alone, which takes names inside of words and in any case and knows neither dates
nor context, and a loop of one regular expression per name. Names and texts are invented; in about every second text a
name of the table stands. `--file` takes texts of your own, one per line.
"""

import argparse
import gc
import json
import re
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

from ahocorasick_rs import AhoCorasick, MatchKind
from rich.box import SIMPLE_HEAD
from rich.table import Table

from earlybird.engine.text.assembly import Text
from earlybird.engine.training.invented.invent import invent
from earlybird.engine.training.invented.names import company
from earlybird.schemas.base import EARLIEST_US, LATEST_US
from earlybird.stream.bench.tables import bench_console
from earlybird.stream.commands.arguments import positive_int
from earlybird.stream.linking.linker import LONGEST_PART, Linker
from earlybird.stream.linking.table import Alias, SymbolTable
from earlybird.stream.linking.words import framed, split

REPEATS = 5
REGEX_TEXTS = 5
_NOW_US = 1_770_000_000_000_000


class Timed(NamedTuple):
    """CPU time per text of one way, the best of its repeats."""

    name: str
    us: float
    linked: int  # texts with at least one name

    def ratio(self, other: "Timed") -> float:
        """Return how many times as long the other takes."""
        return other.us / self.us


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how many names and texts are measured."""
    parser.add_argument("--names", type=positive_int, default=100_000, help="names in the table (default 100,000)")
    parser.add_argument("--texts", type=positive_int, default=5_000, help="texts (default 5,000)")
    parser.add_argument("--file", type=Path, help="texts of your own, one per line")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout; the table goes to stderr")


def run(args: argparse.Namespace) -> int:
    """Measure and print; the exit status is 0."""
    names = invented_names(args.names)
    if args.file is None:
        texts = [each.text for each in invent(args.texts)]
    else:
        with args.file.open(encoding="utf-8", errors="replace") as lines:
            texts = [line.strip() for line in islice(lines, args.texts)]
    started_s = time.process_time()
    linker = linker_of(names)
    built_s = time.process_time() - started_s
    timed = measure(linker, names, texts)
    console, table = bench_console(stderr=args.json), Table(box=SIMPLE_HEAD)
    for column in ("way", "us per text", "times linking", "texts with a name"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for each in timed:
        table.add_row(each.name, f"{each.us:,.1f}", f"{timed[0].ratio(each):,.2f}", f"{each.linked:,}")
    console.print(table)
    length = sum(map(len, texts)) / len(texts)
    console.print(
        f"{len(names):,} names, {len(texts):,} texts of {length:.0f} characters on average; "
        f"the table takes {built_s:.1f} s at the start"
    )
    if args.json:
        print(json.dumps({"names": len(names), "built_s": built_s, "ways": [each._asdict() for each in timed]}))
    return 0


def invented_names(count: int) -> list[str]:
    """Return so many different names of companies, in order."""
    rng, names = Random(f"names/{count}"), dict[str, None]()
    while len(names) < count:
        name = company(rng)
        # The invented words make some 80,000 names; further ones get a second word.
        names[f"{name} {company(rng).split()[0]}" if name in names else name] = None
    return list(names)


def linker_of(names: Sequence[str]) -> Linker:
    """Return a linker of these names, each with a symbol of its own."""
    rows = (
        Alias(framed(split(name)), f"S{number}", "", EARLIEST_US, LATEST_US, (), 1.0)
        for number, name in enumerate(names)
    )
    return Linker(SymbolTable(tuple(rows)), every=True)


def measure(linker: Linker, names: Sequence[str], texts: Sequence[str]) -> list[Timed]:
    """Time each way, linking first.

    The loop of expressions gets a few texts only.
    """
    library = AhoCorasick([name.lower() for name in names], matchkind=MatchKind.LeftmostLongest, store_patterns=False)
    expressions = [re.compile(rf"\b{re.escape(name)}\b") for name in names]
    wide = " ".join(texts)
    long_texts = [
        wide[start : start + LONGEST_PART] for start in range(0, min(len(wide), 100 * LONGEST_PART), LONGEST_PART)
    ]

    def linked(text: str) -> bool:
        return bool(linker.symbols(Text((text,)), _NOW_US))

    return [
        _timed("earlybird", linked, texts),
        _timed("Aho-Corasick library alone", lambda text: bool(library.find_matches_as_indexes(text.lower())), texts),
        _timed(f"earlybird, {LONGEST_PART:,} characters", linked, long_texts),
        _timed(
            "one regular expression per name",
            lambda text: sum(expression.search(text) is not None for expression in expressions) > 0,
            texts[:REGEX_TEXTS],
            1,
        ),
    ]


def _timed(name: str, way: Callable[[str], bool], texts: Sequence[str], repeats: int = REPEATS) -> Timed:
    best_s, linked = float("inf"), 0
    gc.collect()
    gc.disable()
    for _ in range(repeats):
        start_s = time.process_time()
        linked = sum(map(way, texts))
        best_s = min(best_s, time.process_time() - start_s)
    gc.enable()
    return Timed(name, best_s / len(texts) * 1e6, linked)
