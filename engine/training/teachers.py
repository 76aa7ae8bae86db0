"""Soft targets: teachers' outputs for texts, computed once and cached.

Letters: n texts, C classes.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from earlybird.engine.errors import NotAModel
from earlybird.engine.manifest import LABELS, MANIFEST
from earlybird.engine.text.assembly import Text
from earlybird.engine.training.encoder import ABOUT, load_teacher
from earlybird.engine.training.inputs import path_sha256
from earlybird.engine.training.loop import by_length
from earlybird.engine.training.network import Batch
from earlybird.engine.training.targets import mean_of_teachers

BATCH = 32

Progress = Callable[[str, int, int], None]
"""Called with the teacher, the texts done and the texts in total."""


def soft_targets(
    teachers: Sequence[str],
    texts: Sequence[str],
    cache: Path,
    labels: Mapping[str, str] | None,
    progress: Progress,
    precision: str = "float32",
) -> Tensor:
    """Return the probabilities (n, C) of the mean of the teachers' logits.

    A teacher is a folder of `earlybird teach`, a Hugging Face classifier (folder or hub name; its labels are ours or
    mapped by `labels`) or a model folder of ours at full depth. Each teacher's logits are kept in `cache` under a hash
    of the teacher's files (a hub's: of its name) and the texts. A text that occurs several times is labelled once.
    Raises NotAModel.
    """
    unique = list(dict.fromkeys(texts))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        found = mean_of_teachers([_cached(name, unique, cache, labels, progress) for name in teachers])
    row = {text: number for number, text in enumerate(unique)}
    return found[torch.tensor([row[text] for text in texts], dtype=torch.int64)]


def _cached(
    name: str, texts: Sequence[str], cache: Path, labels: Mapping[str, str] | None, progress: Progress
) -> Tensor:
    content = path_sha256(Path(name)) or name
    key = hashlib.sha256("\0".join([content, str(sorted((labels or {}).items())), *texts]).encode("utf-8", "replace"))
    path = cache / f"teacher-{key.hexdigest()[:16]}.safetensors"
    if not path.exists():
        ours = (Path(name) / MANIFEST).exists()
        if (Path(name) / ABOUT).exists():
            found = _by_encoder(name, texts, progress)
        else:
            found = _by_us(name, texts, progress) if ours else _by_hugging_face(name, texts, labels, progress)
        cache.mkdir(parents=True, exist_ok=True)
        save_file({"logits": found.contiguous()}, path)
    return load_file(path)["logits"]


@torch.inference_mode()
def _by_hugging_face(name: str, texts: Sequence[str], labels: Mapping[str, str] | None, progress: Progress) -> Tensor:
    import transformers  # takes seconds to import

    library: Any = transformers
    try:
        tokenizer = library.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        model = library.AutoModelForSequenceClassification.from_pretrained(name, trust_remote_code=False).eval()
    except Exception as error:  # OSError, ValueError, ImportError and others, depending on the version
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise NotAModel(f"teacher {name}: transformers cannot load it as a classifier, {reason}") from None
    rows = _rows(name, model.config.id2label, labels)
    longest = min(getattr(model.config, "max_position_embeddings", 512), 512)
    found = torch.empty(len(texts), len(rows))
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        batch = [texts[row] for row in chosen]
        encoded = tokenizer(batch, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        found[torch.tensor(chosen)] = model(**encoded).logits.float()[:, rows]
        progress(name, start + len(chosen), len(texts))
    return found


def _rows(name: str, id2label: Mapping[int, str], labels: Mapping[str, str] | None) -> list[int]:
    """Return the row of each of our labels in a teacher's output.

    It is checked before the first text is computed.
    """
    mapped = {theirs.casefold(): ours for theirs, ours in (labels or {}).items()}
    theirs = [mapped.get(label.casefold(), label.casefold()) for _, label in sorted(id2label.items())]
    if sorted(theirs) != sorted(LABELS):
        raise NotAModel(
            f"teacher {name}: labels {', '.join(LABELS)} required, was {', '.join(map(str, id2label.values()))}; "
            f"map them with --labels"
        )
    return [theirs.index(label) for label in LABELS]


@torch.inference_mode()
def _by_encoder(name: str, texts: Sequence[str], progress: Progress) -> Tensor:
    teacher = load_teacher(Path(name))
    network = teacher.network.eval()
    found = torch.zeros(len(texts), len(LABELS))
    encoded = teacher.reader.encode([Text((text,)) for text in texts])
    rows = [row for row, item in enumerate(encoded) if item is not None]
    ids = [item.token_ids for item in encoded if item is not None]
    done = 0
    for batch in by_length(ids, BATCH):
        chosen = torch.tensor([rows[place] for place in batch])
        found[chosen] = network(Batch.of([ids[place] for place in batch]))[0].logits.float()
        done += len(batch)
        progress(name, done, len(texts))
    return found


def _by_us(name: str, texts: Sequence[str], progress: Progress) -> Tensor:
    from earlybird.engine.config import EngineConfig
    from earlybird.engine.engine import Engine
    from earlybird.engine.types import Request

    engine = Engine.load(EngineConfig(model=name, policy="full", device="cpu"))
    runner = engine.runner()
    found = torch.zeros(len(texts), len(LABELS))
    encoded = engine.encoder.encode([Text((text,)) for text in texts])
    runner.submit([Request(row, item.token_ids) for row, item in enumerate(encoded) if item is not None])
    done = 0
    while runner.waiting or runner.active:
        for verdict in runner.step():
            found[verdict.ticket] = torch.tensor(verdict.logits)
            done += 1
        progress(name, done, len(texts))
    return found
