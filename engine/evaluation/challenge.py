"""Challenge set: invented texts by phenomenon, and a model's score on each.

Letters: n texts, C classes.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from earlybird.engine.errors import DataError
from earlybird.engine.evaluation.outputs import Outputs, Progress, outputs_of
from earlybird.engine.exits.spec import parse
from earlybird.engine.exits.walk import walk
from earlybird.engine.manifest import LABELS
from earlybird.engine.training.data import Example, normal_form
from earlybird.engine.training.metrics import calibration_error

FILE = Path(__file__).with_name("challenge.jsonl")
FRESH = Path(__file__).with_name("fresh.jsonl")  # by writers who saw neither tables nor models; wire or posts
SURE = 0.6  # a wrong answer of this confidence counts as sure
COMPANIES = ("Ellumar", "Pranwick", "Dosterhaan")
CASHTAGS = ("$QZLV", "$WRVX", "$JQKM")
REQUIRED = {"text", "label", "phenomenon"}
OPTIONAL = {"pair", "name"}


@dataclass(frozen=True, slots=True)
class Challenge:
    """One labelled text of the challenge set."""

    text: str
    label: int  # index into LABELS
    phenomenon: str
    pair: str = ""  # shared by two texts that differ in little but the label
    name: str = ""  # the invented company or cashtag in the text; empty where there is none


@dataclass(frozen=True, slots=True)
class Row:
    """Score of one phenomenon, or of all."""

    phenomenon: str
    texts: int
    right: int
    opposite: int  # negative for positive, or the reverse
    sure_wrong: int  # wrong with a confidence of SURE or more
    confidence_right: float | None  # mean of the right answers; None without any
    confidence_wrong: float | None


@dataclass(frozen=True, slots=True)
class ChallengeScore:
    """Score of one policy on the challenge set."""

    policy: str
    phenomena: tuple[Row, ...]
    total: Row
    calibration_error: float
    pairs: int
    pairs_right: int  # both texts right
    swapped: int  # texts read again under another company name
    swapped_changed: int  # of these, answered otherwise than under the first name
    mean_depth: float


def read_challenge(path: Path = FILE) -> list[Challenge]:
    """Read and check a challenge file.

    Texts differ in normal form; a name occurs in its text; a pair is two texts of one phenomenon with different
    labels. Raises DataError.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read, {error}") from None
    items = [_item(f"{path}: line {number}", line) for number, line in enumerate(lines, start=1)]
    if not items:
        raise DataError(f"{path}: at least one text required, was none")
    pairs: dict[str, list[Challenge]] = defaultdict(list)
    seen: set[str] = set()
    for item in items:
        form = normal_form(item.text)
        if form in seen:
            raise DataError(f"{path}: each text once required, was twice {item.text!r}")
        seen.add(form)
        if item.pair:
            pairs[item.pair].append(item)
    for pair, both in pairs.items():
        if len(both) != 2 or both[0].label == both[1].label or both[0].phenomenon != both[1].phenomenon:
            raise DataError(f"{path}: pair {pair}: two texts of one phenomenon with different labels required")
    return items


def held_out() -> list[Example]:
    """Return the texts of both sets, which nothing may be trained on."""
    return [Example(item.text, item.label) for path in (FILE, FRESH) for item in read_challenge(path)]


def swaps(items: Sequence[Challenge]) -> list[tuple[int, str]]:
    """Return each text that names a company under other names, with its original row."""
    return [
        (row, item.text.replace(item.name, other))
        for row, item in enumerate(items)
        if item.name
        for other in (CASHTAGS if item.name.startswith("$") else COMPANIES)
    ]


def challenge_outputs(model: str, items: Sequence[Challenge], progress: Progress = lambda *_: None) -> Outputs:
    """Run a model over the texts and, after them, their swaps.

    Raises ModelError, ConfigError, and DataError where the model can read nothing of a text.
    """
    examples = [Example(item.text, item.label) for item in items]
    examples += [Example(text, items[row].label) for row, text in swaps(items)]
    outputs = outputs_of(model, examples, progress)
    if outputs.left_out:
        raise DataError(f"challenge: texts that the model can read required, {outputs.left_out} were none")
    return outputs


def score(policy: str, items: Sequence[Challenge], outputs: Outputs) -> ChallengeScore:
    """Score one policy over the outputs of `challenge_outputs`; raises ConfigError."""
    rule = parse(policy, outputs.config.layers, learned_exits=outputs.certainty is not None)
    found = walk(rule, outputs.by_depth())
    depth = float(found.depth[: len(items)].double().mean())
    return score_probabilities(rule.spec, items, outputs.reported(rule.spec, found), depth)


def score_probabilities(policy: str, items: Sequence[Challenge], probs: Tensor, depth: float) -> ChallengeScore:
    """Score the probabilities (n, C) of the texts and, after them, their swaps."""
    own, others = probs[: len(items)], probs[len(items) :]
    label = torch.tensor([item.label for item in items])
    answer = own.argmax(dim=-1)
    right = answer == label
    phenomena: dict[str, list[int]] = defaultdict(list)
    pairs: dict[str, list[int]] = defaultdict(list)
    for row, item in enumerate(items):
        phenomena[item.phenomenon].append(row)
        if item.pair:
            pairs[item.pair].append(row)
    originals = torch.tensor([row for row, _ in swaps(items)], dtype=torch.int64)
    return ChallengeScore(
        policy,
        tuple(_row(name, own[rows], label[rows]) for name, rows in phenomena.items()),
        _row("all", own, label),
        calibration_error(own, label),
        len(pairs),
        sum(bool(right[rows].all()) for rows in pairs.values()),
        len(originals),
        int((others.argmax(dim=-1) != answer[originals]).sum()),
        depth,
    )


def _row(name: str, probs: Tensor, label: Tensor) -> Row:
    confidence, answer = probs.max(dim=-1)
    right = answer == label
    opposite = (answer - label).abs() == LABELS.index("positive") - LABELS.index("negative")
    return Row(
        name,
        len(label),
        int(right.sum()),
        int(opposite.sum()),
        int((~right & (confidence >= SURE)).sum()),
        _mean(confidence[right]),
        _mean(confidence[~right]),
    )


def _mean(values: Tensor) -> float | None:
    return float(values.double().mean()) if len(values) else None


def _item(where: str, line: str) -> Challenge:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: no JSON, {error}") from None
    if not isinstance(fields, dict) or not REQUIRED <= fields.keys() <= REQUIRED | OPTIONAL:
        raise DataError(f"{where}: text, label, phenomenon, and pair or name where there is one, required")
    if not all(isinstance(value, str) and value.strip() for value in fields.values()):
        raise DataError(f"{where}: strings that are not empty required")
    if fields["label"] not in LABELS:
        raise DataError(f"{where}: a label of {', '.join(LABELS)} required, was {fields['label']!r}")
    if fields.get("name", "") not in fields["text"]:
        raise DataError(f"{where}: a name that occurs in the text required, was {fields['name']!r}")
    return Challenge(**fields | {"label": LABELS.index(fields["label"])})
