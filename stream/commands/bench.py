"""Measure performance on this machine.

  engine   the engine and its peers side by side: texts/s, share of the hardware's limit, agreement
  burst    latency under a burst, with and without exits that follow the load
  flips    effect of a dtype on the labels, exit layers and probabilities of a file of texts
  stage    the whole stage, from records in to signals out
  link     symbols linked by a table of names, per text
  replay   recomputed history, beside the live stage and a plain pipeline

`earlybird bench WHAT --help` explains each.
"""

import argparse
import importlib
from typing import cast

from earlybird.stream.cli import Command

MODULES = {
    "engine": "earlybird.engine.bench.engine_command",
    "burst": "earlybird.engine.bench.burst_command",
    "flips": "earlybird.engine.bench.flips_command",
    "stage": "earlybird.stream.bench.stage_command",
    "link": "earlybird.stream.bench.link_command",
    "replay": "earlybird.stream.bench.replay_command",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the choice of bench; each bench parses its own options."""
    parser.add_argument("what", choices=MODULES)
    parser.add_argument("options", nargs=argparse.REMAINDER, metavar="...")


def run(args: argparse.Namespace) -> int:
    """Run the chosen bench and return its exit status; only its module is imported."""
    bench = cast(Command, importlib.import_module(MODULES[args.what]))
    parser = argparse.ArgumentParser(
        prog=f"earlybird bench {args.what}",
        description=bench.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    bench.add_arguments(parser)
    return bench.run(parser.parse_args(args.options))
