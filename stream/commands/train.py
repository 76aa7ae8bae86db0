"""Train a model for the stage on your own texts, with a published early-exit strategy.

  earlybird train --start albert-base-v2 --train texts.csv --strategy elbert --output runs/mine
  earlybird train --start bundled --train news.jsonl --labels up=positive,flat=neutral,down=negative --output runs/2
  EARLYBIRD_MODEL=runs/mine/seed-0/model earlybird run

Files: .jsonl, .csv, .tsv (columns text and label) or .txt (text@label), also .gz. Without --dev one tenth of the texts
is the dev set, which chooses the best epoch. Another tenth is kept for `earlybird calibrate` and never trained on.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from earlybird.engine.config import AdapterConfig, Classifiers, LearnedExits
from earlybird.engine.errors import ConfigError

if TYPE_CHECKING:
    from earlybird.engine.training.job import Watch
    from earlybird.engine.training.loop import Epoch

STRATEGIES = ("last", "joint", "elbert", "two_stage", "deebert", "fastbert", "alternating", "berxit", "pf_berxit")

PRECISIONS = ("float32", "bfloat16")
STORED = ("float16", "int8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `earlybird train`."""
    data = parser.add_argument_group("data")
    data.add_argument("--train", type=Path, nargs="+", required=True, metavar="FILE", help="labelled texts")
    data.add_argument("--dev", type=Path, metavar="FILE", help="labelled texts to choose the best epoch by")
    data.add_argument(
        "--calibration", type=float, default=0.0, metavar="S", help="with --dev: keep this share for `calibrate`"
    )
    data.add_argument("--unlabelled", type=Path, nargs="+", default=[], metavar="FILE", help="texts for --teacher")
    data.add_argument("--invented", type=int, metavar="N", help="add N texts of `earlybird invent`")
    data.add_argument(
        "--augment", metavar="HOW", help="back-translation=MODEL_OUT,MODEL_BACK or module:function, see docs/model.md"
    )
    data.add_argument("--augment-cache", type=Path, metavar="FOLDER", help="default: in the run folder")
    add_data_options(data)
    data.add_argument("--texts", type=int, metavar="N", help="at most N texts, labels in proportion")
    model = parser.add_argument_group("model")
    model.add_argument(
        "--start", required=True, metavar="MODEL", help="bundled, a model folder, an ALBERT folder or hub name"
    )
    model.add_argument("--scratch", action="store_true", help="draw the weights: only --start's sizes and tokenizer")
    model.add_argument(
        "--layer",
        type=int,
        nargs="+",
        metavar="K",
        help="--start is a BERT-like encoder: its layer K (from 0) for all passes, or one layer for each",
    )
    model.add_argument(
        "--embedding-size", type=int, default=128, metavar="E", help="with --layer; default: %(default)s"
    )
    model.add_argument(
        "--vocabulary",
        metavar="MODEL",
        help="with --layer: keep only the word pieces of this model, such as bundled (default: all of the start's)",
    )
    model.add_argument("--layers", type=int, metavar="D", help="passes at most (default: as the start has them)")
    model.add_argument(
        "--groups",
        type=int,
        metavar="G",
        help="layers with weights of their own, at most one per pass (default: as the start)",
    )
    model.add_argument("--classifiers", choices=get_args(Classifiers), help="default: as the strategy needs them")
    model.add_argument("--learned-exits", choices=get_args(LearnedExits), help="default: as the strategy needs them")
    model.add_argument(
        "--adapters", type=_adapters, metavar="rank=32,placement=ffn,module=identity", help="PF-BERxiT's"
    )
    model.add_argument("--profile", default="natural-v3", help="text profile (default: %(default)s)")
    model.add_argument("--max-tokens", type=int, metavar="N", help="default: the start's positions")
    model.add_argument(
        "--stored",
        choices=STORED,
        default="float16",
        help="weights in the file: int8 takes half the room, computes in float32 all the same (default: %(default)s)",
    )
    how = parser.add_argument_group("training")
    how.add_argument("--strategy", choices=STRATEGIES, default="elbert", help="default: %(default)s")
    how.add_argument("--teacher", nargs="+", default=[], metavar="MODEL", help="classifiers whose mean is distilled")
    how.add_argument("--teacher-cache", type=Path, metavar="FOLDER", help="default: in the run folder")
    how.add_argument(
        "--teacher-share", type=float, default=0.5, metavar="S", help="of a labelled text's loss (default: %(default)s)"
    )
    how.add_argument(
        "--temperature", type=float, default=1.0, metavar="T", help="of distillation (default: %(default)s)"
    )
    how.add_argument(
        "--mix",
        type=_mix,
        nargs="+",
        default=(),
        metavar="MODEL=SHARE",
        help="this share of another model's weights in the result",
    )
    how.add_argument("--epochs", type=int, default=3, metavar="N", help="of each phase (default: %(default)s)")
    how.add_argument("--learning-rate", type=float, default=3e-5, metavar="R", help="default: %(default)s")
    how.add_argument("--head-learning-rate", type=float, metavar="R", help="of heads and adapters (default: the same)")
    add_pass_options(how)
    how.add_argument("--patience", type=int, metavar="N", help="stop a phase after N epochs without a better one")
    how.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="one run each (default: 0)")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="the run folder")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run, to the same weights")


