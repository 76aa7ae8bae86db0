"""Measure on this machine.

  engine   the engine and its peers side by side: texts/s, share of the hardware's limit, agreement
  flips    what a dtype does to the labels, exit layers and probabilities of a file of texts
  stage    the whole stage, records in to signals out
  replay   history computed again, beside the live stage and a plain pipeline

`earlybird bench WHAT --help` explains each.
"""

import argparse
import importlib
from typing import cast

from earlybird.stream.cli import Command

MODULES = {
    "engine": "earlybird.engine.bench.engine_command",
    "flips": "earlybird.engine.bench.flips_command",
    "stage": "earlybird.stream.bench.stage_command",
    "replay": "earlybird.stream.bench.replay_command",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to measure; the rest is that bench's own."""
    parser.add_argument("what", choices=MODULES)
    parser.add_argument("options", nargs=argparse.REMAINDER, metavar="...")


def run(args: argparse.Namespace) -> int:
    """The chosen bench's exit status; only its module is loaded."""
    bench = cast(Command, importlib.import_module(MODULES[args.what]))
    parser = argparse.ArgumentParser(
        prog=f"earlybird bench {args.what}",
        description=bench.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    bench.add_arguments(parser)
    return bench.run(parser.parse_args(args.options))
