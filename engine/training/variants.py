"""Variants of labelled texts for `train --unlabelled`, by neighbours in word embeddings.

  python -m earlybird.engine.training.variants TEACHER variants.jsonl texts.jsonl=3 more.jsonl=1

A variant has some words replaced and may mean something else, so teachers label it. Name the files as `train` reads
them, in its order and as often, with its --dev, --calibration and --seed: texts of dev and calibration get no variant.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

from earlybird.engine.errors import ConfigError, DataError, EngineError, NotAModel
from earlybird.engine.training.data import Example, normal_form, read_examples, split, without
from earlybird.engine.training.encoder import load_teacher

NEIGHBOURS = 8
CASHTAGS = 0.5  # share of the cashtags that become another one of the texts
WORD, CASHTAG = re.compile(r"[A-Za-z]+"), re.compile(r"\$[A-Z]{1,5}\b")
NO_WORDS = re.compile(rf"({CASHTAG.pattern}|https?://\S+|@\w+)")
BATCH = 512


def neighbours(teacher: Path, words: set[str]) -> dict[str, list[str]]:
    """Return the nearest words of each word that is one piece; raises NotAModel.

    Nearest by cosine. Letters: V pieces, W pieces that are words in lower case, H hidden size, B batch.
    """
    loaded = load_teacher(teacher)
    pieces = sorted(loaded.reader.tokenizer.pieces.get_vocab().items(), key=lambda piece: int(piece[1]))
    ids = {name: number for name, number in pieces if re.fullmatch("[a-z]{3,}", name)}
    if not ids:
        raise NotAModel(f"{teacher}: a tokenizer with whole words in lower case required")
    rows = loaded.network.encoder.get_input_embeddings().weight.detach().float()  # (V, H)
    rows = (rows - rows.mean(dim=0))[list(ids.values())]  # (W, H)
    rows /= rows.norm(dim=1, keepdim=True).clamp_min(1e-6)
    names, found = list(ids), {}
    wanted = [row for row, name in enumerate(names) if name in words]
    for start in range(0, len(wanted), BATCH):
        some = wanted[start : start + BATCH]
        nearest = (rows[some] @ rows.T).topk(min(NEIGHBOURS + 1, len(names))).indices  # (B, 9), a word's own row too
        for row, others in zip(some, nearest.tolist(), strict=True):
            found[names[row]] = [names[other] for other in others if other != row][:NEIGHBOURS]
    return found


def variant(text: str, near: Mapping[str, list[str]], cashtags: Sequence[str], share: float, rng: Random) -> str:
    """Replace a share of the words and half of the cashtags; links and handles stay."""

    def replaced(match: re.Match[str]) -> str:
        word, others = match[0], near.get(match[0].lower())
        if not others or rng.random() > share:
            return word
        other = rng.choice(others)
        return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other

    parts = NO_WORDS.split(text)  # cashtags, links and handles at odd places
    for place in range(1, len(parts), 2):
        if parts[place].startswith("$") and rng.random() < CASHTAGS:
            parts[place] = rng.choice(cashtags)
    return "".join(part if place % 2 else WORD.sub(replaced, part) for place, part in enumerate(parts))


def variants(
    teacher: Path, texts: Sequence[Example], copies: Mapping[str, int], known: set[str], share: float, seed: int
) -> Iterator[str]:
    """Yield at most `copies` variants of each text; normal forms are neither `known` nor repeated."""
    near = neighbours(teacher, {word.lower() for each in texts for word in WORD.findall(each.text)})
    cashtags = sorted({tag for each in texts for tag in CASHTAG.findall(each.text)})
    seen, left = set(known), dict(copies)
    for each in texts:
        form = normal_form(each.text)
        rng = Random(f"{seed}/{form}")
        for _ in range(left.pop(form, 0)):
            new = variant(each.text, near, cashtags, share, rng)
            if normal_form(new) not in seen:
                seen.add(normal_form(new))
                yield new


def main(argv: Sequence[str] | None = None) -> int:
    """Write the variants; exit with 2 where an input is unusable."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", type=Path, metavar="TEACHER", help="the folder that `earlybird teach` wrote")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="JSON lines, each with a text")
    parser.add_argument("files", nargs="+", metavar="FILE[=N]", help="labelled texts; N variants each, not --copies")
    parser.add_argument("--copies", type=int, default=3, metavar="N", help="variants of a text (%(default)s)")
    parser.add_argument("--share", type=float, default=0.25, metavar="S", help="share of words replaced (%(default)s)")
    parser.add_argument("--dev", type=Path, metavar="FILE", help="labelled texts that get no variants")
    parser.add_argument("--calibration", type=float, default=0.0, metavar="S", help="share that gets no variants (0)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    try:
        print(f"{_write(parser.parse_args(argv)):,} variants")
    except EngineError as error:
        print(f"variants: {error}", file=sys.stderr)
        return 2
    return 0


def _write(args: argparse.Namespace) -> int:
    if not (0.0 < args.share <= 1.0 and 0.0 <= args.calibration < 1.0):
        raise ConfigError(f"share, calibration: 0 to 1 required, was {args.share}, {args.calibration}")
    labelled, copies = list[Example](), dict[str, int]()
    for file in args.files:
        name, count = found.groups() if (found := re.fullmatch(r"(.+)=(\d+)", file)) else (file, args.copies)
        examples = read_examples(Path(name))
        labelled += examples
        copies |= {form: max(copies.get(form, 0), int(count)) for form in {normal_form(each.text) for each in examples}}
    dev = read_examples(args.dev) if args.dev else []
    train, _ = split(without(labelled, dev), (1.0 - args.calibration, args.calibration), args.seed)
    known = {normal_form(each.text) for each in (*labelled, *dev)}
    texts = variants(args.teacher, train, copies, known, args.share, args.seed)
    lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts]
    try:
        args.output.write_text("".join(lines), "utf-8")
    except OSError as error:
        raise DataError(f"{args.output}: cannot be written, {error.strerror}") from None
    return len(lines)


if __name__ == "__main__":
    raise SystemExit(main())
