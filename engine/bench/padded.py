"""The usual padded batch loop beside packed slots, on the same texts.

The loop takes the texts that wait, at most so many, pads them to the longest, and applies the layer until the last of
them has exited; then all are answered and it takes the next ones. It classifies and decides after each pass as slots
do, but it is given the answers: without masks, for which it does not pay, padding would change them.

The clock of a run advances by the CPU time of each step and jumps when nothing waits, so that other load on the machine
does not show.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from earlybird.engine.bench.clock import stopwatch
from earlybird.engine.exits.policy import ExitPolicy, State, classifier_output
from earlybird.engine.slots.layered import LayeredModel
from earlybird.engine.slots.runner import Runner
from earlybird.engine.types import Request, Verdict

Clock = Callable[[], Callable[[], float]]
"""Starts a stopwatch that returns seconds since the call."""


class PaddedBatches:
    """Runner of padded batches of at most `size` texts; returns known verdicts.

    A batch ends as one. Not thread-safe: one thread owns it.
    """

    def __init__(self, model: LayeredModel, policy: ExitPolicy, size: int, known: Mapping[int, Verdict]) -> None:
        self._model, self._policy, self._size, self._known = model, policy, size, known
        self._waiting: deque[Request] = deque()
        self._batch: list[Request] = []
        self._hidden: Tensor | None = None  # (batch * longest, H)
        self._state: State = ()
        self._depth = 0
        self.token_passes = 0  # tokens taken through the layer, padding included
        self.behind: int | None = None  # a batch follows no queue

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def active(self) -> int:
        return len(self._batch)

    def submit(self, requests: Sequence[Request]) -> None:
        self._waiting.extend(requests)

    def expire(self, tickets: Iterable[int]) -> None:
        """Do nothing: the batches are measured without deadlines."""

    @torch.inference_mode()
    def step(self) -> list[Verdict]:
        if not self._batch:
            self._fill()
        if not self._batch:
            return []
        assert self._hidden is not None, "a batch without a state. This is a bug."
        self._depth += 1
        longest = max(len(request.token_ids) for request in self._batch)
        lengths, depths = [longest] * len(self._batch), [self._depth] * len(self._batch)
        self.token_passes += sum(lengths)
        self._hidden = self._model.advance(self._hidden, lengths, depths)
        output = classifier_output(self._model.classify(self._hidden, lengths, depths))
        if self._depth == 1:
            self._state = self._policy.initial_state(len(lengths), output.logits[:0])
        self._state = self._policy.decide(output, torch.tensor(depths), self._state).state
        answers = [self._known[request.ticket] for request in self._batch]
        if any(answer.exit_layer > self._depth for answer in answers):
            return []
        self._batch, self._hidden, self._depth = [], None, 0
        return answers

    def _fill(self) -> None:
        while self._waiting and len(self._batch) < self._size:
            self._batch.append(self._waiting.popleft())
        if self._batch:
            longest = max(len(each.token_ids) for each in self._batch)
            padded = [(*each.token_ids, *[0] * (longest - len(each.token_ids))) for each in self._batch]
            self._hidden = self._model.embed(torch.tensor(padded).flatten(), [longest] * len(padded))


@dataclass(frozen=True, slots=True)
class Run:
    """What a schedule computed for all texts, and how long these waited for their answers."""

    passes: int
    token_passes: int  # tokens taken through the layer, padding included
    computing_ms: float
    mean_ms: float  # from arrival to answer
    p50_ms: float
    p99_ms: float
    longest_ms: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Packed slots and padded batches over the same texts."""

    texts: int
    size: int  # slots, and texts in a batch at most
    slots: Run
    batches: Run


@dataclass(frozen=True, slots=True)
class _Driven:
    verdicts: list[Verdict]
    passes: int
    seconds: float
    waits: list[float]

    def run(self, token_passes: int) -> Run:
        waits = sorted(1e3 * wait for wait in self.waits)
        mean, ranks = sum(waits) / len(waits), [waits[ceil(share * len(waits)) - 1] for share in (0.5, 0.99, 1.0)]
        return Run(self.passes, token_passes, 1e3 * self.seconds, mean, *ranks)


def compare(
    slots: Runner,
    model: LayeredModel,
    policy: ExitPolicy,
    size: int,
    arrivals: Sequence[tuple[float, Request]],
    clock: Clock = stopwatch,
) -> Comparison:
    """Run the texts through slots, then through padded batches of `size`.

    `arrivals`: at least one; seconds on any clock, ascending, and requests with different tickets. `slots`: an empty
    runner of packed slots.
    """
    packed = _drive(slots, arrivals, clock)
    known = {verdict.ticket: verdict for verdict in packed.verdicts}
    needed = sum(len(request.token_ids) * known[request.ticket].exit_layer for _, request in arrivals)
    loop = PaddedBatches(model, policy, size, known)
    padded = _drive(loop, arrivals, clock)
    return Comparison(len(arrivals), size, packed.run(needed), padded.run(loop.token_passes))


def _drive(runner: Runner, arrivals: Sequence[tuple[float, Request]], clock: Clock) -> _Driven:
    """Run texts that come at their times through a runner."""
    due_s = {request.ticket: at_s for at_s, request in arrivals}
    verdicts, waits, passes, seconds = list[Verdict](), list[float](), 0, 0.0
    now_s, following = arrivals[0][0], 0
    while following < len(arrivals) or runner.active or runner.waiting:
        if not (runner.active or runner.waiting):
            now_s = max(now_s, arrivals[following][0])
        elapsed = clock()
        while following < len(arrivals) and arrivals[following][0] <= now_s:
            runner.submit([arrivals[following][1]])
            following += 1
        said = runner.step()
        took_s = elapsed()
        now_s, seconds, passes = now_s + took_s, seconds + took_s, passes + 1
        verdicts += said
        waits += [now_s - due_s[verdict.ticket] for verdict in said]
    return _Driven(verdicts, passes, seconds, waits)
