"""The resident loop on lanes that are late: copies and steps run some time after they were queued, in any order that
the marks between lanes allow. What a CUDA stream may do, these do on purpose."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from earlybird.engine.device.loop import Resident
from earlybird.engine.device.step import Tier
from earlybird.engine.device.streams import StreamMark, Work
from earlybird.engine.exits.spec import parse
from earlybird.engine.slots.reference import trace
from earlybird.engine.types import Request, Verdict
from earlybird.schemas.signal import ExitReason


@dataclass
class LateMark:
    lane: "LateLane"
    behind: int  # items of the lane before it

    def reached(self) -> bool:
        self.lane.device.run_some()
        return self.lane.done >= self.behind

    def wait(self) -> None:
        while self.lane.done < self.behind:
            self.lane.device.run_one()


class LateLane:
    """Work is queued, and run when the device's chance falls on this lane."""

    def __init__(self, device: "Late") -> None:
        self.device, self.done, self._items = device, 0, deque[Work | LateMark]()

    def run(self, work: Work) -> None:
        self._items.append(work)
        self.device.run_some()

    def mark(self) -> StreamMark:
        return LateMark(self, self.done + len(self._items))

    def after(self, mark: StreamMark) -> None:
        assert isinstance(mark, LateMark)
        self._items.append(mark)

    @property
    def ready(self) -> bool:
        head = self._items[0] if self._items else None
        return head is not None and (not isinstance(head, LateMark) or head.lane.done >= head.behind)

    def advance(self) -> None:
        item = self._items.popleft()
        if not isinstance(item, LateMark):
            item()
        self.done += 1


class Late:
    """Three late lanes on the CPU. `laziness` 0: nothing runs before somebody waits for it; 1: half of it does."""

    where = torch.device("cpu")

    def __init__(self, rng: random.Random, laziness: float) -> None:
        self._chance, self._laziness = rng, laziness
        self.compute, self.uploads, self.downloads = LateLane(self), LateLane(self), LateLane(self)

    def pinned(self, like: Tensor) -> Tensor:
        return torch.zeros(like.shape, dtype=like.dtype)

    def graph(self, step: Callable[[], None]) -> Work:
        step()
        return step

    def run_some(self) -> None:
        while self._chance.random() < self._laziness / 2 and self._ready():
            self.run_one()

    def run_one(self) -> None:
        """One item of any lane that may run."""
        self._chance.choice(self._ready()).advance()

    def _ready(self) -> list[LateLane]:
        return [lane for lane in (self.compute, self.uploads, self.downloads) if lane.ready]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1 << 32),
    laziness=st.sampled_from([0.0, 0.3, 1.0, 1.8]),
    entries=st.integers(1, 12),
    ahead=st.integers(1, 4),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=40),
)
@example(seed=0, laziness=0.0, entries=24, ahead=4, lengths=[40] * 60)  # more tokens than the token ring holds
def test_late_lanes_change_when_a_text_is_answered_never_what_is_said(
    pair: Callable[..., Any],
    seed: int,
    laziness: float,
    entries: int,
    ahead: int,
    lengths: list[int],
) -> None:
    """Small rings, changing tiers, submissions and expiries at any time; float64, so every outcome is the oracle's, at
    the depth where it was cut short if it was; every ticket once. A copy that could be overtaken by the host's next
    write, or a step by the copy it needs, shows here."""
    models, rng = pair("albert"), random.Random(seed)
    policy = parse("cwb:delta=0.4,window=3", 6)
    tiers = (Tier(1, 20), Tier(3, 60, 2), Tier(6, 100, 3))
    runner = Resident(models.static, policy, tiers, Late(rng, laziness), entries, ahead)
    requests = [Request(ticket, tuple(rng.choices(range(97), k=length))) for ticket, length in enumerate(lengths)]
    waiting, said, expired = list(requests), list[Verdict](), set[int]()
    while waiting or runner.waiting or runner.active:
        few = rng.choice([0, 0, 1, 2, 9])
        runner.submit(waiting[:few])
        del waiting[:few]
        if rng.random() < 0.2:
            late = rng.sample(range(len(lengths)), rng.randrange(3) if len(lengths) > 2 else 1)
            runner.expire(late)
            expired.update(late)
        said += runner.step()
    assert sorted(verdict.ticket for verdict in said) == list(range(len(lengths)))
    by_ticket = {verdict.ticket: verdict for verdict in said}
    for request in requests:
        given = by_ticket[request.ticket]
        cut = given.exit_reason is ExitReason.DEADLINE
        assert not cut or request.ticket in expired
        limited = replace(request, depth_limit=given.exit_layer) if cut else request
        alone = trace(models.oracle, policy, limited).verdict
        assert (given.label, given.exit_layer, given.exit_reason) == (alone.label, alone.exit_layer, alone.exit_reason)
