"""Reference runner, one text at a time: the oracle for every other runner."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from earlybird.engine.exits.ladder import LoadFollower
from earlybird.engine.exits.policy import ExitPolicy, at_last_layer, at_limit, classifier_output, top2_gap
from earlybird.engine.slots.layered import LayeredModel
from earlybird.engine.slots.verdicts import check_lengths, verdicts
from earlybird.engine.types import Request, Verdict


@dataclass(frozen=True, slots=True)
class Trace:
    """Verdict and intermediate results of one text."""

    verdict: Verdict
    logits: Tensor  # (passes, C), one row per pass
    margin: float
    """The text's distance from another label or layer: the smallest ExitPolicy.distance_to_flip over its passes, or
    the gap between the last pass's two largest probabilities if that is smaller."""


@torch.inference_mode()
def trace(model: LayeredModel, policy: ExitPolicy, request: Request, temperatures: Tensor | None = None) -> Trace:
    """Run one text alone, layer by layer, until it exits; raises SequenceTooLong."""
    check_lengths([request], model.config.max_positions)
    lengths, load = [len(request.token_ids)], LoadFollower(policy)
    hidden = model.embed(torch.tensor(request.token_ids), lengths)
    state = None
    logits: list[Tensor] = []
    distances: list[Tensor] = []
    for depth in range(1, model.config.layers + 1):
        hidden = model.advance(hidden, lengths, [depth])
        output = classifier_output(model.classify(hidden, lengths, [depth]))
        logits.append(output.logits)
        if state is None:
            state = load.seated(policy.initial_state(1, output.logits[:0]), [request.rung])
        passes = torch.tensor([depth])
        distances.append(policy.distance_to_flip(output, passes, state))
        decision = at_last_layer(policy.decide(output, passes, state), passes, model.config.layers)
        if request.depth_limit is not None:
            decision = at_limit(decision, passes, torch.tensor([request.depth_limit]))
        state = decision.state
        if decision.leaving.item():
            break
    (verdict,) = verdicts([request], [depth], output, decision, [0], temperatures, load.rungs(decision.state))
    margin = torch.cat([*distances, top2_gap(output)]).amin()
    return Trace(verdict, torch.cat(logits), float(margin))


class Reference:
    """Runner that takes one whole text per step.

    Not thread-safe: one thread owns it.
    """

    def __init__(self, model: LayeredModel, policy: ExitPolicy, temperatures: Tensor | None = None) -> None:
        self._model, self._policy, self._temperatures = model, policy, temperatures
        self._load = LoadFollower(policy)
        self.behind: int | None = None
        self._waiting: deque[Request] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def active(self) -> int:
        """Always 0: no text is in a slot between two steps."""
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
        """Run the next text until it exits and return its verdict, or none."""
        if not self._waiting:
            return []
        request = self._waiting.popleft()
        self._load.follow(None if self.behind is None else self.behind + len(self._waiting))
        request = replace(request, rung=self._load.level if request.rung is None else request.rung)
        return [trace(self._model, self._policy, request, self._temperatures).verdict]
