"""Load-following exits: the queue chooses each text's policy from a ladder.

Source: PF-BERxiT claims, without an algorithm, that thresholds may follow the traffic; this is one.

The choice is made once, when a text enters its slot, and never changes inside: a verdict depends on the text and on its
rung, not on neighbours. It is part of the verdict, so that a replay can repeat it.

Letters: S slots, R rungs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.policy import ClassifierOutput, Decision, ExitPolicy, State


@dataclass(frozen=True, slots=True)
class Ladder:
    """Policies from idle to busiest, with the queue lengths that lead up.

    A rung is taken at its number of texts that found no slot, and left when fewer than half of them wait: a queue that
    hovers about the number drains instead. State: the rung (S,) int64, then the rungs' own states in order.
    """

    rungs: tuple[ExitPolicy, ...]
    at: tuple[int, ...]  # one per rung but the first, ascending

    def __post_init__(self) -> None:
        assert len(self.rungs) == len(self.at) + 1 > 1, f"a number per rung but the first. This is a bug: {self.at}"
        if self.at[0] < 1 or any(low >= high for low, high in zip(self.at, self.at[1:], strict=False)):
            raise ConfigError(f"load: at=, from 1, ascending required, was {', '.join(map(str, self.at))}")
        if len({rung.spec for rung in self.rungs}) < len(self.rungs):
            raise ConfigError(f"load: policies that differ required, was {self.spec}")

    @property
    def spec(self) -> str:
        busy = (f",busy=({rung.spec}),at={at}" for rung, at in zip(self.rungs[1:], self.at, strict=False))
        return f"load:idle=({self.rungs[0].spec})" + "".join(busy)

    @property
    def earliest(self) -> int | None:
        return min((rung.earliest for rung in self.rungs if rung.earliest is not None), default=None)

    @property
    def needs_certainty(self) -> bool:
        return any(rung.needs_certainty for rung in self.rungs)

    def initial_state(self, slots: int, like: Tensor) -> State:
        """Return the state of new texts on the first rung; `seated` puts them on others."""
        rung = like.new_zeros(slots, dtype=torch.int64)
        return (rung, *(memory for each in self.rungs for memory in each.initial_state(slots, like)))

    def decide(self, output: ClassifierOutput, depth: Tensor, state: State) -> Decision:
        """Let every rung decide, and take each slot's own."""
        rung, parts = state[0], self._parts(output, state)
        decisions = [each.decide(output, depth, part) for each, part in zip(self.rungs, parts, strict=True)]
        leaving, reason = decisions[0].leaving, decisions[0].reason
        for number, decision in enumerate(decisions[1:], start=1):
            leaving = torch.where(rung == number, decision.leaving, leaving)
            reason = torch.where(rung == number, decision.reason, reason)
        return Decision(leaving, reason, (rung, *(memory for decision in decisions for memory in decision.state)))

    def distance_to_flip(self, output: ClassifierOutput, depth: Tensor, state: State) -> Tensor:
        parts = zip(self.rungs, self._parts(output, state), strict=True)
        distances = torch.stack([each.distance_to_flip(output, depth, part) for each, part in parts])  # (R, S)
        return distances.gather(0, state[0][None])[0]

    def level(self, before: int, waiting: int) -> int:
        """Return the rung for texts admitted now.

        `waiting`: texts that found no slot; `before`: the rung before.
        """
        taken = sum(waiting >= at for at in self.at)
        return max(taken, min(before, sum(2 * waiting >= at for at in self.at)))

    def level_on_device(self, before: Tensor, waiting: Tensor) -> Tensor:
        """Return `level` for (1,) int64 tensors, without a look at a value."""
        at = range(len(self.at))
        taken = torch.stack([waiting >= self.at[number] for number in at]).sum(dim=0)
        kept = torch.stack([2 * waiting >= self.at[number] for number in at]).sum(dim=0)
        return torch.maximum(taken, torch.minimum(before, kept))

    def _parts(self, output: ClassifierOutput, state: State) -> list[State]:
        parts, taken = list[State](), 1
        for each in self.rungs:
            size = len(each.initial_state(0, torch.empty(0, output.logits.shape[-1])))
            parts.append(state[taken : taken + size])
            taken += size
        return parts


def rungs_of(policy: ExitPolicy) -> tuple[ExitPolicy, ...]:
    """Return a ladder's policies; any other policy alone."""
    return policy.rungs if isinstance(policy, Ladder) else (policy,)


class LoadFollower:
    """The rung of texts that a runner on the host admits.

    Not thread-safe: its runner owns it.
    """

    def __init__(self, policy: ExitPolicy) -> None:
        self._ladder = policy if isinstance(policy, Ladder) else None
        self.level = 0  # the present rung

    def follow(self, waiting: int | None) -> None:
        """Take in the number of texts that found no slot; None: no queue is followed."""
        if self._ladder:
            self.level = 0 if waiting is None else self._ladder.level(self.level, waiting)

    def seated(self, state: State, recorded: Sequence[int | None]) -> State:
        """Put admitted texts on their rungs: the recorded one, else the present one."""
        if not self._ladder:
            return state
        rungs = [self.level if rung is None else rung for rung in recorded]
        assert all(0 <= rung < len(self._ladder.rungs) for rung in rungs), f"no such rung: {rungs}. This is a bug."
        return (torch.tensor(rungs, dtype=torch.int64), *state[1:])

    def rungs(self, state: State) -> list[int] | None:
        """Return the rung of every slot; None for a policy without rungs."""
        found: list[int] | None = state[0].tolist() if self._ladder else None
        return found
