"""Options of a training, and the listener that hears of its progress."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from earlybird.engine.config import AdapterConfig, Classifiers, LearnedExits
from earlybird.engine.training.data import Columns
from earlybird.engine.training.loop import Epoch, Recipe


@dataclass(frozen=True)
class Job:
    """Options of `earlybird train`; paths are files that engine.training.data reads."""

    start: str
    train: tuple[Path, ...]
    output: Path
    strategy: str = "elbert"
    dev: Path | None = None  # None: a tenth of train, with another tenth kept for calibration
    calibration: float = 0.0  # with `dev`: share of train that is kept for calibration
    unlabelled: tuple[Path, ...] = ()  # texts for the teachers
    invented: int | None = None  # number of invented texts added to the training part
    augment: str | None = None  # see engine.training.augmentation; adds to the training part
    augment_cache: Path | None = None  # None: the run folder
    labels: Mapping[str, str] | None = None
    columns: Columns = field(default_factory=Columns)
    layer: tuple[int, ...] | None = None  # start from these layers of a BERT-like encoder, see start.from_layers
    embedding_size: int = 128
    vocabulary: str | None = None  # with `layer`: a model whose tokenizer is taken
    scratch: bool = False  # draw the weights; geometry and tokenizer are the start's
    layers: int | None = None  # None: same as the start
    groups: int | None = None  # layers with weights of their own; None: same as the start
    classifiers: Classifiers | None = None
    learned_exits: LearnedExits | None = None
    adapters: AdapterConfig | None = None
    mix: tuple[tuple[str, float], ...] = ()  # models of the same shapes, and the share of each one's weights
    teachers: tuple[str, ...] = ()
    teacher_cache: Path | None = None  # None: the run folder
    profile: str = "natural-v3"
    assembly: str = "parts-v2"
    max_tokens: int | None = None
    stored: str = "float16"  # weights in the model folder: float16 or int8, see weights.narrowed
    texts: int | None = None  # upper limit, labels in proportion
    seeds: tuple[int, ...] = (0,)
    recipe: Recipe = field(default_factory=Recipe)

    def asked(self) -> dict[str, Any]:
        """Return the options as stored in a run folder."""
        asked: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self), default=str))
        return asked


class Watch:
    """Base listener of a training's progress; does nothing, for subclasses to override."""

    def data(self, sizes: Mapping[str, int]) -> None:
        """Report the sizes of the parts."""

    def teacher(self, name: str, done: int, total: int) -> None:
        """Report the number of texts that a teacher has labelled."""

    def augmentation(self, name: str, done: int, total: int) -> None:
        """Report the number of texts that an augmentation has read."""

    def step(self, seed: int, phase: str, step: int, steps: int, loss: float) -> None:
        """Report one batch."""

    def epoch(self, seed: int, epoch: Epoch) -> None:
        """Report one epoch, with the scores of every exit on the dev set."""
