"""Fine-tune a whole encoder as a teacher, with the data and loop of any training."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch

from earlybird.engine.errors import ConfigError
from earlybird.engine.training import run_folder
from earlybird.engine.training.encoder import save_teacher, start_teacher, trains
from earlybird.engine.training.job import Job, Watch
from earlybird.engine.training.loop import Epoch, Training
from earlybird.engine.training.network import Network
from earlybird.engine.training.parts import read_parts
from earlybird.engine.training.strategies import LastExit, Phase

TEACHER = "teacher"


def teach(job: Job, first_layer: int, keep_start: float, watch: Watch) -> Path:
    """Train a teacher from `job.start` and return its folder.

    Layers below `first_layer`, counted from 0, stay as they are. The result is a weighted mean of the start's weights,
    `keep_start`, and the trained ones (WiSE-FT, arXiv 2109.01903): it answers like the mean of two teachers at the
    cost of one. Raises ConfigError, DataError, NotAModel.
    """
    if not 0.0 <= keep_start < 1.0:
        raise ConfigError(f"keep-start: at least 0 and less than 1 required, was {keep_start}")
    recipe = job.recipe
    teacher = start_teacher(Path(job.start), job.profile, job.max_tokens or 80, recipe.dropout, recipe.seed)
    layers = teacher.network.encoder.config.num_hidden_layers
    if not 0 <= first_layer <= layers:
        raise ConfigError(f"first-layer: 0 to {layers} required, was {first_layer}")
    asked = job.asked() | {"first_layer": first_layer, "keep_start": keep_start}
    run_folder.begin(job.output, asked, resume=False)
    start = teacher.network.tensors()
    parts = read_parts(job, teacher.reader, watch)
    phase = Phase(TEACHER, (LastExit(),), trains(range(first_layer, layers)))
    network = cast("Network", teacher.network)  # of its interface, all that a phase of one exit needs
    training = Training(network, [phase], parts.train, parts.dev, recipe)
    training.run(_logged(job, watch), lambda *told: watch.step(recipe.seed, *told))
    trained = teacher.network.tensors()
    teacher.network.load_state_dict(
        {name: torch.lerp(tensor, start[name], keep_start) for name, tensor in trained.items()}
    )
    return save_teacher(job.output / TEACHER, teacher)


def _logged(job: Job, watch: Watch) -> Callable[[Epoch], None]:
    def each_epoch(epoch: Epoch) -> None:
        run_folder.log_epoch(job.output, job.recipe.seed, epoch)
        watch.epoch(job.recipe.seed, epoch)

    return each_epoch
