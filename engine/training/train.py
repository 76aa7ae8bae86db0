"""A complete training: files, start, data, teachers, one loop per seed, model folders."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from torch import Tensor

from earlybird.engine.config import AdapterConfig, ModelConfig
from earlybird.engine.text.assembly import assembly
from earlybird.engine.text.encoder import TextEncoder
from earlybird.engine.text.profiles import profile
from earlybird.engine.training import run_folder
from earlybird.engine.training.augmentation import augmentation
from earlybird.engine.training.inputs import inputs
from earlybird.engine.training.job import Job, Watch
from earlybird.engine.training.loop import Epoch, Training
from earlybird.engine.training.network import Network
from earlybird.engine.training.parts import Parts, read_parts
from earlybird.engine.training.start import Start, from_layers, from_model, from_scratch, mixed, reshaped
from earlybird.engine.training.strategies import Phase, phases


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a training over all seeds."""

    folders: tuple[Path, ...]  # model folders, one per seed
    chosen: Path  # folder of the seed with the median quality (the better one of two)
    qualities: tuple[float, ...]  # mean macro-F1 of the exits on the dev set


def train(job: Job, watch: Watch, *, resume: bool = False) -> Outcome:
    """Run a job; raises ConfigError, DataError, NotAModel."""
    source = _source(job)
    changes = _changes(job, source.config)
    start = reshaped(source, job.recipe.seed, **changes)
    plan = phases(job.strategy, start.config)  # refused before anything is written
    if job.mix:
        mixed(start.tensors, job.mix)
    if job.augment is not None:
        augmentation(job.augment)
    run_folder.begin(job.output, job.asked(), resume=resume)
    encoder = TextEncoder(
        profile(job.profile), assembly(job.assembly), start.tokenizer, job.max_tokens or start.config.max_positions
    )
    parts = read_parts(job, encoder, watch)
    folders, qualities = [], []
    for seed in job.seeds:
        folder = job.output / f"seed-{seed}"
        network, plan = _one_seed(job, reshaped(source, seed, **changes), parts, folder, seed, watch)
        qualities.append(_best_quality(job.output, seed, plan[-1].name))
        folders.append(_export(job, start, encoder, network, folder, plan))
    middle = sorted(range(len(folders)), key=lambda number: qualities[number])[len(folders) // 2]
    outcome = Outcome(tuple(folders), folders[middle], tuple(qualities))
    _summary(job, outcome)
    return outcome


def _source(job: Job) -> Start:
    if job.layer is None:
        return from_scratch(job.start) if job.scratch else from_model(job.start)
    return from_layers(job.start, job.layer, job.embedding_size, job.layers, job.vocabulary)


def _changes(job: Job, config: ModelConfig) -> dict[str, Any]:
    """Return the changes to the source's config: options, else the strategy's needs."""
    changes: dict[str, Any] = {
        name: value
        for name in ("layers", "groups", "classifiers", "learned_exits", "adapters")
        if (value := getattr(job, name)) is not None
    }
    if config.learned_exits != "none" or job.strategy in ("berxit", "pf_berxit"):
        changes.setdefault("learned_exits", "shared" if job.strategy == "berxit" else "per_layer")
    if job.strategy == "pf_berxit":
        changes.setdefault("adapters", AdapterConfig())
    if job.strategy in ("two_stage", "deebert", "fastbert", "pf_berxit"):
        changes.setdefault("classifiers", "per_layer")
    return changes


def _one_seed(
    job: Job, start: Start, parts: Parts, folder: Path, seed: int, watch: Watch
) -> tuple[Network, list[Phase]]:
    plan = phases(job.strategy, start.config)
    recipe = dataclasses.replace(job.recipe, seed=seed)
    found = run_folder.load_checkpoint(folder)
    tensors, state = found if found else (start.tensors, None)
    network = Network(start.config, tensors, recipe.dropout)
    training = Training(network, plan, parts.train, parts.dev, recipe, state)
    folder.mkdir(exist_ok=True)

    def each_epoch(epoch: Epoch) -> None:
        run_folder.log_epoch(job.output, seed, epoch)  # first: a kill here logs an epoch twice, see read_log
        run_folder.save_checkpoint(folder, network.tensors(), training.state)
        watch.epoch(seed, epoch)

    training.run(each_epoch, lambda *told: watch.step(seed, *told))
    run_folder.save_checkpoint(folder, network.tensors(), training.state)
    if job.mix:
        network.load_state_dict(mixed(network.tensors(), job.mix))
    return network, plan


def _export(
    job: Job, start: Start, encoder: TextEncoder, network: Network, folder: Path, plan: Sequence[Phase]
) -> Path:
    weights: Callable[[], Tensor] | None = getattr(plan[-1].losses[0], "weights", None)
    card = run_folder.Card(
        id=f"{job.output.name}-{folder.name}",
        profile=job.profile,
        assembly=job.assembly,
        max_tokens=encoder.max_tokens,
        trained_for_exits=job.strategy != "last",
        ingredients=inputs(job),
        strategy=job.strategy,
        loss_weights=None if weights is None else tuple(weights().tolist()),
    )
    return run_folder.export(
        folder / run_folder.MODEL, network.config, network.tensors(), start.tokenizer, card, job.stored
    )


def _best_quality(output: Path, seed: int, phase: str) -> float:
    lines = [line for line in run_folder.read_log(output) if line["seed"] == seed and line["phase"] == phase]
    return max(float(line["quality"]) for line in lines)


def _summary(job: Job, outcome: Outcome) -> None:
    found = {
        "quality": "mean macro-F1 of the exits on the dev set",
        "by_seed": dict(zip(map(str, job.seeds), outcome.qualities, strict=True)),
        "median": median(outcome.qualities),
        "spread": max(outcome.qualities) - min(outcome.qualities),
        "chosen": str(outcome.chosen.relative_to(job.output)),
    }
    (job.output / "summary.json").write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    with suppress(ImportError):  # matplotlib comes with the extra `evaluate`
        from earlybird.engine.evaluation.plots import losses

        for seed in job.seeds:
            epochs = [line for line in run_folder.read_log(job.output) if line["seed"] == seed]
            (job.output / f"seed-{seed}" / "curves.svg").write_text(losses(epochs), "utf-8")
