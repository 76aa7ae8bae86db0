"""Inputs of a training as the manifest names them: use and hash."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from earlybird.engine.manifest import Ingredient, file_sha256
from earlybird.engine.training.job import Job

DATA = "data.json"  # of a run folder: sizes and hashes of the parts

UNKNOWN = "not stated"  # a training cannot know a licence; whoever publishes the model states it


def inputs(job: Job) -> tuple[Ingredient, ...]:
    """Return the start, the teachers and the texts of a job, in this order."""
    return tuple(_inputs(job))


def _inputs(job: Job) -> Iterator[Ingredient]:
    yield _ingredient(job.start, "geometry and tokenizer" if job.scratch else "starting weights")
    for model, share in job.mix:
        yield _ingredient(model, f"a share of {share:g} of the weights")
    for teacher in job.teachers:
        yield _ingredient(teacher, "teacher, whose soft labels were learned")
    for path in dict.fromkeys(job.train):  # a file that is named twice counts twice as much
        yield _ingredient(path, "labels")
    for path in job.unlabelled:
        yield _ingredient(path, "texts without labels")
    if job.dev is not None:
        yield _ingredient(job.dev, "choice of the epoch")
    if job.invented is not None:
        part = json.loads((job.output / DATA).read_text("utf-8"))["invented"]
        use = "labels, made by `earlybird invent`; the hash is that of texts and labels"
        yield Ingredient(name=f"{part['texts']:,} invented texts", use=use, licence="Apache-2.0", sha256=part["sha256"])


def _ingredient(source: str | Path, use: str) -> Ingredient:
    path = Path(source)
    return Ingredient(
        name=path.name if path.exists() else str(source), use=use, licence=UNKNOWN, sha256=path_sha256(path)
    )


def path_sha256(path: Path) -> str | None:
    """Return 64 hex digits over a file, or over a folder's files by name.

    None where there is neither.
    """
    if path.is_file():
        return file_sha256(path)
    if not path.is_dir():
        return None
    files = sorted(each for each in path.rglob("*") if each.is_file())
    lines = (f"{each.relative_to(path).as_posix()}\t{file_sha256(each)}\n" for each in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
