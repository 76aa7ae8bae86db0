"""`earlybird evaluate --paper`: the tables of the two papers for your models and texts."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earlybird.engine.config import BUNDLED
from earlybird.engine.errors import ConfigError
from earlybird.stream.commands import model_outputs

if TYPE_CHECKING:
    from earlybird.engine.evaluation.outputs import Outputs
    from earlybird.engine.evaluation.paper import Measure, PaperTable
    from earlybird.engine.evaluation.speed import Run


def run_paper(args: argparse.Namespace) -> int:
    """Compute the tables and print them; the exit status is 0. Raises EngineError."""
    from earlybird.engine.evaluation import paper_berxit, paper_elbert
    from earlybird.engine.evaluation.paper import Models

    given = {
        "--policies": args.policies,
        "--html": args.html,
        "--svg": args.svg,
        "--baseline": args.baseline,
        "--markdown": args.markdown,
    }
    for option, value in given.items():
        if value:
            raise ConfigError(f"paper: models and texts only, was {option}")
    found = model_outputs.by_texts(model_outputs.models(args))
    models = Models(found, {each.model_sha256: each for each in model_outputs.choice(args)})
    measure = _measure(args)
    tables = [*paper_elbert.tables(models, measure), *paper_berxit.tables(models, measure)]
    if args.json:
        print(json.dumps({"tables": [_json(table) for table in tables]}))
    else:
        _show(tables)
    return 0


def _measure(args: argparse.Namespace) -> "Measure":
    """Return a function that runs a model of --model over its texts.

    Each model's texts are tokenised once.
    """
    from earlybird.engine.evaluation.speed import Slots
    from earlybird.engine.weights import load

    if not args.texts:
        return lambda *_: None
    folders: dict[str, str] = {}
    loaded: dict[tuple[str, str], Slots] = {}
    paths = {model_outputs.text_name(path): path for path in args.texts}

    def measure(outputs: "Outputs", policy: str, slots: int) -> "Run | None":
        if not folders:
            from earlybird.engine.engine import BUNDLED_FOLDER

            names = args.model or [BUNDLED]
            folders.update({load(BUNDLED_FOLDER if n == BUNDLED else Path(n)).sha256: n for n in names})
        key = outputs.model_sha256, outputs.texts
        if key not in loaded:
            examples = model_outputs.read_texts([paths[outputs.texts]], args)
            loaded[key] = Slots(folders[outputs.model_sha256], examples)
        print(f"{outputs.model} on {outputs.texts}: {policy}, {slots} slots", file=sys.stderr)
        return loaded[key].run(policy, slots)

    return measure


def _json(table: "PaperTable") -> dict[str, Any]:
    """Return a table with the numbers behind its cells, and the texts of other cells."""
    rows = [[cell.text if cell.value is None else cell.value for cell in row] for row in table.rows]
    return {
        "paper": table.paper,
        "table": table.number,
        "title": table.title,
        "columns": table.columns,
        "rows": [[None if cell == "-" else cell for cell in row] for row in rows],
        "notes": table.notes,
    }


def _show(tables: Sequence["PaperTable"]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 160)
    for each in tables:
        shown = Table(title=f"{each.paper}, {each.number}. {each.title}", title_justify="left")
        for number, name in enumerate(each.columns):
            shown.add_column(name, justify="right" if number else "left", overflow="fold")
        for row in each.rows:
            shown.add_row(*(cell.text for cell in row))
        console.print(shown)
        for note in each.notes:
            console.print(f"- {note}", markup=False, highlight=False)
        console.print()
