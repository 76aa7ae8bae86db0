"""Compare exit policies of a model on labelled texts: accuracy, calibration, depth and cost.

  earlybird evaluate texts.jsonl
  earlybird evaluate texts.csv --model runs/mine/seed-0/model --policies fixed:2 cwb:delta=0.5,window=2
  earlybird evaluate a.csv b.csv --model runs/*/seed-*/model --baseline runs/shallow/seed-0/model --choose c.csv
  earlybird evaluate a.csv b.csv --model runs/*/seed-*/model --paper
  earlybird evaluate --challenge

One forward pass per model stores the output of every exit; all policies are computed from it. Without --policies every
family is tried over its usual range, and the best of each is shown at equal cost and at equal accuracy, beside fixed
depths; a policy that follows the load is shown policy by policy, since there is no queue here. With several models or
files, or with --choose, models are compared: the best exit setting of each at equal cost, beside its fixed depths and
models trained at a smaller depth (--baseline). --paper prints the tables of ELBERT and PF-BERxiT for your models and
texts. --challenge scores the model's own policy, or those of --policies, on invented texts, phenomenon by phenomenon;
--fresh on texts by writers who knew neither the model nor its invented training texts.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earlybird.engine.config import BUNDLED
from earlybird.engine.errors import ConfigError
from earlybird.stream.commands import model_outputs
from earlybird.stream.commands.challenge import run_challenge
from earlybird.stream.commands.compare import run_compare
from earlybird.stream.commands.paper import run_paper
from earlybird.stream.commands.train import add_data_options

if TYPE_CHECKING:
    from earlybird.engine.evaluation.outputs import Outputs
    from earlybird.engine.evaluation.paired import Paired
    from earlybird.engine.evaluation.sweep import Matched, Point

SAVED = (0.25, 0.5, 0.75)
LOST = (0.0, 0.01)
DEPTHS = ("fixed", "trained", "full")  # families that give every text the same depth


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `earlybird evaluate`."""
    parser.add_argument("texts", type=Path, nargs="*", metavar="FILE", help="labelled texts, as for `earlybird train`")
    parser.add_argument("--model", nargs="+", metavar="FOLDER", help="default: the bundled model")
    parser.add_argument(
        "--baseline", nargs="+", default=[], metavar="MODEL", help="models at their full depth; also stored outputs"
    )
    parser.add_argument(
        "--choose", nargs="+", default=[], metavar="FILE", help="choose exit settings on these texts or stored outputs"
    )
    parser.add_argument("--policies", nargs="+", metavar="SPEC", help="these only")
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="store the outputs of all exits (safetensors); a folder for several"
    )
    parser.add_argument(
        "--from", dest="stored", type=Path, nargs="+", metavar="FILE", help="outputs stored by --keep, not texts"
    )
    parser.add_argument("--paper", action="store_true", help="print the tables of the two papers")
    parser.add_argument("--challenge", action="store_true", help="score the challenge set by phenomenon")
    parser.add_argument("--fresh", action="store_true", help="score the fresh set by source: wire headlines and posts")
    add_data_options(parser)
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one page with curves (needs matplotlib)")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write accuracy against cost as a picture")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables of several models as Markdown")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print; the exit status is 0. Raises EngineError."""
    import torch

    from earlybird.engine.evaluation.compare import trained_point
    from earlybird.engine.evaluation.paired import against_depths
    from earlybird.engine.evaluation.sweep import at_accuracy, at_cost, sweep

    if args.svg or args.html:
        importlib.import_module("matplotlib")  # missed before the model has run, not after
    torch.set_num_threads(1)
    if args.challenge or args.fresh:
        return run_challenge(args)
    if args.paper:
        return run_paper(args)
    if args.choose or max(len(args.texts), len(args.model or []), len(args.stored or [])) > 1:
        return run_compare(args, SAVED)
    if args.markdown is not None:
        raise ConfigError("evaluate: --markdown is for several models or files, or for --choose")
    outputs = _one(args)
    if args.keep is not None:
        outputs.save(args.keep)
    chosen = None if args.policies is None else dict.fromkeys([*args.policies, outputs.policy, "full"])
    points = sweep(outputs, chosen)
    baselines = argparse.Namespace(**dict(vars(args), keep=None))
    points += [trained_point(baseline, outputs) for baseline in model_outputs.baselines(baselines)]
    matched = [] if chosen else [match for saved in SAVED for match in at_cost(points, saved)]
    cheapest = [] if chosen else [match for lost in LOST for match in at_accuracy(points, lost)]
    paired = against_depths(outputs)
    if args.svg is not None:
        from earlybird.engine.evaluation.plots import accuracy_against_cost

        args.svg.write_text(accuracy_against_cost(points, outputs.own), "utf-8")
    if args.html is not None:
        from earlybird.engine.evaluation.report import report

        title = f"{outputs.model} on {(args.texts or args.stored)[0].name}"
        args.html.write_text(report(title, outputs, points, matched, cheapest, paired), "utf-8")
    if args.json:
        print(json.dumps(_report(outputs, points, matched, cheapest, paired)))
    else:
        _show(outputs, points, matched, cheapest, paired)
    return 0


