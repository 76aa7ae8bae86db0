"""`earlybird evaluate --challenge` and `--fresh`: score a model on the texts of the package."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from earlybird.engine.config import BUNDLED
from earlybird.engine.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from earlybird.engine.evaluation.challenge import ChallengeScore, Row


def run_challenge(args: argparse.Namespace) -> int:
    """Score the policies, or the model's own, and print.

    The exit status is 0. Raises EngineError.
    """
    from rich.console import Console
    from rich.progress import Progress

    from earlybird.engine.evaluation.challenge import FILE, FRESH, challenge_outputs, read_challenge, score
    from earlybird.engine.training.data import Example, fingerprint

    given = {"FILE": args.texts, "--from": args.stored, "--keep": args.keep, "--html": args.html, "--svg": args.svg}
    given |= {"--baseline": args.baseline, "--choose": args.choose, "several models": (args.model or [])[1:]}
    for option, value in given.items():
        if value:
            raise ConfigError(f"challenge: its own texts and a table or JSON only, was {option}")
    items = read_challenge(FRESH if args.fresh else FILE)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("texts", total=None)
        outputs = challenge_outputs(
            (args.model or [BUNDLED])[0], items, lambda done, total: progress.update(task, completed=done, total=total)
        )
    scores = [score(policy, items, outputs) for policy in dict.fromkeys(args.policies or outputs.own)]
    if args.json:
        report = {
            "model_sha256": outputs.model_sha256,
            "texts_sha256": fingerprint([Example(item.text, item.label) for item in items]),
            "policies": [asdict(each) for each in scores],
        }
        print(json.dumps(report))
    else:
        _show("fresh set" if args.fresh else "challenge set", scores)
    return 0


def _show(name: str, scores: Sequence["ChallengeScore"]) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 140)
    for each in scores:
        console.print(_table(name, each))
        console.print(
            f"calibration error {each.calibration_error:.3f}; mean depth {each.mean_depth:.2f}"
            + (
                f"; pairs with both texts right {each.pairs_right} of {each.pairs}; "
                f"label changed by another company name {each.swapped_changed} of {each.swapped} "
                f"({_share(each.swapped_changed, each.swapped)})"
                if each.pairs
                else ""
            )
        )


def _table(name: str, found: "ChallengeScore") -> "Table":
    from rich.table import Table

    table = Table(title=f"{name}, {found.policy}", title_justify="left")
    table.add_column("phenomenon", no_wrap=True)
    for name in ("texts", "right", "", "opposite", "", "sure and wrong", "confidence right", "wrong"):
        table.add_column(name, justify="right")
    for row in found.phenomena:
        table.add_row(*_cells(row))
    table.add_section()
    table.add_row(*_cells(found.total))
    return table


def _cells(row: "Row") -> tuple[str, ...]:
    return (
        row.phenomenon.replace("_", " "),
        str(row.texts),
        str(row.right),
        _share(row.right, row.texts),
        str(row.opposite),
        _share(row.opposite, row.texts),
        str(row.sure_wrong),
        _mean(row.confidence_right),
        _mean(row.confidence_wrong),
    )


def _mean(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else ""
