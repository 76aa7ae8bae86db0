"""What a card would punish later and elsewhere: memory that a graph still reads, steps that outlive their loop, one
compilation too many. Streams and graphs are stand-ins here: a capture is entered and left, and nothing is recorded."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from earlybird.engine.device.loop import Resident
from earlybird.engine.device.step import CapturedStep, Table, Tier
from earlybird.engine.device.streams import CudaDevice, Immediate, StreamMark, Work
from earlybird.engine.exits.spec import parse
from earlybird.engine.types import Request


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
def test_a_captured_step_lives_as_long_as_its_graph(pair: Callable[..., Any]) -> None:
    """Its own tensors are made before the capture, and the graph reads them at every replay."""
    model, policy, tier = pair("albert").static, parse("full", 6), Tier(4, 64)
    step = CapturedStep(model, policy, Table.empty(model, policy, (tier,), 8), tier)
    watched: list[Callable[[], object]] = [weakref.ref(each) for each in (step, step._tokens, step._places)]
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
def test_a_process_may_compile_more_steps_than_the_compiler_expects_of_one_function(pair: Callable[..., Any]) -> None:
    """Tiers, dtypes and models all compile the same lines; beyond eight it gives up."""

    class Eager(CudaDevice):
        def _fused(self, step: Callable[[], None]) -> Work:
            return torch.compile(step, fullgraph=True, dynamic=False, backend="eager")

    model, policy = pair("albert").static, parse("full", 6)
    device = Eager(torch.device("cuda"), compile=True)
    for slots in range(1, 11):
        tier = Tier(slots, 64)
        table = Table.empty(model, policy, (tier,), 8)
        device.graph(CapturedStep(model, policy, table, tier))
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

    def __init__(self) -> None:
        self.marks: list[LazyMark] = []

    def run(self, work: Work) -> None:
        work()

    def mark(self) -> StreamMark:
        self.marks.append(LazyMark())
        return self.marks[-1]

    def after(self, mark: StreamMark) -> None:
        """In order already."""


@pytest.mark.parametrize("fails", [False, True])
def test_a_loop_that_is_dropped_waits_for_its_last_steps(pair: Callable[..., Any], fails: bool) -> None:
    """They write into its table, whose memory is the next one's at once. Of a loop that failed in the middle of a
    launch, too."""
    lanes = [LazyLane() for _ in range(3)]
    device = Immediate(compute=lanes[0], uploads=lanes[1], downloads=lanes[2])
    runner = Resident(pair("albert").static, parse("full", 6), (Tier(4, 64),), device)
    runner.submit([Request(1, (5, 6, 7))])
    if fails:
        runner._buffers.clear()
        with pytest.raises(AssertionError, match="landings"):
            runner.step()
    while not fails and (runner.waiting or runner.active):
        runner.step()
    del runner
    gc.collect()
    assert all(lane.marks and lane.marks[-1].reached() for lane in lanes)


@pytest.mark.usefixtures("_no_card")
def test_the_compiler_knows_its_options() -> None:
    """An option that torch has renamed would fail at the first start on a card."""
    device = CudaDevice(torch.device("cuda"), compile=True, deterministic=True)
    assert callable(device._compiled(lambda: None))
