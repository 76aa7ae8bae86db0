"""Training loop: a strategy's phases over shuffled batches, with a checkpoint per epoch.

The best epoch is kept. Resuming from a checkpoint gives the weights of an uninterrupted run, bit for bit, on CPUs with
the same number of threads: all randomness of an epoch comes from (seed, phase, epoch).
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.policy import Heads
from earlybird.engine.training.metrics import Scores, scores
from earlybird.engine.training.network import Batch, Network
from earlybird.engine.training.strategies import Phase
from earlybird.engine.training.targets import Distillation, Targets

PRECISIONS = ("float32", "bfloat16")

# On short texts the backward pass of the fused kernel for CPUs takes twice as long.
_ATTENTION = partial(sdpa_kernel, SDPBackend.MATH)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Training settings other than model, strategy and data."""

    epochs: int = 3  # per phase
    batch_size: int = 32  # texts
    learning_rate: float = 3e-5
    head_learning_rate: float | None = None  # classifiers, learned exits, adapters, loss weights; None: learning_rate
    warmup: float = 0.1  # share of a phase's steps
    weight_decay: float = 0.01  # for matrices only, not for biases and norms
    clip: float = 1.0  # largest norm of the gradient
    dropout: float = 0.1
    precision: str = "float32"  # of the forward and backward passes; weights and their updates are always float32
    seed: int = 0
    patience: int | None = None  # epochs without a better one before a phase ends; None: all epochs
    distillation: Distillation = field(default_factory=Distillation)

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("learning_rate", 0.0), ("clip", 0.0), ("dropout", 0.0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: at least {least} required, was {getattr(self, name)}")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision: one of {', '.join(PRECISIONS)} required, was {self.precision!r}")


@dataclass(frozen=True)
class Dataset:
    """Tokenised texts with their targets."""

    token_ids: Sequence[tuple[int, ...]]
    label: Tensor  # (n,) int64
    soft: Tensor | None = None  # (n, C)

    def __len__(self) -> int:
        return len(self.token_ids)

    def targets(self, rows: Sequence[int]) -> Targets:
        """Return the targets of these texts."""
        index = torch.tensor(rows)
        return Targets(self.label[index], None if self.soft is None else self.soft[index])


@dataclass(frozen=True, slots=True)
class Epoch:
    """Results of one epoch: one line of the log."""

    phase: str
    number: int  # within its phase, from 1
    loss: float  # mean per text
    learning_rate: float
    dev: tuple[Scores, ...]  # per exit
    quality: float  # selects the best epoch: mean macro-F1 of the exits that the phase trains
    best: bool  # best so far in its phase
    loss_weights: tuple[float, ...]  # ELBERT's, equation 2; empty for other strategies


@dataclass
class State:
    """Progress of a training: all contents of a checkpoint except the network."""

    phase: int = 0
    epoch: int = 0  # finished epochs of that phase
    best_quality: float = -math.inf
    since_best: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    losses: dict[str, Tensor] = field(default_factory=dict)  # parameters of the phase's losses
    done: bool = False


