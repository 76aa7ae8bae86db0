"""Time of a step by kind of work, and by kernel on a card.

The kinds: matrix products, attention, pointwise work, exits, moving states, and Python; on a card also its idle time.

Operators are timed by the wall clock under torch's profiler, the total without it; the remainder of the total is the
host's. On a busy machine the parts add up to more.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from earlybird.engine.bench.clock import wait
from earlybird.engine.bench.ours import PackedRow
from earlybird.engine.bench.row import BenchRow, Setting
from earlybird.engine.bench.workload import BenchText
from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.policy import Heads
from earlybird.engine.flops import flops
from earlybird.engine.slots.layered import LayeredModel, ModelSizes

_ADVANCE, _EMBED, _CLASSIFY = "earlybird::advance", "earlybird::embed", "earlybird::classify"
_MOVES = ("cat", "split", "index_select", "narrow", "select", "index", "copy_", "slice", "clone")
_ATTENDS = ("attention", "flash", "fmha", "split", "cat", "permute", "transpose", "unbind", "squeeze", "view", "select")
_MULTIPLIES = ("linear", "addmm", "::mm", "matmul")
_REST = "pointwise and slots"
_QUANTIZES = ("byte_prepack",)
_CARD = {"attention": ("flash", "fmha", "attention"), "products": ("gemm", "nvjet", "cutlass", "xmma", "splitk")}


RUNS = 3


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a row's time."""

    kind: str
    us_per_text: float
    share: float


@dataclass(frozen=True, slots=True)
class RowProfile:
    """Time of one row by part.

    `products_of_limit`: the products' time at the GEMM's peak, divided by their measured time.
    """

    name: str
    us_per_text: float
    parts: tuple[Part, ...]
    products_of_limit: float
    kernels: tuple[Part, ...] = ()  # on a card: the slowest kernels, by name


class Scoped:
    """Model wrapper with profiler ranges."""

    def __init__(self, model: LayeredModel) -> None:
        self._model = model

    @property
    def config(self) -> ModelSizes:
        return self._model.config

    @property
    def dtype(self) -> torch.dtype:
        return self._model.dtype

    def embed(self, token_ids: Tensor, lengths: Sequence[int]) -> Tensor:
        with record_function(_EMBED):
            return self._model.embed(token_ids, lengths)

    def advance(self, hidden: Tensor, lengths: Sequence[int], depths: Sequence[int]) -> Tensor:
        with record_function(_ADVANCE):
            return self._model.advance(hidden, lengths, depths)

    def classify(self, hidden: Tensor, lengths: Sequence[int], depths: Sequence[int]) -> Heads:
        with record_function(_CLASSIFY):
            return self._model.classify(hidden, lengths, depths)


def profile(name: str, row: BenchRow, setting: Setting, texts: Sequence[BenchText], limit: float) -> RowProfile:
    """Profile one of our rows over these texts; raises ConfigError.

    `limit`: its dtype's GEMM peak in G/s.
    """
    if row.peer:
        raise ConfigError(f"profile: a row of ours required, was {name}")
    if isinstance(row, PackedRow):
        row.model = Scoped(row.model)
    card = setting.device.type == "cuda"
    row.run(texts)  # warm-up

    def once() -> float:
        start = time.perf_counter()
        row.run(texts)
        wait(setting.device)
        return time.perf_counter() - start

    whole = 1e6 * min(once() for _ in range(RUNS))
    runs = [_kernels(once, scoped=isinstance(row, PackedRow), card=card) for _ in range(RUNS)]
    # The least of each part excludes other load on the machine.
    by_kernel = Counter({name: min(found[name] for found in runs) for name in runs[0]})
    by_kind = _on_card(by_kernel) if card else by_kernel
    by_kind["card waits" if card else "Python"] = max(0, round(whole) - by_kind.total())
    needed = sum(flops(setting.config, len(text.ids), text.depth) for text in texts)
    attended = sum(4 * len(text.ids) ** 2 * setting.config.hidden_size * text.depth for text in texts)

    def parts(found: Counter[str], most: int) -> tuple[Part, ...]:
        return tuple(Part(kind, us / len(texts), us / whole) for kind, us in found.most_common(most))

    return RowProfile(
        name,
        whole / len(texts),
        parts(by_kind, 12),
        (needed - attended) / (limit * 1e3) / max(by_kind["products"], 1),
        parts(by_kernel, 15) if card else (),
    )


def _kernels(work: Callable[[], object], *, scoped: bool, card: bool) -> Counter[str]:
    """Measure microseconds by kernel on a card, by kind on the CPU."""
    found = Counter[str]()
    if card:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            work()
        for event in profiler.events() or ():
            if event.device_type.name != "CPU":
                found[event.name] += round(event.self_device_time_total)
        return found
    with torch.autograd.profiler.profile(use_kineto=False) as profiler:
        work()
    for event in profiler.function_events or ():
        if not event.name.startswith("earlybird::"):  # our ranges, whose own time is Python's
            found[_kind(event, scoped)] += round(event.self_cpu_time_total)
    return found


def _kind(event: Any, scoped: bool) -> str:
    """Return the kind of an operator's own time."""
    line = [event.name]  # innermost first
    scope, parent = "", event.cpu_parent
    while parent is not None and not scope:
        if parent.name.startswith("earlybird::"):
            scope = parent.name
        else:
            line.append(parent.name)
        parent = parent.cpu_parent
    if scope in (_EMBED, _CLASSIFY):
        return "embedding" if scope == _EMBED else "exits"
    if scoped and scope == "" and not _any(line, (*_MULTIPLIES, "attention")):
        return "moving states" if _any(line[-1:], _MOVES) else "exits"
    for kind, names in (("quantising", _QUANTIZES), ("products", _MULTIPLIES), ("attention", _ATTENDS)):
        if _any(line, names):
            return kind
    return "pointwise" if scoped else _REST


def _on_card(by_kernel: Counter[str]) -> Counter[str]:
    found = Counter[str]()
    for name, us in by_kernel.items():
        kinds = [kind for kind, names in _CARD.items() if _any([name.lower()], names)]
        found[kinds[0] if kinds else "copies" if name.startswith(("Memcpy", "Memset")) else _REST] += us
    return found


def _any(line: Iterable[str], names: Sequence[str]) -> bool:
    return any(name in each for each in line for name in names)
