"""What a card would punish later and elsewhere: memory that a graph still reads, steps that outlive their loop, one
compilation too many. Streams and graphs are stand-ins here: a capture is entered and left, and nothing is recorded."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.config import EngineConfig
from engine.engine import Engine
from engine.errors import ConfigError
from engine.exits.spec import parse
from engine.slots.resident import Resident
from engine.slots.resident_device import CudaDevice, Immediate, Mark, Work
from engine.slots.resident_step import Step, Table, Tier
from engine.types import Request


class StandIn:
    """A stream or a graph that does nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        self.replays = 0

    def wait_stream(self, other: object) -> None:
        """Nothing runs late here."""

    def synchronize(self) -> None:
        """Nothing is under way."""

    def replay(self) -> None:
        self.replays += 1


@pytest.fixture
def _no_card(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("Stream", "CUDAGraph", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, StandIn)
    for name in ("stream", "graph", "graph_pool_handle"):
        monkeypatch.setattr(torch.cuda, name, lambda *_, **__: nullcontext())
    yield


@pytest.mark.usefixtures("_no_card")
def test_a_captured_step_lives_as_long_as_its_graph(pair: Callable) -> None:
    """Its own tensors are made before the capture, and the graph reads them at every replay."""
    model, policy, tier = pair("albert").static, parse("full", 6), Tier(4, 64)
    step = Step(model, policy, Table.empty(model, policy, (tier,), 8), tier)
    watched = [weakref.ref(step), weakref.ref(step._tokens), weakref.ref(step._places)]
    work = CudaDevice(torch.device("cuda")).graph(step)
    del step
    gc.collect()
    assert all(each() is not None for each in watched)
    work()
    assert work.replayed.replays == 1  # type: ignore[attr-defined]
    del work
    gc.collect()
    assert all(each() is None for each in watched)


@pytest.fixture
def _own_compilations() -> Iterator[None]:
    """Others compile the same lines, and expect fewer of them to be there already."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("_no_card", "_own_compilations")
def test_a_process_may_compile_more_steps_than_the_compiler_expects_of_one_function(pair: Callable) -> None:
    """Tiers, dtypes and models all compile the same lines; beyond eight it gives up."""

    class Eager(CudaDevice):
        def _fused(self, step: Callable[[], None]) -> Work:
            return torch.compile(step, fullgraph=True, dynamic=False, backend="eager")

    model, policy = pair("albert").static, parse("full", 6)
    device = Eager(torch.device("cuda"), fuse=True)
    for slots in range(1, 11):
        tier = Tier(slots, 64)
        table = Table.empty(model, policy, (tier,), 8)
        device.graph(Step(model, policy, table, tier))
        assert table.counts.tolist() == [0, 0]


class LazyMark:
    """Not reached before somebody waits for it."""

    def __init__(self) -> None:
        self._waited = False

    def reached(self) -> bool:
        return self._waited

    def wait(self) -> None:
        self._waited = True


class LazyLane:
    """Does everything at once, and says so late."""

    def run(self, work: Work) -> None:
        work()

    def mark(self) -> Mark:
        return LazyMark()

    def after(self, mark: Mark) -> None:
        """In order already."""


def test_a_loop_that_is_dropped_waits_for_its_last_steps(pair: Callable) -> None:
    """They write into its table, whose memory is the next one's at once."""
    lane = LazyLane()
    device = Immediate(compute=lane, uploads=lane, downloads=lane)
    runner = Resident(pair("albert").static, parse("full", 6), (Tier(4, 64),), device)
    runner.submit([Request(1, (5, 6, 7))])
    while runner.waiting or runner.active:
        runner.step()
    marks = {batch.done for batch in runner._batches}
    assert marks and not any(mark.reached() for mark in marks), "nothing was left under way: this test says nothing"
    del runner
    gc.collect()
    assert all(mark.reached() for mark in marks)


def test_tiles_go_one_by_one_where_all_at_once_changes_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deterministic mode compares, takes the slower kind, and is refused by name where that fails, too."""
    settings = EngineConfig(runner="resident", device="cpu", tiers=((4, 128, 1), (16, 512, 2)))
    usual = Engine.load(settings)
    usual.runner()
    assert usual._static_and_numerics[0].tiles == (128, 4, True)

    batched, alone = torch.baddbmm, torch.nn.functional.linear

    def by_company(bias: Tensor, tiles: Tensor, weights: Tensor) -> Tensor:
        return batched(bias, tiles, weights) * (1 + 1e-3 * len(tiles))

    monkeypatch.setattr(torch, "baddbmm", by_company)
    careful = Engine.load(settings)
    careful.runner()
    assert careful._static_and_numerics[0].tiles == (128, 4, False)

    calls = [0]

    def at_whim(*args: Any) -> Tensor:
        calls[0] += 1
        return alone(*args) * (1 + 1e-6 * calls[0])

    monkeypatch.setattr(torch.nn.functional, "linear", at_whim)
    with pytest.raises(ConfigError, match="deterministic: not possible on this cpu"):
        Engine.load(settings).runner()
