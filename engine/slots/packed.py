"""Slots without padding: tokens lie end to end, and exits free room at once.

This is Algorithm 1 of the FSA system paper with its gaps closed. The printed algorithm refills free slots, too, but
pads every text to the longest and attends without a mask, keeps the exit window of a slot's former text, marks slots as
filled that found no text, and goes on computing idle slots until the last text is done. Here no row is computed for
padding or for an idle slot, each text carries its own exit state, and an endless stream is the normal case.

Slots are ordered by depth, the deepest first: texts are admitted at the end, all make one pass per step, and removing
some keeps the order. So the texts of one depth are one block of rows, which adapters and per-depth heads rely on.

Letters: S slots in use, T their tokens, H hidden size, C classes.
"""

from collections import deque
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.ladder import LoadFollower
from earlybird.engine.exits.policy import (
    ClassifierOutput,
    Decision,
    ExitPolicy,
    State,
    at_last_layer,
    at_limit,
    classifier_output,
)
from earlybird.engine.slots.layered import LayeredModel
from earlybird.engine.slots.verdicts import check_lengths, verdicts
from earlybird.engine.types import Request, Verdict


class Packed:
    """Runner with at most `slots` texts and `token_budget` tokens at once, first in first out.

    A text longer than the budget runs alone. No text overtakes the head of the queue: a long text waits for room, and
    the others wait behind it. Not thread-safe: one thread owns it, several may share the model.
    """

    def __init__(
        self, model: LayeredModel, policy: ExitPolicy, slots: int, token_budget: int, temperatures: Tensor | None = None
    ) -> None:
        if slots < 1:
            raise ConfigError(f"slots: at least 1 required, was {slots}")
        if token_budget < 1:
            raise ConfigError(f"token_budget: at least 1 token required, was {token_budget}")
        self._model, self._policy, self._temperatures = model, policy, temperatures
        self._slots, self._token_budget = slots, token_budget
        self._load = LoadFollower(policy)
        self.behind: int | None = None
        self._waiting: deque[Request] = deque()
        self._limits: dict[int, int] = {}  # by ticket, for texts in flight with a Request.depth_limit
        # One entry or row per text, in order of admission:
        self._requests: list[Request] = []
        self._lengths: list[int] = []
        self._depths: list[int] = []  # passes made
        self._hidden: Tensor | None = None  # (T, H); None while no slot is in use
        self._state: State = ()  # each (S, ...)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def active(self) -> int:
        return len(self._requests)

    @property
    def in_slots(self) -> list[tuple[int, int]]:
        """Ticket and passes of each text in a slot, deepest first; for watchers."""
        return [(request.ticket, depth) for request, depth in zip(self._requests, self._depths, strict=True)]

    def submit(self, requests: Sequence[Request]) -> None:
        check_lengths(requests, self._model.config.max_positions)
        self._waiting.extend(requests)
        self._limits.update((each.ticket, each.depth_limit) for each in requests if each.depth_limit is not None)

    def expire(self, tickets: Iterable[int]) -> None:
        passes = {request.ticket: 0 for request in self._waiting}
        passes.update(zip((request.ticket for request in self._requests), self._depths, strict=True))
        for ticket in tickets:
            if ticket in passes:
                limit = passes[ticket] + 1
                self._limits[ticket] = min(limit, self._limits.get(ticket, limit))

    @torch.inference_mode()
    def step(self) -> list[Verdict]:
        self._admit_waiting()
        if not self._requests:
            return []
        output = self._advance()
        decision = self._decide(output)
        return self._release(output, decision)

    def _admit_waiting(self) -> None:
        """Fill free slots from the head of the queue."""
        admitted: list[Request] = []
        tokens = sum(self._lengths)
        while self._waiting and len(self._requests) + len(admitted) < self._slots:
            length = len(self._waiting[0].token_ids)
            if tokens and tokens + length > self._token_budget:
                break
            tokens += length
            admitted.append(self._waiting.popleft())
        self._load.follow(None if self.behind is None else self.behind + len(self._waiting))
        if not admitted:
            return
        lengths = [len(request.token_ids) for request in admitted]
        ids = torch.tensor([token for request in admitted for token in request.token_ids])
        embedded = self._model.embed(ids, lengths)  # (T of the admitted, H)
        initial = self._policy.initial_state(len(admitted), self._no_logits())
        initial = self._load.seated(initial, [request.rung for request in admitted])
        if self._hidden is None:
            self._hidden, self._state = embedded, initial
        else:
            self._hidden = torch.cat([self._hidden, embedded])
            self._state = tuple(torch.cat(rows) for rows in zip(self._state, initial, strict=True))
        self._requests += admitted
        self._lengths += lengths
        self._depths += [0] * len(admitted)

    def _advance(self) -> ClassifierOutput:
        """Apply one layer to every slot and compute the classifier output."""
        assert self._hidden is not None, "advance without a slot in use. This is a bug."
        self._depths = [depth + 1 for depth in self._depths]
        self._hidden = self._model.advance(self._hidden, self._lengths, self._depths)
        return classifier_output(self._model.classify(self._hidden, self._lengths, self._depths))

    def _decide(self, output: ClassifierOutput) -> Decision:
        depth = torch.tensor(self._depths)
        layers = self._model.config.layers
        decision = at_last_layer(self._policy.decide(output, depth, self._state), depth, layers)
        if not self._limits:
            return decision
        limits = [self._limits.get(request.ticket, layers) for request in self._requests]
        return at_limit(decision, depth, torch.tensor(limits))

    def _release(self, output: ClassifierOutput, decision: Decision) -> list[Verdict]:
        """Return the verdicts of exiting texts and compact the slots.

        Nothing of a released text is kept.
        """
        self._state = decision.state
        leaving = decision.leaving.tolist()
        gone = [row for row, leaves in enumerate(leaving) if leaves]
        if not gone:
            return []
        rungs = self._load.rungs(decision.state)
        released = verdicts(self._requests, self._depths, output, decision, gone, self._temperatures, rungs)
        for verdict in released:
            self._limits.pop(verdict.ticket, None)
        self._keep([row for row, leaves in enumerate(leaving) if not leaves])
        return released

    def _keep(self, rows: list[int]) -> None:
        """Keep only these slots, in order."""
        if rows:
            assert self._hidden is not None, "slots in use without a state. This is a bug."
            texts = torch.split(self._hidden, self._lengths)
            self._hidden = torch.cat([texts[row] for row in rows])
            index = torch.tensor(rows)
            self._state = tuple(memory.index_select(0, index) for memory in self._state)
        else:
            self._hidden, self._state = None, ()
        self._requests = [self._requests[row] for row in rows]
        self._lengths = [self._lengths[row] for row in rows]
        self._depths = [self._depths[row] for row in rows]

    def _no_logits(self) -> Tensor:
        """Return empty logits (0, C) in the dtype of exit decisions.

        It is float32, or float64 for a float64 model.
        """
        wide = torch.float64 if self._model.dtype == torch.float64 else torch.float32
        return torch.empty(0, self._model.config.n_labels, dtype=wide)
