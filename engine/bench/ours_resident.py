"""Device rows of this engine: the resident loop and the rows it is compared to.

The loop runs in each dtype and mode, over the tiers that are asked for. All rows also run on the CPU, where the tests
run them.

Tested on the CPU; not yet run on a CUDA device.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor

from earlybird.engine.bench.ours import SHORT, IdleRow, drained
from earlybird.engine.bench.row import BenchRow, Build, ForcedDepth, PeerResult, RowResult, Setting
from earlybird.engine.bench.workload import BenchText
from earlybird.engine.config import Dtype, ModelConfig
from earlybird.engine.device.layer import Spread, StaticElbert, Tiles
from earlybird.engine.device.loop import Resident
from earlybird.engine.device.step import Tier
from earlybird.engine.device.streams import CudaDevice, Device, Immediate
from earlybird.engine.device.tiling import KINDS, steady
from earlybird.engine.exits.policy import Heads, at_last_layer, at_limit, classifier_output
from earlybird.engine.slots.packed import Packed


class ResidentRow:
    """The shipped resident loop, captured when it is built."""

    peer, refilled = False, True

    def __init__(self, setting: Setting, dtype: Dtype, tiles: Tiles | None = None) -> None:
        self.dtype, self.slots = dtype, tiers_of(setting)[-1].slots
        self.loop = resident(setting, dtype, tiles)

    def run(self, texts: Sequence[BenchText]) -> Sequence[RowResult]:
        return drained(self.loop, [text.request for text in texts])


class HostRow:
    """Packed slots over the device's model: the host waits for every step's results."""

    peer, refilled = False, True

    def __init__(self, setting: Setting, dtype: Dtype) -> None:
        *_, (self.slots, tokens, _) = tiers_of(setting)
        self.dtype, self._tokens, self._model = dtype, tokens, Synchronous(static(setting, dtype))

    def run(self, texts: Sequence[BenchText]) -> Sequence[RowResult]:
        return drained(Packed(self._model, ForcedDepth(), self.slots, self._tokens), [text.request for text in texts])


class Synchronous:
    """A Layered model (engine.slots.layered) with states on the device.

    Its results are returned to the host at once.
    """

    def __init__(self, model: StaticElbert) -> None:
        self._model, self._spread = model, spread([1], model.where)

    @property
    def config(self) -> ModelConfig:
        return self._model.config

    @property
    def dtype(self) -> torch.dtype:
        return self._model.dtype

    def embed(self, token_ids: Tensor, lengths: Sequence[int]) -> Tensor:
        return self._model.embed(token_ids.to(self._model.where), spread(lengths, self._model.where).place)

    def advance(self, hidden: Tensor, lengths: Sequence[int], depths: Sequence[int]) -> Tensor:
        self._spread = spread(lengths, self._model.where, depths)
        return self._model.advance(hidden, self._spread)

    def classify(self, hidden: Tensor, lengths: Sequence[int], depths: Sequence[int]) -> Heads:  # noqa: ARG002
        """See LayeredModel.classify; for the texts of the last `advance`."""
        logits, certainty = self._model.classify(hidden, self._spread)
        return Heads(logits.cpu(), None if certainty is None else certainty.cpu())


class Batch1GraphRow:
    """Batch-1 early exit with one graph per length: reference for an idle loop.

    The host reads the result after every pass.
    """

    peer, refilled, slots = False, False, 1

    def __init__(self, setting: Setting, dtype: Dtype) -> None:
        self.dtype, self._model, self._device = dtype, static(setting, dtype), device_of(setting)
        self._passes: dict[int, _Pass] = {}  # by text length

    @torch.no_grad()
    def run(self, texts: Sequence[BenchText]) -> Sequence[RowResult]:
        return [self._one(text) for text in texts]

    def _one(self, text: BenchText) -> PeerResult:
        length = len(text.ids)
        if length not in self._passes:
            self._passes[length] = _Pass(self._model, self._device, length)
        return self._passes[length].through(text)


class _Pass:
    """Buffers and two captured graphs for one text of one length."""

    def __init__(self, model: StaticElbert, device: Device, length: int) -> None:
        where, config = model.where, model.config
        self._model, self._policy, self._device = model, ForcedDepth(), device
        self._ids = torch.zeros(length, dtype=torch.int64, device=where)
        self._hidden = torch.zeros(length, config.hidden_size, dtype=model.dtype, device=where)
        self._depth, self._limit = (torch.zeros(1, dtype=torch.int64, device=where) for _ in range(2))
        self._spread = spread([length], where)._replace(depth=self._depth)  # shared memory: a graph sees the depth rise
        self._state = self._policy.initial_state(
            1, torch.zeros(0, config.n_labels, dtype=model.exit_dtype, device=where)
        )
        self._result = torch.zeros(1 + config.n_labels, dtype=model.exit_dtype, device=where)  # exit flag, logits
        self._result_host, self._ids_host = device.pinned(self._result), device.pinned(self._ids)
        self._embed, self._advance = device.graph(self._start), device.graph(self._pass)

    def through(self, text: BenchText) -> PeerResult:
        """Run a text until it exits."""
        run, depth = self._device.compute.run, 0
        self._ids_host.copy_(torch.tensor(text.ids))
        run(partial(self._ids.copy_, self._ids_host, non_blocking=True))
        run(partial(self._limit.fill_, text.depth))
        run(self._embed)
        self._result_host[0] = 0.0
        while not self._result_host[0]:
            run(self._advance)
            run(partial(self._result_host.copy_, self._result, non_blocking=True))
            self._device.compute.mark().wait()
            depth += 1
        return PeerResult(text.ticket, depth, tuple(self._result_host[1:].tolist()))

    @torch.no_grad()
    def _start(self) -> None:
        self._hidden.copy_(self._model.embed(self._ids, self._spread.place))
        for each in (self._depth, *self._state):
            each.zero_()

    @torch.no_grad()
    def _pass(self) -> None:
        self._depth.add_(1)
        self._hidden.copy_(self._model.advance(self._hidden, self._spread))
        now = classifier_output(self._model.classify(self._hidden, self._spread))
        decision = self._policy.decide(now, self._depth, self._state)
        decision = at_limit(at_last_layer(decision, self._depth, self._model.config.layers), self._depth, self._limit)
        for kept, memory in zip(self._state, decision.state, strict=True):
            kept.copy_(memory)
        self._result.copy_(torch.cat([decision.leaving.to(self._result.dtype), now.logits[0]]))


def static(setting: Setting, dtype: Dtype, tiles: Tiles | None = None) -> StaticElbert:
    """Build the static-shape model from the twin's weights, on the rows' device.

    Raises ConfigError where this machine cannot run it.
    """
    return StaticElbert(setting.config, setting.tensors(dtype), 1.0, tiles)


def resident(setting: Setting, dtype: Dtype, tiles: Tiles | None = None) -> Resident:
    """Build an empty loop over the setting's tiers; deterministic with `tiles`."""
    device = device_of(setting, deterministic=tiles is not None)
    return Resident(static(setting, dtype, tiles), ForcedDepth(), tiers_of(setting), device)


