"""One text at a time: slow, obvious, the oracle that every other runner is held to."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine.exits.policy import ExitPolicy, answer, at_last_layer, at_limit
from engine.slots.layered import Layered
from engine.slots.verdicts import check_lengths, verdicts
from engine.types import Request, Verdict


@dataclass(frozen=True, slots=True)
class Trace:
    """One text's way through the model."""

    verdict: Verdict
    logits: Tensor  # (passes, C) after each pass it made
    margin: float  # see ExitPolicy.margin


@torch.inference_mode()
def trace(model: Layered, policy: ExitPolicy, request: Request) -> Trace:
    """Run one text alone, layer by layer, until it exits. Raises SequenceTooLong."""
    check_lengths([request], model.config.max_positions)
    lengths = [len(request.token_ids)]
    hidden = model.embed(torch.tensor(request.token_ids), lengths)
    state = None
    said: list[Tensor] = []
    for depth in range(1, model.config.layers + 1):
        hidden = model.advance(hidden, lengths)
        said.append(model.classify(hidden, lengths, [depth]))
        now = answer(said[-1])
        state = policy.fresh(1, now.logits) if state is None else state
        passes = torch.tensor([depth])
        decision = at_last_layer(policy.decide(now, passes, state), passes, model.config.layers)
        if request.depth_limit is not None:
            decision = at_limit(decision, passes, torch.tensor([request.depth_limit]))
        state = decision.state
        if decision.leaving.item():
            break
    (verdict,) = verdicts([request], [depth], now, decision, [0])
    trail = torch.cat(said)
    return Trace(verdict, trail, policy.margin(answer(trail)))


class Reference:
    """Runs whole texts, one a step. Not thread-safe: one thread owns it."""

    def __init__(self, model: Layered, policy: ExitPolicy) -> None:
        self._model, self._policy = model, policy
        self._waiting: deque[Request] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def active(self) -> int:
        """Always 0: between two steps no text is under way."""
        return 0

    def submit(self, requests: Sequence[Request]) -> None:
        check_lengths(requests, self._model.config.max_positions)
        self._waiting.extend(requests)

    def expire(self, tickets: Iterable[int]) -> None:
        late = set(tickets)
        self._waiting = deque(
            replace(request, depth_limit=1) if request.ticket in late else request for request in self._waiting
        )

    def step(self) -> list[Verdict]:
        """Takes the next text through all the layers it needs; one verdict, or none when nothing waits."""
        if not self._waiting:
            return []
        return [trace(self._model, self._policy, self._waiting.popleft()).verdict]
