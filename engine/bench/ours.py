"""Our rows: packed slots, each text leaving at its depth."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import torch

from engine.bench.row import Build, Exits, Row, Said, Setting
from engine.bench.workload import Text
from engine.config import Dtype
from engine.exits.policy import Answer, Decision
from engine.model import Elbert
from engine.slots.int8 import EightBits
from engine.slots.kernels import linears
from engine.slots.layered import Layered
from engine.slots.packed import Packed
from engine.types import Request


class Forced(Packed):
    """Packed slots whose exit rule is computed and then overruled by each text's own depth."""

    def __init__(self, model: Layered, slots: int, token_budget: int, depths: Mapping[int, int]) -> None:
        super().__init__(model, Exits.policy, slots, token_budget)
        self._exits = depths  # by ticket

    def _decide(self, now: Answer) -> Decision:
        decision = super()._decide(now)
        due = [
            depth >= self._exits[request.ticket] for request, depth in zip(self._requests, self._depths, strict=True)
        ]
        return decision._replace(leaving=torch.tensor(due))


class PackedRow:
    """One runner a thread over one copy of the weights; the texts are dealt out in turn."""

    peer, refilled = False, True

    def __init__(self, setting: Setting, dtype: Dtype, deterministic: bool) -> None:
        self.dtype, self.slots, self._setting = dtype, setting.slots * setting.threads, setting
        self._model = elbert(setting, dtype, deterministic)

    def run(self, texts: Sequence[Text]) -> list[Said]:
        threads = self._setting.threads
        if threads == 1:
            return self._drain(texts)
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return [
                said for part in pool.map(self._drain, [texts[n::threads] for n in range(threads)]) for said in part
            ]

    def _drain(self, texts: Sequence[Text]) -> list[Said]:
        depths = {text.ticket: text.depth for text in texts}
        runner = Forced(self._model, self._setting.slots, self._setting.token_budget, depths)
        runner.submit([Request(text.ticket, text.ids) for text in texts])
        found: list[Said] = []
        while runner.waiting or runner.active:
            found += [Said(verdict.ticket, verdict.exit_layer, verdict.logits) for verdict in runner.step()]
        return found


def elbert(setting: Setting, dtype: Dtype, deterministic: bool) -> Elbert:
    """The twin's weights in our model. Raises ConfigError where this machine cannot."""
    states = torch.float32 if dtype == "int8" else getattr(torch, dtype)
    tensors = {name: tensor.to(states) for name, tensor in setting.twin.tensors.items()}
    layer = EightBits(deterministic) if dtype == "int8" else None
    return Elbert(setting.config, tensors, 1.0, linears(deterministic), layer)


def _build(dtype: Dtype, deterministic: bool) -> Build:
    def build(setting: Setting) -> Row:
        return PackedRow(setting, dtype, deterministic)

    return build


_SHORT: dict[str, Dtype] = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}
assert set(_SHORT.values()) <= set(get_args(Dtype))

ROWS: dict[str, Build] = {
    f"packed_{short}{suffix}": _build(dtype, deterministic)
    for deterministic, suffix in ((False, ""), (True, "_det"))
    for short, dtype in _SHORT.items()
}
