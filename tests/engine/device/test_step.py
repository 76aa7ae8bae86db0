"""What lets a step be captured: no operator that waits for the device or has a shape that hangs on values, buffers
that stay where they are, and a CUDA path that fits together, as far as fake tensors can tell."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from earlybird.engine.device.layer import StaticElbert, Tiles
from earlybird.engine.device.loop import Resident
from earlybird.engine.device.step import CapturedStep, Table, Tier
from earlybird.engine.device.streams import Immediate
from earlybird.engine.exits.spec import parse
from earlybird.engine.types import Request
from earlybird.engine.weights import shapes

POLICIES = ("cwb:delta=0.4,window=3", "fixed:3", "full")
WAITING = {  # operators whose result is on the host, or as large as values say
    "_local_scalar_dense",
    "item",
    "is_nonzero",
    "equal",
    "allclose",
    "nonzero",
    "masked_select",
    "unique_dim",
    "_unique",
    "_unique2",
    "unique_consecutive",
    "bincount",
    "repeat_interleave",
    "lift_fresh",  # a tensor made from values of the host, as torch.tensor does
}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}


class HostSync(AssertionError):
    """An operator that a captured step may not have."""


class Lint(TorchDispatchMode):
    """Raises HostSync at such an operator; `seen` are the names of all that passed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in WAITING:
            raise HostSync(f"{func}: the host waits for its result")
        if name in INDEXING and any(
            isinstance(each, Tensor) and each.dtype in (torch.bool, torch.uint8) for each in args[1]
        ):
            raise HostSync(f"{func}: indexing by a mask counts the mask's ones on the host")
        devices = {each.device for each in (*args, *kwargs.values()) if isinstance(each, Tensor) and each.dim()}
        if "device" in kwargs and kwargs["device"] is not None and name == "_to_copy":
            devices.add(torch.device(kwargs["device"].type, kwargs["device"].index or 0))
        if len({device.type for device in devices}) > 1:
            raise HostSync(f"{func}: from one device to another, {devices}")
        self.seen.append(name)
        return func(*args, **kwargs)


OFFENDERS: dict[str, Callable[[Tensor, Tensor], object]] = {
    "mask index": lambda x, mask: x[mask],
    "mask assignment of a tensor": lambda x, mask: x.__setitem__(mask, x[:1]),
    "byte mask": lambda x, mask: x[mask.to(torch.uint8)],
    "item": lambda x, _: x[0].item(),
    "a branch": lambda _, mask: 1 if mask.any() else 0,
    "nonzero": lambda _, mask: mask.nonzero(),
    "where with one argument": lambda _, mask: torch.where(mask),
    "masked_select": lambda x, mask: x.masked_select(mask),
    "unique": lambda x, _: x.unique(),
    "repeat_interleave": lambda x, mask: torch.repeat_interleave(x, mask.long()),
    "a slice by a value": lambda x, mask: x[: mask.sum()],
    "split by values": lambda x, mask: x.split([int(mask.sum()), 8 - int(mask.sum())]),
    "a tensor of host values": lambda x, _: torch.tensor([1.0], device=x.device) + x,
    "equal": lambda x, _: torch.equal(x, x),
    "bincount": lambda _, mask: torch.bincount(mask.long()),
}


@pytest.mark.parametrize("offence", OFFENDERS)
def test_the_lint_catches(offence: str) -> None:
    """Otherwise its silence about the step says nothing."""
    x, mask = torch.arange(8.0), torch.arange(8) % 3 == 0
    with pytest.raises(HostSync), Lint():
        OFFENDERS[offence](x, mask)


@pytest.mark.parametrize("offence", ["to the host", "a list", "numpy"])
def test_the_lint_catches_on_fake_cuda_what_a_cpu_cannot_show(offence: str) -> None:
    """A copy to the host is no operator at all on the CPU."""
    offences: dict[str, Callable[[Tensor], object]] = {
        "to the host": lambda x: x.cpu(),
        "a list": lambda x: x.tolist(),
        "numpy": lambda x: x.to("cpu").numpy(),
    }
    with FakeTensorMode():
        x = torch.zeros(8, device="cuda")
        with pytest.raises((HostSync, RuntimeError)), Lint():
            offences[offence](x)


