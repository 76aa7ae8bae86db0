"""Training strategies: the parameters trained in each phase, and the loss.

Letters: S texts, d depth (exits).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from earlybird.engine.config import ModelConfig
from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.policy import Heads
from earlybird.engine.training.targets import Distillation, Targets, exit_loss

Moves = Callable[[str], bool]
"""Returns whether the parameter of this name is trained."""


class Loss(nn.Module):
    """A loss over the heads of all exits, (S,) values.

    Its own parameters, if any, are trained with the network's. `judged`: the exits whose scores on the dev set select
    the best epoch.
    """

    judged = slice(None)

    def forward(self, heads: Sequence[Heads], targets: Targets, distillation: Distillation) -> Tensor:
        """Compute the loss per text, (S,), from the heads of d exits."""
        raise NotImplementedError


class LastExit(Loss):
    """Loss of the last exit alone: plain fine-tuning."""

    judged = slice(-1, None)

    def forward(self, heads: Sequence[Heads], targets: Targets, distillation: Distillation) -> Tensor:
        return exit_loss(heads[-1].logits, targets, distillation)


class Joint(Loss):
    """Mean loss over all exits (BranchyNet, arXiv 1709.01686).

    `last`: with or without the last exit.
    """

    def __init__(self, last: bool = True) -> None:
        super().__init__()
        self.judged = slice(None) if last else slice(None, -1)

    def forward(self, heads: Sequence[Heads], targets: Targets, distillation: Distillation) -> Tensor:
        losses = [exit_loss(head.logits, targets, distillation) for head in heads[self.judged]]
        return torch.stack(losses).mean(dim=0)


class ElbertWeights(Loss):
    """Weighted loss over all exits with trained weights: ELBERT, equations 2 and 3.

    w_i = sigmoid(t_i) for i < d, w_d = d minus their sum, t_i trained from 4. Divided by d, so that the learning rate
    means the same at every depth.
    """

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.t = nn.Parameter(torch.full((layers - 1,), 4.0))

    def weights(self) -> Tensor:
        """Return each exit's weight, (d,); they sum to d."""
        early = self.t.sigmoid()
        return torch.cat([early, len(self.t) + 1 - early.sum(dim=0, keepdim=True)])

    def forward(self, heads: Sequence[Heads], targets: Targets, distillation: Distillation) -> Tensor:
        losses = torch.stack([exit_loss(head.logits, targets, distillation) for head in heads])  # (d, S)
        return (self.weights()[:, None] * losses).mean(dim=0)


class SelfDistillation(Loss):
    """KL divergence of the early exits from the last: FastBERT's second stage.

    Source: arXiv 2004.02178, equations 5 and 6.
    """

    judged = slice(None, -1)

    def forward(self, heads: Sequence[Heads], targets: Targets, distillation: Distillation) -> Tensor:  # noqa: ARG002
        teacher = heads[-1].logits.detach().log_softmax(dim=-1)
        students = [head.logits.log_softmax(dim=-1) for head in heads[:-1]]
        return torch.stack([(own.exp() * (own - teacher)).sum(dim=-1) for own in students]).mean(dim=0)


class LearnedExits(Loss):
    """A loss plus the squared error of every learned-exit head.

    The head's certainty is compared with whether the exit is right (BERxiT, section 3.3).
    """

    def __init__(self, inner: Loss) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, heads: Sequence[Heads], targets: Targets, distillation: Distillation) -> Tensor:
        truth = (
            targets.label
            if targets.soft is None
            else torch.where(targets.label < 0, targets.soft.argmax(dim=-1), targets.label)
        )
        errors = []
        for head in heads:
            assert head.certainty is not None, "a model without learned exits. This is a bug."
            errors.append((head.certainty - (head.logits.argmax(dim=-1) == truth).float()) ** 2)
        loss: Tensor = self.inner(heads, targets, distillation)
        return loss + torch.stack(errors).mean(dim=0)


@dataclass(frozen=True, slots=True)
class Phase:
    """Part of a training; its losses alternate, step by step.

    `heads_only`: no parameter below the heads is trained, so the heads train on stored states.
    """

    name: str
    losses: tuple[Loss, ...]
    moves: Moves
    heads_only: bool = False


def phases(strategy: str, config: ModelConfig) -> list[Phase]:
    """Return a strategy's phases for a model.

    Raises ConfigError where the model lacks what the strategy trains.
    """
    if strategy not in STRATEGIES:
        raise ConfigError(f"strategy: one of {', '.join(STRATEGIES)} required, was {strategy!r}")
    if strategy in ("two_stage", "deebert", "fastbert") and config.classifiers != "per_layer":
        raise ConfigError(f"strategy {strategy}: needs classifiers=per_layer, was {config.classifiers}")
    if strategy in ("berxit", "pf_berxit") and config.learned_exits == "none":
        raise ConfigError(f"strategy {strategy}: needs learned_exits=shared or per_layer, was none")
    if strategy == "pf_berxit" and config.adapters is None:
        raise ConfigError("strategy pf_berxit: needs adapters, was a model without")
    if config.layers < 2 and strategy != "last":
        raise ConfigError(f"strategy {strategy}: at least 2 layers required, was {config.layers}")
    return STRATEGIES[strategy](config)


def _everything(name: str) -> bool:  # noqa: ARG001
    return True


def _but_learned(name: str) -> bool:
    return not name.startswith("learned_exit.")


def _adapters_and_heads(name: str) -> bool:
    return name.startswith(("adapter.", "classifier.", "learned_exit."))


def _last_and_backbone(config: ModelConfig) -> Moves:
    early = tuple(f"classifier.{number}." for number in range(config.layers - 1))
    return lambda name: _but_learned(name) and not name.startswith(early)


def _early_exits(config: ModelConfig) -> Moves:
    early = tuple(f"classifier.{number}." for number in range(config.layers - 1))
    return lambda name: name.startswith(early)


def _two_stage(second: Callable[[], Loss]) -> Callable[[ModelConfig], list[Phase]]:
    return lambda config: [
        Phase("backbone and last exit", (LastExit(),), _last_and_backbone(config)),
        Phase("early exits", (second(),), _early_exits(config), heads_only=True),
    ]


STRATEGIES: dict[str, Callable[[ModelConfig], list[Phase]]] = {
    "last": lambda _: [Phase("last exit", (LastExit(),), _but_learned)],
    "joint": lambda _: [Phase("all exits", (Joint(),), _but_learned)],
    "elbert": lambda config: [Phase("weighted exits", (ElbertWeights(config.layers),), _but_learned)],
    "two_stage": _two_stage(lambda: Joint(last=False)),
    "deebert": _two_stage(lambda: Joint(last=False)),
    "fastbert": _two_stage(SelfDistillation),
    "alternating": lambda _: [Phase("last and all exits in turn", (LastExit(), Joint()), _but_learned)],
    "berxit": lambda _: [Phase("last and all exits in turn", (LastExit(), LearnedExits(Joint())), _everything)],
    "pf_berxit": lambda _: [Phase("adapters and heads", (LearnedExits(Joint()),), _adapters_and_heads)],
}
"""Strategies by name: plain fine-tuning (last), BranchyNet (joint), ELBERT (elbert), DeeBERT (two stages, without
its poolers), FastBERT (two stages, with a linear exit in place of its attention block), BERxiT, PF-BERxiT (frozen
backbone)."""
