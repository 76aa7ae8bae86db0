"""`earlybird evaluate` with several models: accuracy at equal cost, as tables, picture or JSON."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

from earlybird.engine.errors import ConfigError
from earlybird.stream.commands import model_outputs

if TYPE_CHECKING:
    from rich.table import Table

    from earlybird.engine.evaluation.compare import Cell, Comparison, Row


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
    if args.markdown is not None:
        tables = map(markdown, dict.fromkeys(sheet for each in comparisons for sheet in sheets(each, targets)))
        args.markdown.write_text("\n".join([legend(comparisons[0]), "", *tables]), "utf-8")
    if args.json:
        print(json.dumps({"comparisons": [asdict(each) for each in comparisons]}))
    else:
        _show(comparisons, targets)
    return 0


class Sheet(NamedTuple):
    """One table, to be shown on a terminal or written as Markdown."""

    title: str
    columns: tuple[str, ...]  # the first is a name, the others are figures or settings
    rows: tuple[tuple[str, ...], ...]


def sheets(found: "Comparison", targets: Sequence[float]) -> list[Sheet]:
    """Return the tables of one file of texts: accuracies at equal cost, and exit settings."""
    title = f"{found.texts}, {found.count:,} texts: accuracy"
    pairs = [name for target in targets for name in (f"saves {target:.0%}: exits", "fixed depth")]
    accuracies: list[tuple[str, ...]] = [
        (row.name, str(row.seeds), *(_accuracy(cell) for cell in (row.full, *_cells(row, targets))))
        for row in found.rows
    ]
    if found.baselines:
        best = [text for target in targets for text in ("", _accuracy(found.trained[target]))]
        accuracies.append(("best of those trained at a depth", "", "", *best))
    settings = [
        (row.name, *("none" if (cell := row.exits[target]) is None else cell.policies[0] for target in targets))
        for row in found.rows
    ]
    trained = [(name, str(len(cell.policies)), _accuracy(cell)) for name, cell in found.baselines]
    families = [
        (name, *(text for target in targets for text in _family(cells[target])))
        for name, cells in found.families.items()
    ]
    by_target = [name for target in targets for name in (f"saves {target:.0%}", "models")]
    whose = "" if found.chosen_elsewhere else f"{found.texts}: "
    saved = [f"saves {target:.0%}" for target in targets]
    named = [
        Sheet(title, ("model", "seeds", "full depth", *pairs), tuple(accuracies)),
        Sheet(f"{found.texts}: trained at a smaller depth, all passes", ("model", "seeds", "accuracy"), tuple(trained)),
        Sheet(f"{found.texts}: the median model, by family of exits", ("family", *by_target), tuple(families)),
        Sheet(f"{whose}exit settings of the first seed", ("model", *saved), tuple(settings)),
    ]
    return [sheet for sheet in named if sheet.rows]


def legend(found: "Comparison") -> str:
    """Explain the cells of an accuracy table."""
    where = "other texts" if found.chosen_elsewhere else "these texts"
    return (
        f"In brackets: the share saved of the operations of {found.reference} at full depth, and with several seeds, "
        f"whose median is shown, the largest minus the smallest accuracy. Settings were chosen on {where}."
    )


def markdown(sheet: Sheet) -> str:
    """Return a table as Markdown."""
    code = "settings" in sheet.title
    rows = [[name, *(f"`{text}`" if code else text for text in texts)] for name, *texts in sheet.rows]
    rule = ["---", *["---" if code else "---:"] * (len(sheet.columns) - 1)]
    lines = [
        f"| {' | '.join(row)} |"
        for row in (sheet.columns, rule, *([r[0] if " " in r[0] else f"`{r[0]}`", *r[1:]] for r in rows))
    ]
    return "\n".join([f"**{sheet.title}**", "", *lines, ""])


def _show(comparisons: Sequence["Comparison"], targets: Sequence[float]) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 160)
    for each in comparisons:
        for sheet in sheets(each, targets):
            console.print(_table(sheet))
        console.print(legend(each))


def _table(sheet: Sheet) -> "Table":
    from rich.table import Table

    table = Table(title=sheet.title, title_justify="left")
    for number, name in enumerate(sheet.columns):
        figures = number > 0 and "settings" not in sheet.title
        table.add_column(name, justify="right" if figures else "left", overflow="fold", no_wrap=number == 0)
    for row in sheet.rows:
        table.add_row(*row)
    return table


def _cells(row: "Row", targets: Sequence[float]) -> "list[Cell | None]":
    return [cells[target] for target in targets for cells in (row.exits, row.fixed)]


def _family(cell: "Cell | None") -> tuple[str, str]:
    return ("none", "0") if cell is None else (f"{cell.accuracy:.3f} ({cell.saved:.0%})", str(len(cell.policies)))


def _accuracy(cell: "Cell | None") -> str:
    if cell is None:
        return "none"
    spread = f"; {cell.spread:.3f}" if len(cell.policies) > 1 else ""
    return f"{cell.accuracy:.3f} ({round(cell.saved, 2) + 0.0:.0%}{spread})"  # + 0.0: no -0%
