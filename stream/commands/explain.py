"""Show pass by pass how the model reaches its answer on one text.

  earlybird explain "Norvex cuts full-year outlook"
  earlybird explain "Norvex cuts full-year outlook" --html way.html

All passes are shown, those after the exit too. Per pass: probabilities, normalised entropy, how near the exit rule was
to another decision, what it has counted in a row, and the words with the most attention, summed over the passes so far.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earlybird.engine.config import BUNDLED, EngineConfig
from earlybird.stream.commands.arguments import as_utf8

if TYPE_CHECKING:
    from earlybird.engine.evaluation.explain import Explanation, Pass

SHOWN = 3  # words shown per pass in the terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `earlybird explain`."""
    parser.add_argument("text", type=as_utf8, help="one text, in quotes")
    parser.add_argument("--model", default=BUNDLED, metavar="FOLDER", help="default: the bundled model")
    parser.add_argument("--policy", metavar="SPEC", help="default: the model's own")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one page, nothing loaded from elsewhere")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(args: argparse.Namespace) -> int:
    """Explain one text; the exit status is 0. Raises EngineError."""
    import torch

    from earlybird.engine.engine import Engine
    from earlybird.engine.errors import ConfigError
    from earlybird.engine.evaluation.explain import explain

    torch.set_num_threads(1)
    engine = Engine.load(EngineConfig(model=args.model, policy=args.policy, runner="reference", device="cpu"))
    found = explain(engine, args.text)
    if args.html is not None:
        from earlybird.engine.evaluation.explain_page import page

        try:
            args.html.write_text(page(found), "utf-8")
        except OSError as error:
            raise ConfigError(f"{args.html}: cannot be written, {error.strerror}") from None
    if args.json:
        print(json.dumps(asdict(found)))
    else:
        _show(found)
    return 0


def _show(found: "Explanation") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    console.print(Text(found.text, style="bold"))
    table = Table(title=f"policy {found.policy}", title_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    for name in ("pass", "neg.", "neu.", "pos.", "entropy", "margin"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("window", no_wrap=True)
    table.add_column("exit", no_wrap=True)
    table.add_column("attention so far", min_width=16)
    for each in found.passes:
        late = each.layer > found.exit_layer
        table.add_row(
            str(each.layer),
            *(f"{share:.2f}" for share in each.probs),
            f"{each.entropy:.3f}",
            "-" if each.distance == float("inf") else f"{each.distance:.3f}",
            each.window,
            each.reason,
            _top_words(found, each),
            style="dim" if late else "bold" if each.exits else None,
        )
    console.print(table)
    if found.reported is not None:
        shares = ", ".join(f"{share:.2f}" for share in found.reported)
        console.print(f"a signal reports {shares}: the temperature of exits after pass {found.exit_layer}")
    if found.exit_layer < len(found.passes):
        console.print(
            Text("dimmed passes are never computed in the stage: they show what would have come", style="dim")
        )


def _top_words(found: "Explanation", each: "Pass") -> Any:
    from rich.text import Text

    order = sorted(range(len(found.words)), key=lambda place: -each.attention[place])[:SHOWN]
    return Text(" ".join(f"{found.words[place]}\u00a0{each.attention[place]:.2f}" for place in order))