def _one(args: argparse.Namespace) -> "Outputs":
    """Return the outputs of the only model for the only file."""
    asked = dict(vars(args), texts=next(iter(args.texts), None), model=(args.model or [BUNDLED])[0])
    return model_outputs.one(argparse.Namespace(**asked | {"stored": args.stored[0] if args.stored else None}))


def _report(
    outputs: "Outputs",
    points: Sequence["Point"],
    matched: Sequence["Matched"],
    cheapest: Sequence["Matched"],
    paired: Sequence["Paired"],
) -> dict[str, Any]:
    return {
        "model_sha256": outputs.model_sha256,
        "texts_sha256": outputs.texts_sha256,
        "texts": len(outputs),
        "left_out": outputs.left_out,
        "layers": outputs.config.layers,
        "points": [asdict(point) for point in points],
        "at_saved": [asdict(match) for match in matched],
        "at_accuracy_lost": [asdict(match) for match in cheapest],
        "own_against_depths": [asdict(pair) for pair in paired],
    }


def _show(
    outputs: "Outputs",
    points: Sequence["Point"],
    matched: Sequence["Matched"],
    cheapest: Sequence["Matched"],
    paired: Sequence["Paired"],
) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 140)
    left = f", {outputs.left_out} left out: nothing to read" if outputs.left_out else ""
    console.print(
        f"{len(outputs):,} texts{left}; {outputs.config.layers} layers; the model's own policy {outputs.policy}"
    )
    if not matched:
        console.print(_table("policies", [(None, point) for point in points]))
        console.print(_against(paired))
        return
    fixed = [point for point in points if point.family in DEPTHS or point.policy in outputs.own]
    console.print(_table("fixed depths, and the model's own policy", [(None, point) for point in fixed]))
    console.print(_against(paired))
    for title, found, unit in (
        ("most accurate of each family at a cost", matched, "saves at least"),
        ("cheapest of each family at an accuracy", cheapest, "loses at most"),
    ):
        rows = [(f"{unit} {match.target:.0%}", match.point) for match in found if match.point is not None]
        console.print(_table(title, rows))


def _table(title: str, rows: Sequence[tuple[str | None, "Point"]]) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    if any(target for target, _ in rows):
        table.add_column("target", no_wrap=True)
    for name in ("policy", "accuracy", "macro-F1", "ECE", "depth", "GFLOP", "saved", "lost", "won"):
        table.add_column(name, justify="left" if name == "policy" else "right", overflow="fold")
    for target, point in rows:
        cells = (
            point.policy,
            f"{point.accuracy:.3f}",
            f"{point.macro_f1:.3f}",
            f"{point.calibration_error:.3f}",
            f"{point.mean_depth:.2f}",
            f"{point.gflops:.3f}",
            f"{point.saved:.0%}",
            str(point.lost),
            str(point.won),
        )
        table.add_row(*((target, *cells) if target else cells))
    return table


def _against(paired: Sequence["Paired"]) -> Any:
    from rich.table import Table

    table = Table(title="the model's own policy against fixed depths, on the same texts", title_justify="left")
    for name in ("policy", "against", "accuracy", "95 % interval", "won", "lost", "cost of the other"):
        table.add_column(name, justify="left" if name in ("policy", "against") else "right", overflow="fold")
    for pair in paired:
        points = f"{100 * pair.low:+.1f} to {100 * pair.high:+.1f}"
        counts = (str(pair.won), str(pair.lost), f"{pair.cost:.2f}x")
        table.add_row(pair.policy, pair.against, f"{100 * pair.difference:+.1f} points", points, *counts)
    return table
