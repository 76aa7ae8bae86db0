"""Make, check and measure a table of names and their symbols.

  earlybird symbols build --sec company_tickers.json --output symbols.csv
  earlybird symbols check symbols.csv
  earlybird symbols link "Norvex lifts its outlook" --table symbols.csv
  earlybird symbols evaluate labelled.jsonl.zst --preset flat --table symbols.csv

`build` makes a table of the SEC's company file. `check` names every fault of a table with its line, or prints its hash.
`link` shows what a text is linked to. `evaluate` prints precision and recall on items that carry symbols: raw
items, or flat lines as `earlybird feed --preset flat` takes them. Exit status 1: some lines could not be read.
"""

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from earlybird.engine.text.assembly import Text
from earlybird.schemas.raw import RAW, RawNews, RawTweet
from earlybird.stream.errors import SettingsError
from earlybird.stream.linking.evaluation import evaluate
from earlybird.stream.linking.linker import Linker
from earlybird.stream.linking.sec import build
from earlybird.stream.linking.table import SymbolTable
from earlybird.stream.observability.escape import escaped
from earlybird.stream.publishing.field_map import FLAT, FieldMap
from earlybird.stream.publishing.files import FeedFile
from earlybird.stream.publishing.line_format import BadLine, FeedItem, LineFormat
from earlybird.stream.timeline.instants import instant_us, written


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb, its inputs and the table."""
    parser.add_argument("verb", choices=["build", "check", "link", "evaluate"], metavar="{build,check,link,evaluate}")
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="check: tables; link: texts; evaluate: files")
    parser.add_argument("--table", type=Path, metavar="FILE", help="link, evaluate: the table")
    parser.add_argument("--sec", type=Path, metavar="FILE", help="build: company_tickers.json or ..._exchange.json")
    parser.add_argument("--output", type=Path, metavar="FILE", help="build: the new table (default: stdout)")
    parser.add_argument(
        "--at", default="now", metavar="INSTANT", help="link: when the text was published (default: now)"
    )
    parser.add_argument(
        "--preset", choices=["flat"], help="evaluate: lines with kind, text, published_at, symbols, ..."
    )
    parser.add_argument("--labelled-only", action="store_true", help="evaluate: leave out items without symbols")
    parser.add_argument("--examples", action="store_true", help="evaluate: print wrong and missed texts")
    parser.add_argument("--json", action="store_true", help="evaluate: one JSON object")


def run(args: argparse.Namespace) -> int:
    """Run the verb; see the module's docstring for the exit status."""
    if args.verb == "build":
        return _build(args)
    if not args.inputs:
        raise SettingsError(f"symbols {args.verb}: an input required")
    if args.verb == "check":
        return _check([Path(each) for each in args.inputs])
    if args.table is None:
        raise SettingsError(f"symbols {args.verb}: --table FILE required")
    linker = Linker(SymbolTable.read(args.table), every=True)
    return _evaluate(linker, args) if args.verb == "evaluate" else _link(linker, args)


def _build(args: argparse.Namespace) -> int:
    if args.sec is None:
        raise SettingsError("symbols build: --sec FILE required")
    try:
        content = args.sec.read_bytes()
    except OSError as error:
        raise SettingsError(f"{args.sec}: {error.strerror}") from None
    built = build(content)
    with ExitStack() as stack:
        file = sys.stdout if args.output is None else stack.enter_context(args.output.open("w", encoding="utf-8"))
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("alias", "symbol", "exchange", "context"))
        table.writerows(built.rows)
    ambiguous = sum(bool(row[-1]) for row in built.rows)
    print(
        f"{len(built.rows):,} names, {ambiguous:,} of them with context words; "
        f"{len(built.shared):,} left out, as several companies share them",
        file=sys.stderr,
    )
    return 0


def _check(paths: list[Path]) -> int:
    for path in paths:
        table = SymbolTable.read(path)
        symbols = {alias.symbol for alias in table.aliases} - {""}
        undated = f", {table.undated:,} without valid_from" if table.undated else ""
        print(f"{path}: ok, {len(table.aliases):,} names of {len(symbols):,} symbols{undated}; signals say:")
        for name, every in (("missing", False), ("every", True)):
            print(f"  symbols.link={name}  symbol_table={Linker(table, every=every).hash}")
    return 0


def _link(linker: Linker, args: argparse.Namespace) -> int:
    at_us = instant_us(args.at, time.time_ns() // 1000, "--at")
    for text in args.inputs:
        symbols = [symbol.model_dump(mode="json", exclude_none=True) for symbol in linker.symbols(Text((text,)), at_us)]
        print(json.dumps({"text": text, "at": written(at_us), "symbols": symbols}, ensure_ascii=False))
    return 0


def _evaluate(linker: Linker, args: argparse.Namespace) -> int:
    bad: list[BadLine] = []
    form = LineFormat(FieldMap(FLAT) if args.preset else None, assume_delay_us=0)
    items = (item for each in args.inputs for item in _items(Path(each), form, bad))
    found = evaluate(linker, items, labelled_only=args.labelled_only)
    for line in bad[:10]:
        print(f"left out: {line.place}: {escaped(line.why)}", file=sys.stderr)
    if len(bad) > 10:
        print(f"left out: {len(bad) - 10:,} more lines", file=sys.stderr)
    report = found.report()
    print(json.dumps(report) if args.json else "\n".join(_told(report)))
    if args.examples:
        for kind, examples in found.examples.items():
            for symbol, text in examples:
                print(f"{kind}  {symbol}  {escaped(text)}")
    return 1 if bad else 0


def _items(path: Path, form: LineFormat, bad: list[BadLine]) -> Iterator[RawNews | RawTweet]:
    for line in FeedFile(path).items(form):
        if isinstance(line, BadLine):
            bad.append(line)
        elif isinstance(line, FeedItem):
            yield RAW.validate_json(line.value)


def _told(report: dict[str, Any]) -> list[str]:
    shares = "  ".join(
        f"{name} {'-' if report[name] is None else format(report[name], '.3f')}"
        for name in ("precision", "recall", "f1")
    )
    return [
        f"{report['texts']:,} texts, {report['with_symbols']:,} with symbols; {report['linked']:,} linked",
        f"{report['right']:,} right, {report['wrong']:,} wrong, {report['missed']:,} missed: {shares}",
        f"{report['unjudged']:,} links to symbols that no item carries, which is not judged",
        *(
            f"{name.replace('_', ' ')}: " + (", ".join(f"{each} {n:,}" for each, n in report[name].items()) or "none")
            for name in ("most_wrong", "most_missed")
        ),
    ]
