"""Texts of a training by use: train, dev and calibration share no text."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from earlybird.engine.errors import ConfigError, DataError
from earlybird.engine.evaluation.challenge import held_out
from earlybird.engine.manifest import LABELS
from earlybird.engine.text.assembly import Text
from earlybird.engine.text.encoder import TextEncoder
from earlybird.engine.training import run_folder
from earlybird.engine.training.augmentation import augmentation, augmented
from earlybird.engine.training.data import Example, fingerprint, hashes, read_examples, split, stratified, without
from earlybird.engine.training.inputs import DATA
from earlybird.engine.training.invented.invent import invented_examples
from earlybird.engine.training.job import Job, Watch
from earlybird.engine.training.loop import Dataset
from earlybird.engine.training.targets import own_targets
from earlybird.engine.training.teachers import soft_targets

SHARES = (0.8, 0.1, 0.1)  # shares of one file: train, dev, calibration


@dataclass(frozen=True)
class Parts:
    """Texts of a training by use."""

    train: Dataset
    dev: Dataset
    calibration: list[Example]


def read_parts(job: Job, encoder: TextEncoder, watch: Watch) -> Parts:
    """Read and tokenise a job's texts, with the teachers' soft targets; raises DataError, ConfigError."""
    labelled = [example for path in job.train for example in read_examples(path, job.labels, job.columns)]
    if job.texts is not None and job.dev is None:
        labelled = stratified(labelled, job.texts, job.recipe.seed)
    if job.dev is None:
        train, dev, calibration = split(labelled, SHARES, job.recipe.seed)
    else:
        dev = read_examples(job.dev, job.labels, job.columns)
        shares = (1.0 - job.calibration, job.calibration)
        train, calibration = split(without(labelled, dev), shares, job.recipe.seed)
        if job.texts is not None:  # cut last, so that fewer texts leave the same ones out
            train = stratified(train, job.texts, job.recipe.seed)
    extra = [
        example for path in job.unlabelled for example in read_examples(path, job.labels, job.columns, unlabelled=True)
    ]
    extra = without(extra, [*dev, *calibration])
    if extra and not job.teachers:
        raise ConfigError("unlabelled: a teacher required, was none")
    if not (train and dev):
        raise DataError(f"train and dev: texts required on both sides, was {len(train)} and {len(dev)}")
    invented = [] if job.invented is None else invented_examples(job.invented, job.recipe.seed)
    invented = without(invented, [*dev, *calibration, *held_out()])
    new = _augmented(job, train, [*dev, *calibration], watch)
    named = {"train": train, "augmented": new, "invented": invented, "unlabelled": extra}
    named |= {"dev": dev, "calibration": calibration}
    watch.data({name: len(part) for name, part in named.items()})
    sizes = {name: {"texts": len(part), "sha256": fingerprint(part)} for name, part in named.items()}
    (job.output / DATA).write_text(json.dumps(sizes, indent=2) + "\n", "utf-8")
    _keep(job.output / "calibration.jsonl", calibration)
    real, soft = [*train, *new], None
    texts = [*real, *invented, *extra]
    run_folder.keep_seen(job.output, hashes([*texts, *dev]))
    if job.teachers:
        names = [example.text for example in (*real, *extra)]
        cache = job.teacher_cache or job.output / "teachers"
        voices = soft_targets(job.teachers, names, cache, job.labels, watch.teacher, job.recipe.precision)
        own = own_targets([example.label for example in invented])
        soft = torch.cat([voices[: len(real)], own, voices[len(real) :]])
    parts = Parts(_tokenised(texts, encoder, soft), _tokenised(dev, encoder), calibration)
    if not (len(parts.train) and len(parts.dev)):
        raise DataError(f"train and dev: a word in some text of both required after profile {job.profile}, was none")
    return parts


def _augmented(job: Job, train: Sequence[Example], held_out: Sequence[Example], watch: Watch) -> list[Example]:
    """Return new texts made from the training part, without any that a held-out part has."""
    if job.augment is None:
        return []
    cache = job.augment_cache or job.output / "augmented"
    return without(augmented(augmentation(job.augment), train, cache, watch.augmentation), held_out)


def _keep(path: Path, examples: Sequence[Example]) -> None:
    """Write the texts held back from training, for `earlybird calibrate`."""
    lines = (json.dumps({"text": e.text, "label": LABELS[e.label]}, ensure_ascii=False) for e in examples)
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def _tokenised(examples: Sequence[Example], encoder: TextEncoder, soft: Tensor | None = None) -> Dataset:
    """Tokenise texts, without those that cleaning leaves empty."""
    encoded = encoder.encode([Text((example.text,)) for example in examples])
    kept = [row for row, item in enumerate(encoded) if item is not None]
    return Dataset(
        [item.token_ids for item in encoded if item is not None],
        torch.tensor([examples[row].label for row in kept]),
        None if soft is None else soft[torch.tensor(kept)],
    )
