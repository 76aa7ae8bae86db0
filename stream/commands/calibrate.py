"""Choose an exit threshold that loses at most a stated share of texts.

  earlybird calibrate runs/mine/calibration.jsonl --model runs/mine/seed-0/model --policy "cwb:delta=*,window=2" --write

With --write the policy and its certificate go into the model folder. A text is lost when full depth classifies it
correctly and the early exit does not. Thresholds (the `*` of --policy) are tested from the safest down by exact
binomial tests; the first failure ends the sequence. The texts must not have been used for training or model choice:
texts that a run of `earlybird train` has seen are refused.

--temperatures fits, for the policy chosen, one temperature per exit depth, so that a reported confidence is the share
of texts that are right. Exit decisions stay as they are. Errors before and after are of texts that the fit had not
seen: five parts, each judged by a fit on the others.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earlybird.engine.config import BUNDLED
from earlybird.stream.commands import model_outputs
from earlybird.stream.commands.train import add_data_options

if TYPE_CHECKING:
    from earlybird.engine.evaluation.calibrate import Certificate, Tested
    from earlybird.engine.evaluation.temperatures import Fitted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `earlybird calibrate`."""
    parser.add_argument("texts", type=Path, nargs="?", metavar="FILE", help="labelled texts that the model never saw")
    parser.add_argument("--model", default=BUNDLED, metavar="FOLDER", help="default: the bundled model")
    parser.add_argument("--policy", default="cwb:delta=*,window=2", metavar="SPEC", help="default: %(default)s")
    parser.add_argument("--max-lost", type=float, default=0.01, metavar="SHARE", help="of texts (default: %(default)s)")
    parser.add_argument("--confidence", type=float, default=0.95, metavar="SHARE", help="default: %(default)s")
    parser.add_argument("--from", dest="stored", type=Path, metavar="FILE", help="outputs stored by `evaluate --keep`")
    parser.add_argument("--temperatures", action="store_true", help="fit the reported probabilities per exit depth")
    parser.add_argument("--write", action="store_true", help="policy and certificate into the folder's manifest.json")
    add_data_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(args: argparse.Namespace) -> int:
    """Calibrate and print the result.

    Exit status 0: certified, 1: no threshold passed. Raises EngineError.
    """
    import torch

    from earlybird.engine.errors import ConfigError
    from earlybird.engine.evaluation.calibrate import candidates, certificate, fixed_sequence
    from earlybird.engine.evaluation.certify import write_certificate
    from earlybird.engine.evaluation.temperatures import fit_temperatures

    torch.set_num_threads(1)
    if args.write and args.model == BUNDLED:
        raise ConfigError("write: a model folder of yours required, was the bundled model")
    _refuse_seen(args)
    outputs = model_outputs.one(args)
    specs = candidates(args.policy, outputs.config.layers, outputs.certainty is not None)
    tested = fixed_sequence(outputs, specs, args.max_lost, args.confidence)
    found = certificate(outputs, tested, args.max_lost, args.confidence)
    fitted = fit_temperatures(outputs, found.policy) if args.temperatures and found is not None else None
    if args.write and found is not None:
        write_certificate(Path(args.model), found, fitted.temperatures if fitted and fitted.helps else None)
    if args.json:
        print(json.dumps(_report(tested, found, fitted)))
        return 0 if found else 1
    _show(tested, found)
    if fitted is not None:
        _show_temperatures(fitted)
    return 0 if found else 1


def _report(tested: "list[Tested]", found: "Certificate | None", fitted: "Fitted | None") -> dict[str, Any]:
    report: dict[str, Any] = {"certificate": found and asdict(found), "tested": [asdict(each) for each in tested]}
    if fitted is not None:
        report["temperatures"] = {
            **fitted.temperatures.model_dump(mode="json"),
            "helps": fitted.helps,
            "depths": [asdict(each) for each in (*fitted.depths, fitted.together)],
        }
    return report


def _refuse_seen(args: argparse.Namespace) -> None:
    """Refuse texts that the model's training run has seen. Raises ConfigError."""
    from earlybird.engine.errors import ConfigError
    from earlybird.engine.training.data import Columns, hashes, read_examples
    from earlybird.engine.training.run_folder import read_seen

    seen = None if args.model == BUNDLED or args.texts is None else read_seen(Path(args.model))
    if seen is None:
        return
    examples = read_examples(args.texts, args.labels, Columns(args.text_column, args.label_column))
    known = hashes(examples) & seen
    if known:
        raise ConfigError(f"calibration: texts that the training has not seen required, {len(known)} were in it")


def _show(tested: "list[Tested]", found: "Certificate | None") -> None:
    for each in tested[-5:]:
        point = each.point
        verdict = "certified" if each.certified else "not certified: the sequence ends"
        print(
            f"{point.policy}: lost {point.lost}, won {point.won}, depth {point.mean_depth:.2f}, "
            f"p = {each.p_value:.2g}: {verdict}"
        )
    if found is None:
        print("no threshold loses few enough texts; more texts or another policy are needed")
        return
    print(
        f"certificate: {found.policy} loses at most {found.max_lost:.1%} of texts at {found.confidence:.0%} confidence "
        f"(seen: {found.lost} lost and {found.won} won of {found.texts:,}, net {found.won - found.lost:+d})"
    )


def _show_temperatures(fitted: "Fitted") -> None:
    names = ("exit after", "texts", "temperature", "ECE before", "after", "loss before", "after")
    print(f"temperatures of {fitted.temperatures.policy}, judged on texts that the fit had not seen:")
    print("  ".join(name.rjust(6) for name in names))
    for each in (*fitted.depths, fitted.together):
        shared = "" if each.own or each.temperature is None else "*"
        cells = (
            "all" if each.depth is None else str(each.depth),
            str(each.texts),
            "" if each.temperature is None else f"{each.temperature:.3f}{shared}",
            f"{each.error_before:.3f}",
            f"{each.error_after:.3f}",
            f"{each.loss_before:.4f}",
            f"{each.loss_after:.4f}",
        )
        print("  ".join(cell.rjust(max(len(name), 6)) for name, cell in zip(names, cells, strict=True)))
    if not all(each.own for each in fitted.depths):
        print("* few texts exit there: fitted on all texts")
    if not fitted.helps:
        print("the loss is not lower with them: the probabilities stay as they are, nothing is written")
