"""Train a teacher for `earlybird train --teacher`: a whole BERT-like encoder.

  earlybird teach --start e5-small-v2.onnx --train texts.csv --output teachers/plain
  earlybird teach --start teachers/plain/teacher --train texts.csv --invented 9000 --output teachers/invented
  earlybird train --start bundled --train texts.csv --unlabelled titles.jsonl --teacher teachers/invented/teacher ...

--start is an ONNX file of a BERT encoder with its tokenizer beside it (tokenizer.json or NAME-tokenizer.json; reading
it needs the package onnx), a Hugging Face BERT folder with a tokenizer.json, or a teacher of this command.
"""

import argparse
from pathlib import Path

from earlybird.stream.commands.train import add_data_options, add_pass_options, display, named_like


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `earlybird teach`."""
    parser.add_argument("--start", required=True, metavar="MODEL", help="see above")
    parser.add_argument("--train", type=Path, nargs="+", required=True, metavar="FILE", help="labelled texts")
    parser.add_argument("--dev", type=Path, metavar="FILE", help="labelled texts to choose the best epoch by")
    parser.add_argument(
        "--calibration", type=float, default=0.0, metavar="S", help="with --dev: leave this share out, as `train` does"
    )
    parser.add_argument("--invented", type=int, metavar="N", help="add N texts of `earlybird invent`")
    parser.add_argument("--texts", type=int, metavar="N", help="at most N texts, labels in proportion")
    add_data_options(parser)
    parser.add_argument(
        "--first-layer", type=int, default=4, metavar="K", help="train from layer K, counted from 0 (%(default)s)"
    )
    parser.add_argument(
        "--keep-start", type=float, default=0.0, metavar="S", help="share of the start's weights in the result (0)"
    )
    parser.add_argument("--profile", default="natural-v3", help="text profile (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=80, metavar="N", help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--learning-rate", type=float, default=1e-4, metavar="R", help="default: %(default)s")
    parser.add_argument("--head-learning-rate", type=float, default=1e-3, metavar="R", help="default: %(default)s")
    add_pass_options(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="the run folder")


def run(args: argparse.Namespace) -> int:
    """Train and print the teacher's folder; the exit status is 0. Raises EngineError."""
    import torch

    from earlybird.engine.training.data import Columns
    from earlybird.engine.training.job import Job
    from earlybird.engine.training.loop import Recipe
    from earlybird.engine.training.teach import TEACHER, teach

    torch.set_num_threads(args.threads)
    columns = Columns(args.text_column, args.label_column)
    recipe = Recipe(**named_like(Recipe, args))
    job = Job(**named_like(Job, args), strategy=TEACHER, columns=columns, seeds=(args.seed,), recipe=recipe)
    with display() as watch:
        folder = teach(job, args.first_layer, args.keep_start, watch)
    print(folder)
    return 0