def add_data_options(parser: "argparse._ActionsContainer") -> None:
    """Declare how labelled files are read, for `train`, `evaluate` and `calibrate`."""
    parser.add_argument(
        "--labels", type=_labels, metavar="THEIRS=OURS,...", help="map labels to negative, neutral, positive"
    )
    parser.add_argument("--text-column", default="text", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--label-column", default="label", metavar="NAME", help="default: %(default)s")


def add_pass_options(parser: "argparse._ActionsContainer") -> None:
    """Declare how passes are computed, for `train` and `teach`."""
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="default: %(default)s")
    parser.add_argument("--dropout", type=float, default=0.1, metavar="P", help="default: %(default)s")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="of the passes: bfloat16 is faster on CPUs that have it",
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Train and print the model folders; the exit status is 0. Raises EngineError."""
    import torch

    from earlybird.engine.training.train import train

    torch.set_num_threads(args.threads)
    job = _job(args)
    with display() as watch:
        outcome = train(job, watch, resume=args.resume)
    for folder, quality in zip(outcome.folders, outcome.qualities, strict=True):
        mark = "  <- median" if folder == outcome.chosen and len(outcome.folders) > 1 else ""
        print(f"{folder}  mean macro-F1 of the exits {quality:.3f}{mark}")
    print(f"next: EARLYBIRD_MODEL={outcome.chosen} earlybird classify FILE", file=sys.stderr)
    return 0


def _job(args: argparse.Namespace) -> Any:
    from earlybird.engine.config import BUNDLED
    from earlybird.engine.engine import BUNDLED_FOLDER
    from earlybird.engine.training.data import Columns
    from earlybird.engine.training.job import Job
    from earlybird.engine.training.loop import Recipe
    from earlybird.engine.training.targets import Distillation

    chosen: dict[str, Any] = {
        "start": str(BUNDLED_FOLDER) if args.start == BUNDLED else args.start,
        "vocabulary": str(BUNDLED_FOLDER) if args.vocabulary == BUNDLED else args.vocabulary,
        "columns": Columns(args.text_column, args.label_column),
        "teachers": tuple(args.teacher),
    }
    distillation = Distillation(args.teacher_share, args.temperature)
    recipe = Recipe(**named_like(Recipe, args), seed=args.seeds[0], distillation=distillation)
    return Job(**named_like(Job, args) | chosen, recipe=recipe)


def named_like(kind: type[Any], args: argparse.Namespace) -> dict[str, Any]:
    """Return the options that are named like fields of this dataclass; lists become tuples."""
    found = {field.name: getattr(args, field.name) for field in fields(kind) if hasattr(args, field.name)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


@contextmanager
def display() -> Iterator["Watch"]:
    """Show progress on stderr.

    A bar per phase shows the time left, a line per epoch the loss and the score of every exit.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from earlybird.engine.training.job import Watch

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tasks: dict[str, Any] = {}

    class Shown(Watch):
        def data(self, sizes: Mapping[str, int]) -> None:
            progress.print("texts: " + ", ".join(f"{name} {size:,}" for name, size in sizes.items()))

        def teacher(self, name: str, done: int, total: int) -> None:
            self._show(f"teacher {name}", done, total)

        def augmentation(self, name: str, done: int, total: int) -> None:
            self._show(f"augment {name}", done, total)

        def step(self, seed: int, phase: str, step: int, steps: int, loss: float) -> None:
            self._show(f"seed {seed}: {phase}", step, steps, f" loss {loss:.3f}")

        def epoch(self, seed: int, epoch: "Epoch") -> None:
            losses = " ".join(f"{score.loss:.2f}" for score in epoch.dev)
            exits = " ".join(f"{score.macro_f1:.3f}" for score in epoch.dev)
            done = f"seed {seed}: {epoch.phase}, epoch {epoch.number}"
            best = " best" if epoch.best else ""
            progress.print(f"{done}: loss {epoch.loss:.3f}; dev by exit: loss {losses}, macro-F1 {exits}{best}")

        def _show(self, name: str, done: int, total: int, more: str = "") -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done, description=name + more)

    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield Shown()


def _labels(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(theirs and ours for theirs, _, ours in pairs):
        raise argparse.ArgumentTypeError(f"THEIRS=OURS,... expected, was {text!r}")
    return {theirs: ours for theirs, _, ours in pairs}


def _mix(text: str) -> tuple[str, float]:
    model, _, share = text.rpartition("=")
    try:
        return model, float(share)
    except ValueError:
        raise argparse.ArgumentTypeError(f"MODEL=SHARE expected, was {text!r}") from None


def _adapters(text: str) -> AdapterConfig:
    values: dict[str, Any] = {key: value for key, _, value in (part.partition("=") for part in text.split(",") if part)}
    try:
        if "rank" in values:
            values["rank"] = int(values["rank"])
        return AdapterConfig(**values)
    except (TypeError, ValueError, ConfigError) as error:
        raise argparse.ArgumentTypeError(f"rank=N,placement=...,module=... expected, was {text!r}: {error}") from None
