"""Effect of a dtype on real decisions: labels and exit layers that differ from float32.

Also the largest change of a probability. Reads a file's texts (one text per line, or JSON lines with `text` or
`headline`).

The exit status is 0 whatever the figures: judging them is left to the reader.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from earlybird.engine.bench.measure import torch_threads
from earlybird.engine.bench.ours import drained
from earlybird.engine.bench.real import requests_of
from earlybird.engine.config import BUNDLED, EngineConfig
from earlybird.engine.engine import Engine
from earlybird.engine.types import Verdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `earlybird bench flips`."""
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--dtype", choices=["bfloat16", "int8"], default="int8")
    parser.add_argument("--model", default=BUNDLED, metavar="FOLDER", help="(default: the bundled model)")
    parser.add_argument("--policy", help="(default: the model's)")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Run the command; raises EngineError."""
    with torch_threads(1):
        exact, other = (
            Engine.load(
                EngineConfig(
                    args.model,
                    args.policy,
                    runner="packed",
                    device="cpu",
                    dtype=dtype,
                    deterministic=False,
                )
            )
            for dtype in ("float32", args.dtype)
        )
        requests = requests_of(exact, args.file)
        report = flips(
            *({verdict.ticket: verdict for verdict in drained(each.runner(), requests)} for each in (exact, other))
        )
    if args.json:
        print(json.dumps({"model": exact.model_id, "policy": exact.policy.spec, "dtype": args.dtype, **report}))
        return 0
    print(f"{exact.model_id}, {exact.policy.spec}, {args.dtype} against float32, {report['texts']} texts")
    print(f"labels that differ:       {report['labels']} ({report['labels'] / report['texts']:.2%})")
    print(f"exit layers that differ:  {report['layers']} ({report['layers'] / report['texts']:.2%})")
    print(f"largest probability change: {report['max_change']:.4f} over all texts")
    print(f"  of texts with the same exit layer: {report['max_change_same_layer']:.4f}")
    return 0


def flips(exact: Mapping[int, Verdict], other: Mapping[int, Verdict]) -> dict[str, float]:
    """Count differing labels and exit layers over the same tickets.

    Also returns the largest changes of a probability.
    """
    pairs = [(verdict, other[ticket]) for ticket, verdict in exact.items()]
    changes = [(a.exit_layer == b.exit_layer, _change(a, b)) for a, b in pairs]
    return {
        "texts": len(pairs),
        "labels": sum(a.label != b.label for a, b in pairs),
        "layers": sum(not same for same, _ in changes),
        "max_change": max(change for _, change in changes),
        "max_change_same_layer": max((change for same, change in changes if same), default=0.0),
    }


def _change(one: Verdict, other: Verdict) -> float:
    return max(abs(a - b) for a, b in zip(one.probs, other.probs, strict=True))
