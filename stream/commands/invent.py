"""Print invented labelled texts, as `earlybird train --invented` trains on them.

  earlybird invent 60
  earlybird invent 20000 --seed 1 --balanced > texts.jsonl

One JSON object per line: text, label, kind. A directional text is followed by its mirror, the same news with the
opposite sign. Companies, people and towns do not exist.
"""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `earlybird invent`."""
    parser.add_argument("count", type=int, metavar="N", help="number of texts")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: %(default)s")
    parser.add_argument("--balanced", action="store_true", help="as many texts of each label")


def run(args: argparse.Namespace) -> int:
    """Print the texts; the exit status is 0. Raises ConfigError."""
    from earlybird.engine.manifest import LABELS
    from earlybird.engine.training.invented.invent import invent

    for each in invent(args.count, args.seed, balanced=args.balanced):
        print(json.dumps({"text": each.text, "label": LABELS[each.label], "kind": each.kind}, ensure_ascii=False))
    return 0
