"""Outputs of the models and texts that a command line names, computed or stored."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from earlybird.engine.config import BUNDLED
from earlybird.engine.errors import ConfigError

if TYPE_CHECKING:
    from earlybird.engine.evaluation.outputs import Outputs
    from earlybird.engine.training.data import Example

STORED = ".safetensors"


def one(args: argparse.Namespace) -> "Outputs":
    """Return one model's outputs for one file, or stored ones.

    `args`: texts and stored (a path or None, one of the two), model, and add_data_options. Raises EngineError.
    """
    from earlybird.engine.evaluation.outputs import Outputs

    if (args.texts is None) == (args.stored is None):
        raise ConfigError("texts: a file of labelled texts or --from FILE required, one of the two")
    if args.stored is not None:
        return Outputs.load(args.stored)
    return _computed(args.model, read_texts([args.texts], args), text_name(args.texts))


def models(args: argparse.Namespace) -> list["Outputs"]:
    """Return the outputs of every model of --model for every file, or those of --from.

    Without the models of --baseline and the texts of --choose, where a pattern of names covers them, too. Raises
    EngineError.
    """
    from earlybird.engine.evaluation.outputs import Outputs

    if bool(args.texts) == bool(args.stored):
        raise ConfigError("texts: files of labelled texts or --from FILE required, one of the two")
    if args.stored:
        left_out = {Path(name).resolve() for name in (*args.baseline, *args.choose)}
        kept = [Outputs.load(path) for path in args.stored if path.resolve() not in left_out]
        if not kept:
            raise ConfigError("from: outputs besides those of --baseline and --choose required, was none")
        return kept
    left_out = {Path(name).resolve() for name in args.baseline}
    names = [name for name in args.model or [BUNDLED] if name == BUNDLED or Path(name).resolve() not in left_out]
    return [found for path in args.texts for found in _each(names, path, args)]


def baselines(args: argparse.Namespace) -> list["Outputs"]:
    """Return the outputs of the models of --baseline, computed or stored."""
    from earlybird.engine.evaluation.outputs import Outputs

    stored = [name for name in args.baseline if name.endswith(STORED)]
    names = [name for name in args.baseline if not name.endswith(STORED)]
    if names and not args.texts:
        raise ConfigError("baseline: stored outputs required beside --from, was a model")
    return [Outputs.load(Path(name)) for name in stored] + [
        found for path in args.texts for found in _each(names, path, args)
    ]


def choice(args: argparse.Namespace) -> list["Outputs"]:
    """Return the models' outputs for the texts of --choose, computed or stored; empty without it."""
    from earlybird.engine.evaluation.outputs import Outputs

    stored = [Path(name) for name in args.choose if name.endswith(STORED)]
    texts = [Path(name) for name in args.choose if not name.endswith(STORED)]
    found = [Outputs.load(path) for path in stored]
    if texts:
        if args.stored:
            raise ConfigError("choose: stored outputs required beside --from, was a file of texts")
        examples = read_texts(texts, args)
        name = "+".join(text_name(path) for path in texts)
        found += [_kept(_computed(model, examples, name), args) for model in args.model or [BUNDLED]]
    return found


def by_texts(outputs: Iterable["Outputs"]) -> dict[str, list["Outputs"]]:
    """Group outputs by their file of texts."""
    found: dict[str, list[Outputs]] = {}
    for each in outputs:
        found.setdefault(each.texts or each.texts_sha256[:12], []).append(each)
    return found


def read_texts(paths: Sequence[Path], args: argparse.Namespace) -> list["Example"]:
    """Read files of labelled texts, one after another."""
    from earlybird.engine.training.data import Columns, read_examples

    columns = Columns(args.text_column, args.label_column)
    return [example for path in paths for example in read_examples(path, args.labels, columns)]


def text_name(path: Path) -> str:
    """Return a file's name without its endings."""
    return path.name.split(".")[0]


def _each(names: Sequence[str], path: Path, args: argparse.Namespace) -> list["Outputs"]:
    if not names:
        return []
    examples = read_texts([path], args)
    return [_kept(_computed(name, examples, text_name(path)), args) for name in names]


def _kept(outputs: "Outputs", args: argparse.Namespace) -> "Outputs":
    """Store outputs in the folder of --keep, if there is one."""
    if args.keep is not None:
        args.keep.mkdir(parents=True, exist_ok=True)
        outputs.save(args.keep / f"{Path(outputs.model).name}.{outputs.texts}{STORED}")
    return outputs


def _computed(model: str, examples: Sequence["Example"], name: str) -> "Outputs":
    from rich.console import Console
    from rich.progress import Progress

    from earlybird.engine.evaluation.outputs import outputs_of

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{name}, {model}", total=len(examples))
        return outputs_of(model, examples, lambda done, total: progress.update(task, completed=done, total=total), name)