@pytest.mark.parametrize("spec", POLICIES)
@pytest.mark.parametrize("geometry", ["albert", "late-norm", "groups", "adapters"])
@pytest.mark.parametrize("tiles", [None, Tiles(64, 4), Tiles(64, 4, batched=True)])
def test_a_step_never_waits_and_never_moves_a_buffer(
    pair: Callable[..., Any], hostile: Callable[..., Any], geometry: str, spec: str, tiles: Tiles | None
) -> None:
    """Every step of every tier, with texts coming and going: linted, and at the addresses it was captured with."""

    sequences = set[tuple[str, ...]]()

    class Linted(Immediate):
        def graph(self, step: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                with Lint() as lint:
                    step()
                sequences.add(tuple(lint.seen))

            return run

    model, policy = pair(geometry, torch.float32, tiles).static, parse(spec, 6)
    runner = Resident(model, policy, (Tier(4, 64), Tier(8, 128, 2)), Linted(), entries=9)
    addresses, requests, said = runner.table.addresses(), hostile("mixed", 30), 0
    while requests or runner.waiting or runner.active:
        runner.submit(requests[:3])
        del requests[:3]
        said += len(runner.step())
        assert runner.table.addresses() == addresses
    assert said == 30
    assert len(sequences) == (2 if tiles and not tiles.batched else 1), (
        "the same operators in every step, whatever lies in the table"
    )


def fake_world(
    pair: Callable[..., Any], geometry: str, dtype: torch.dtype, tiles: Tiles | None, tiers: tuple[Tier, ...]
) -> tuple[Table, list[CapturedStep]]:
    """Everything on fake CUDA; call it under FakeTensorMode."""
    config = pair(geometry).static.config
    tensors = {name: torch.empty(shape, dtype=dtype, device="cuda") for name, shape in shapes(config).items()}
    model, policy = StaticElbert(config, tensors, tiles=tiles), parse(POLICIES[0], config.layers)
    table = Table.empty(model, policy, tiers, entries=32)
    return table, [CapturedStep(model, policy, table, tier) for tier in tiers]


def described(table: Table) -> list[tuple[str, torch.Size, torch.dtype, str]]:
    names = [name for name in table.__dataclass_fields__ if name != "memory"]
    tensors = [*((name, getattr(table, name)) for name in names), *(("memory", each) for each in table.memory)]
    return [(name, each.shape, each.dtype, each.device.type) for name, each in tensors]


@pytest.mark.parametrize("tiles", [None, Tiles(64, 4), Tiles(64, 4, batched=True)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("geometry", ["albert", "late-norm", "groups", "adapters"])
def test_the_step_fits_together_on_fake_cuda_tensors(
    pair: Callable[..., Any], geometry: str, dtype: torch.dtype, tiles: Tiles | None
) -> None:
    """Shapes, dtypes and devices of the very path a card takes, varlen attention in half precision included, and no
    copy between host and device in it. Says nothing about values or kernels."""
    with FakeTensorMode(), Lint() as lint:
        table, steps = fake_world(pair, geometry, dtype, tiles, (Tier(4, 64), Tier(8, 128)))
        before = described(table)
        for step in steps:
            lint.seen.clear()
            step()
            attention = [name for name in lint.seen if "varlen" in name]
            assert len(attention) == (0 if dtype == torch.float32 else {"adapters": 2, "groups": 4}.get(geometry, 1))
        assert described(table) == before
        assert {device for *_, device in before} == {"cuda"}


def test_varlen_attention_gets_static_offsets_and_a_bound_that_is_the_models(pair: Callable[..., Any]) -> None:
    """The known replay trap: offsets of another shape, or the longest text of the moment, burnt into the graph."""
    calls: list[dict[str, Any]] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "varlen" in func.name():
                names = (argument.name for argument in func._schema.arguments)
                calls.append(dict(zip(names, args, strict=False)))  # defaults are left out
            return func(*args, **(kwargs or {}))

    with FakeTensorMode(), Watch():
        for tiles in (None, Tiles(64, 4), Tiles(64, 4, batched=True)):
            _, (step,) = fake_world(pair, "albert", torch.bfloat16, tiles, (Tier(8, 128),))
            step()
    assert [call.get("num_splits") for call in calls] == [None, 1, 1]
    for call in calls:
        assert call["query"].shape == (128, 2, 16)
        assert call["cu_seq_q"] is call["cu_seq_k"]
        assert (call["cu_seq_q"].shape, call["cu_seq_q"].dtype) == ((9,), torch.int32)
        assert (call["max_q"], call["max_k"], call.get("is_causal", False)) == (40, 40, False)


def test_offsets_of_empty_slots_repeat_the_last_end(pair: Callable[..., Any]) -> None:
    """Two texts in five slots: what varlen attention reads at a replay."""
    model, policy = pair("albert").static, parse("full", 6)
    table = Table.empty(model, policy, (Tier(5, 64),), entries=8)
    step = CapturedStep(model, policy, table, Tier(5, 64))
    table.queue[:2] = torch.tensor([[0, 7, 0, -1], [7, 3, 1, -1]])
    table.tail.fill_(2)
    with torch.no_grad():
        spread = step._spread(step._seat(), torch.ones(5, dtype=torch.int64))
    assert spread.offsets.tolist() == [0, 7, 10, 10, 10, 10]
    assert int(spread.real.sum()) == 10


def test_a_step_compiles_without_a_break(pair: Callable[..., Any]) -> None:
    """In one piece, as fusing needs it, and it says what the step as written says (graph by graph: no code is
    generated here)."""
    model, policy, tiers = pair("late-norm").static, parse(POLICIES[0], 6), (Tier(4, 64),)

    class Compiled(Immediate):
        def graph(self, step: Callable[[], None]) -> Callable[[], None]:
            return torch.compile(step, fullgraph=True, dynamic=False, backend="aot_eager")

    said = []
    for device in (Immediate(), Compiled()):
        runner = Resident(model, policy, tiers, device)
        runner.submit([Request(ticket, (ticket % 97,) * (ticket % 40 + 1)) for ticket in range(20)])
        found = []
        while runner.waiting or runner.active:
            found += runner.step()
        said.append({verdict.ticket: (verdict.label, verdict.exit_layer, verdict.exit_reason) for verdict in found})
    assert said[0] == said[1]
    assert len(said[0]) == 20