def tiers_of(setting: Setting) -> tuple[Tier, ...]:
    """Return the setting's tiers, small to large."""
    return setting.tiers or (Tier(setting.slots, setting.token_budget),)


def device_of(setting: Setting, *, deterministic: bool = False) -> Device:
    """Create a new device, since lanes have one owner."""
    if setting.device.type != "cuda":
        return Immediate()
    return CudaDevice(setting.device, setting.compile, deterministic)


def spread(lengths: Sequence[int], where: torch.device, depths: Sequence[int] = ()) -> Spread:
    """Build the Spread of texts of these lengths, end to end without spare rows."""
    sizes, ends = torch.tensor(lengths), torch.tensor([0, *accumulate(lengths)])
    slot = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    place = torch.arange(len(slot)) - ends[slot]
    passes = torch.tensor(depths) if depths else torch.ones_like(sizes)
    parts = (torch.ones_like(slot, dtype=torch.bool), slot, place, ends[:-1], sizes, ends.to(torch.int32), passes)
    return Spread(*(part.to(where) for part in parts))


def _resident(dtype: Dtype, *, compile: bool = False) -> Build:
    return lambda setting: ResidentRow(replace(setting, compile=compile), dtype)


def _deterministic(dtype: Dtype, *, kinds: Sequence[str] = KINDS, compile: bool = False) -> Build:
    """Return the builder of the first of `kinds` with stable bits, as Engine chooses.

    The built row raises ConfigError if none has.
    """

    def build(setting: Setting) -> BenchRow:
        mine, tiers = replace(setting, compile=compile), tiers_of(setting)
        found = steady(lambda tiles: resident(mine, dtype, tiles), tiers, kinds)
        return ResidentRow(mine, dtype, found.tiles)

    return build


def _host(dtype: Dtype) -> Build:
    return lambda setting: HostRow(setting, dtype)


def _idle(dtype: Dtype, *, compile: bool = False) -> tuple[Build, Build]:
    return (
        lambda setting: IdleRow(dtype, resident(replace(setting, compile=compile), dtype)),
        lambda setting: Batch1GraphRow(setting, dtype),
    )


_DTYPES = {short: SHORT[short] for short in ("bf16", "fp16", "fp32")}

ROWS: dict[str, Build] = {
    **{f"packed_on_device_{short}": _host(dtype) for short, dtype in _DTYPES.items()},
    **{f"resident_{short}": _resident(dtype) for short, dtype in _DTYPES.items()},
    **{f"resident_{short}_deterministic": _deterministic(dtype) for short, dtype in _DTYPES.items()},
    **{f"resident_bf16_deterministic_{kind}": _deterministic("bfloat16", kinds=[kind]) for kind in KINDS},
    "resident_bf16_compiled": _resident("bfloat16", compile=True),
    "resident_bf16_compiled_deterministic": _deterministic("bfloat16", compile=True),
}
IDLE: dict[str, tuple[Build, Build]] = {
    **{f"resident_{short}": _idle(dtype) for short, dtype in _DTYPES.items()},
    "resident_bf16_compiled": _idle("bfloat16", compile=True),
}
"""Rows for one text at a time: an idle loop, and a batch-1 early exit with a graph per length."""
