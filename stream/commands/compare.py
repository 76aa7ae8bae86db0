"""`earlybird evaluate` with several models: accuracy at equal cost, as tables, picture or JSON."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from earlybird.engine.errors import ConfigError
from earlybird.stream.commands import model_outputs

if TYPE_CHECKING:
    from rich.table import Table

    from earlybird.engine.evaluation.compare import Cell, Comparison


def run_compare(args: argparse.Namespace, targets: Sequence[float]) -> int:
    """Compare models on every file and print; the exit status is 0. Raises EngineError."""
    from earlybird.engine.evaluation.compare import compare

    for option, value in (("--policies", args.policies), ("--html", args.html)):
        if value is not None:
            raise ConfigError(f"evaluate: {option} is for one model and one file without --choose")
    judged = model_outputs.by_texts(model_outputs.models(args))
    shallow = model_outputs.by_texts(model_outputs.baselines(args))
    choose = model_outputs.choice(args)
    comparisons = [compare(models, shallow.get(texts, []), choose, targets) for texts, models in judged.items()]
    if args.svg is not None:
        from earlybird.engine.evaluation.plots import accuracy_of_models

        args.svg.write_text(accuracy_of_models(comparisons), "utf-8")
    if args.json:
        print(json.dumps({"comparisons": [asdict(each) for each in comparisons]}))
    else:
        _show(comparisons, targets)
    return 0


def _show(comparisons: Sequence["Comparison"], targets: Sequence[float]) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 160)
    for each in comparisons:
        where = "other texts" if each.chosen_elsewhere else "these texts"
        console.print(_accuracies(each, targets))
        console.print(
            f"In brackets: the share saved of the operations of {each.reference} at full depth. Settings were chosen "
            f"on {where}. Several seeds: the median; spread: largest minus smallest.",
        )
        console.print(_settings(each, targets))


def _accuracies(found: "Comparison", targets: Sequence[float]) -> "Table":
    from rich.table import Table

    table = Table(title=f"{found.texts}, {found.count:,} texts: accuracy", title_justify="left")
    table.add_column("model", no_wrap=True)
    for name in ("seeds", "full depth", "spread"):
        table.add_column(name, justify="right")
    for target in targets:
        table.add_column(f"saves {target:.0%}: exits", justify="right")
        table.add_column("fixed depth", justify="right")
    for row in found.rows:
        pairs = [_accuracy(cells[target]) for target in targets for cells in (row.exits, row.fixed)]
        table.add_row(row.name, str(row.seeds), f"{row.full.accuracy:.3f}", f"{row.full.spread:.3f}", *pairs)
    if found.baselines:
        table.add_section()
        pairs = [text for target in targets for text in ("", _accuracy(found.trained[target]))]
        table.add_row("best of those below", "", "", "", *pairs)
        for name, cell in found.baselines:
            table.add_row(name, str(len(cell.policies)), _accuracy(cell), f"{cell.spread:.3f}")
    return table


def _settings(found: "Comparison", targets: Sequence[float]) -> "Table":
    from rich.table import Table

    table = Table(title="exit settings of the first seed", title_justify="left")
    table.add_column("model", no_wrap=True)
    for target in targets:
        table.add_column(f"saves {target:.0%}", overflow="fold")
    for row in found.rows:
        cells: list[Any] = [row.exits[target] for target in targets]
        table.add_row(row.name, *("none" if cell is None else cell.policies[0] for cell in cells))
    return table


def _accuracy(cell: "Cell | None") -> str:
    return "none" if cell is None else f"{cell.accuracy:.3f} ({cell.saved:.0%})"