class Training:
    """One run of a strategy.

    Call `run`; `state` and the network can be stored after each epoch.
    """

    def __init__(
        self,
        network: Network,
        phases: Sequence[Phase],
        train: Dataset,
        dev: Dataset,
        recipe: Recipe,
        state: State | None = None,
    ) -> None:
        self.network, self.recipe, self.state = network, recipe, state or State()
        self._phases, self._train, self._dev = phases, train, dev
        if self.state.losses:  # also of a finished run, whose loss weights are exported again
            torch.nn.ModuleList(phases[self.state.phase].losses).load_state_dict(self.state.losses)

    def run(self, each_epoch: Callable[[Epoch], None], each_step: Callable[[str, int, int, float], None]) -> None:
        """Train to the end.

        `each_epoch` is called after every epoch, `each_step` with (phase, step, steps, loss).
        """
        while not self.state.done:
            self._phase(self._phases[self.state.phase], each_epoch, each_step)
            self._next_phase()

    def _next_phase(self) -> None:
        self.network.load_state_dict(self.state.best)
        if self.state.phase + 1 == len(self._phases):
            self.state.done = True
        else:
            self.state = State(phase=self.state.phase + 1)

    def _phase(self, phase: Phase, each_epoch: Callable[[Epoch], None], each_step: Callable[..., None]) -> None:
        state, recipe = self.state, self.recipe
        losses = torch.nn.ModuleList(phase.losses)
        optimizer, schedule = self._optimizer(phase, losses)
        stored = self._stored_states() if phase.heads_only else None
        while state.epoch < recipe.epochs and (recipe.patience is None or state.since_best < recipe.patience):
            mean = self._epoch(phase, optimizer, schedule, stored, each_step)
            dev = tuple(scores(logits, self._dev.label) for logits in predict(self.network, self._dev))
            state.epoch += 1
            quality = fmean(score.macro_f1 for score in dev[phase.losses[-1].judged])
            better = quality > state.best_quality
            state.since_best = 0 if better else state.since_best + 1
            if better:
                state.best_quality, state.best = quality, self.network.tensors()
            state.optimizer = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
            state.losses = losses.state_dict()
            rate = schedule.get_last_lr()[0]
            each_epoch(Epoch(phase.name, state.epoch, mean, rate, dev, quality, better, _loss_weights(phase)))

    def _optimizer(self, phase: Phase, losses: torch.nn.ModuleList) -> tuple[torch.optim.AdamW, Any]:
        recipe = self.recipe
        head_rate = recipe.head_learning_rate or recipe.learning_rate
        groups: dict[tuple[float, float], list[torch.nn.Parameter]] = defaultdict(list)  # by rate and decay
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(phase.moves(name))
            if phase.moves(name):
                head = name.startswith(("classifier.", "learned_exit.", "adapter."))
                decay = recipe.weight_decay if parameter.dim() > 1 else 0.0
                groups[head_rate if head else recipe.learning_rate, decay].append(parameter)
        groups[head_rate, 0.0] += losses.parameters()
        optimizer = torch.optim.AdamW(
            [{"params": moved, "lr": rate, "weight_decay": decay} for (rate, decay), moved in groups.items() if moved],
            fused=True,
        )
        total = recipe.epochs * math.ceil(len(self._train) / recipe.batch_size)
        warm = max(1, round(recipe.warmup * total))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warm, max(0.0, (total - step) / max(1, total - warm)))
        )
        if self.state.optimizer:
            optimizer.load_state_dict(self.state.optimizer["optimizer"])
            schedule.load_state_dict(self.state.optimizer["schedule"])
        return optimizer, schedule

    def _epoch(
        self, phase: Phase, optimizer: Any, schedule: Any, stored: Tensor | None, each_step: Callable[..., None]
    ) -> float:
        recipe, state = self.recipe, self.state
        torch.manual_seed(Random(f"{recipe.seed}/{state.phase}/{state.epoch}").getrandbits(63))  # dropout
        self.network.train()
        moving = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        batches = list(self._batches(f"{recipe.seed}/{state.phase}/{state.epoch}"))
        total = 0.0
        for step, rows in enumerate(batches):
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"), _ATTENTION():
                heads = self._heads(rows, stored)
            values = phase.losses[step % len(phase.losses)](heads, self._train.targets(rows), recipe.distillation)
            loss = values.mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(moving, recipe.clip)
            optimizer.step()
            schedule.step()
            value = float(loss.detach())
            if not math.isfinite(value):
                raise ConfigError(
                    f"learning_rate: the loss left the finite numbers at {recipe.learning_rate}; lower it"
                )
            total += value * len(rows)
            each_step(phase.name, state.epoch * len(batches) + step + 1, recipe.epochs * len(batches), value)
        return total / len(self._train)

    def _heads(self, rows: Sequence[int], stored: Tensor | None) -> list[Heads]:
        if stored is None:
            heads: list[Heads] = self.network(Batch.of([self._train.token_ids[row] for row in rows]))
            return [each._replace(logits=each.logits.float()) for each in heads]
        pooled = stored[torch.tensor(rows)]  # (S, D, H)
        return [self.network.heads(states, number) for number, states in enumerate(pooled.unbind(dim=1))]

    @torch.no_grad()
    def _stored_states(self) -> Tensor:
        """Compute the heads' inputs for every training text, (n, D, H).

        They are exact, since nothing below the heads is trained.
        """
        self.network.eval()
        found = torch.empty(len(self._train), self.network.config.layers, self.network.config.hidden_size)
        for rows in by_length(self._train.token_ids, 64):
            states = self.network.pooled_states(Batch.of([self._train.token_ids[row] for row in rows]))
            found[torch.tensor(rows)] = torch.stack(states, dim=1)
        return found

    def _batches(self, seed: str) -> Iterator[list[int]]:
        """Yield every text once, in random order, in batches of similar length.

        Batches are drawn in pools of 16.
        """
        rng, size = Random(seed), self.recipe.batch_size
        order = list(range(len(self._train)))
        rng.shuffle(order)
        for start in range(0, len(order), 16 * size):
            pool = sorted(order[start : start + 16 * size], key=lambda row: len(self._train.token_ids[row]))
            batches = [pool[at : at + size] for at in range(0, len(pool), size)]
            rng.shuffle(batches)
            yield from batches


@torch.no_grad()
def predict(network: Network, data: Dataset) -> list[Tensor]:
    """Return the logits (n, C) of every exit, in the order of the texts."""
    network.eval()
    found = [torch.empty(len(data), network.config.n_labels) for _ in range(network.config.layers)]
    for rows in by_length(data.token_ids, 64):
        index = torch.tensor(rows)
        for exits, heads in zip(found, network(Batch.of([data.token_ids[row] for row in rows])), strict=True):
            exits[index] = heads.logits
    return found


def by_length(token_ids: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    """Yield batches of texts of similar length."""
    order = sorted(range(len(token_ids)), key=lambda row: len(token_ids[row]))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _loss_weights(phase: Phase) -> tuple[float, ...]:
    weights = getattr(phase.losses[0], "weights", None)
    return () if weights is None else tuple(weights().tolist())
