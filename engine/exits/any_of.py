"""Several exit rules combined: a text exits when the first of them fires."""

from dataclasses import dataclass

import torch
from torch import Tensor

from earlybird.engine.exits.policy import ClassifierOutput, Decision, ExitPolicy, State, nearest


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Exit when any member exits; written `a|b`.

    The reason is that of the first member, in order, that fired.
    """

    members: tuple[ExitPolicy, ...]

    @property
    def spec(self) -> str:
        return "|".join(member.spec for member in self.members)

    @property
    def earliest(self) -> int | None:
        return min((member.earliest for member in self.members if member.earliest is not None), default=None)

    @property
    def needs_certainty(self) -> bool:
        return any(member.needs_certainty for member in self.members)

    def initial_state(self, slots: int, like: Tensor) -> State:
        """Concatenate the members' states."""
        return tuple(memory for member in self.members for memory in member.initial_state(slots, like))

    def decide(self, output: ClassifierOutput, depth: Tensor, state: State) -> Decision:
        decisions = [member.decide(output, depth, part) for member, part in self.parts(output, state)]
        leaving, reason = decisions[0].leaving, decisions[0].reason
        for decision in decisions[1:]:
            reason = torch.where(leaving, reason, decision.reason)
            leaving = leaving | decision.leaving
        return Decision(leaving, reason, tuple(memory for decision in decisions for memory in decision.state))

    def distance_to_flip(self, output: ClassifierOutput, depth: Tensor, state: State) -> Tensor:
        return nearest(*(member.distance_to_flip(output, depth, part) for member, part in self.parts(output, state)))

    def parts(self, output: ClassifierOutput, state: State) -> list[tuple[ExitPolicy, State]]:
        """Return each member with its part of the state."""
        parts, taken = [], 0
        for member in self.members:
            size = len(member.initial_state(0, torch.empty(0, output.logits.shape[-1])))
            parts.append((member, state[taken : taken + size]))
            taken += size
        return parts
