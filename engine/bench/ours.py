"""CPU rows of this engine: packed slots, and single texts on the same kernels.

In slots each text exits at its depth.
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import torch

from earlybird.engine.bench.row import CPU, BenchRow, Build, ForcedDepth, PeerResult, RowResult, Setting
from earlybird.engine.bench.workload import BenchText
from earlybird.engine.config import Dtype
from earlybird.engine.exits.policy import at_last_layer, at_limit, classifier_output
from earlybird.engine.model import Elbert
from earlybird.engine.slots.cpu_linear import linears
from earlybird.engine.slots.int8 import EightBits
from earlybird.engine.slots.layered import LayeredModel
from earlybird.engine.slots.packed import Packed
from earlybird.engine.slots.runner import Runner
from earlybird.engine.types import Request, Verdict

SHORT: dict[str, Dtype] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "int8": "int8"}


class PackedRow:
    """Packed slots, one runner per thread over shared weights."""

    peer, refilled = False, True

    def __init__(self, setting: Setting, dtype: Dtype, deterministic: bool) -> None:
        self.dtype, self.slots, self._setting = dtype, setting.slots * setting.threads, setting
        self.model: LayeredModel = elbert(setting, dtype, deterministic)

    def run(self, texts: Sequence[BenchText]) -> Sequence[RowResult]:
        threads = self._setting.threads
        if threads == 1:
            return self._drain(texts)
        waiting = deque(text.request for text in texts)
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return [results for part in pool.map(self._share, [waiting] * threads) for results in part]

    def _drain(self, texts: Sequence[BenchText]) -> list[Verdict]:
        return drained(self._runner(), [text.request for text in texts])

    def _share(self, waiting: deque[Request]) -> list[Verdict]:
        """Run one thread's runner, which takes from the common queue while it has room.

        The stage's engine threads do the same.
        """
        runner, results = self._runner(), list[Verdict]()
        while True:
            with suppress(IndexError):  # another thread took the last request
                while runner.waiting + runner.active < 2 * self._setting.slots:
                    runner.submit([waiting.popleft()])
            if not runner.waiting and not runner.active:
                return results
            results += runner.step()

    def _runner(self) -> Packed:
        return Packed(self.model, ForcedDepth(), self._setting.slots, self._setting.token_budget)


class IdleRow:
    """One text at a time through an otherwise idle runner: latency without load."""

    peer, refilled, slots = False, False, 1

    def __init__(self, dtype: Dtype, runner: Runner) -> None:
        self.dtype, self._runner = dtype, runner

    def run(self, texts: Sequence[BenchText]) -> Sequence[RowResult]:
        return [verdict for text in texts for verdict in drained(self._runner, [text.request])]


class Batch1Row:
    """Batch-1 early exit on our kernels without a runner: reference for an idle engine."""

    peer, refilled, slots = False, False, 1

    def __init__(self, setting: Setting, dtype: Dtype) -> None:
        self.dtype, self._model, self._policy = dtype, elbert(setting, dtype, False), ForcedDepth()

    @torch.inference_mode()
    def run(self, texts: Sequence[BenchText]) -> Sequence[RowResult]:
        return [self._one(text) for text in texts]

    def _one(self, text: BenchText) -> PeerResult:
        model, lengths, depth, leaves = self._model, [len(text.ids)], 0, False
        state, limit = self._policy.initial_state(1, torch.empty(0, 3)), torch.tensor([text.depth])
        hidden = model.embed(torch.tensor(text.ids), lengths)
        while not leaves:
            depth += 1
            hidden = model.advance(hidden, lengths, [depth])
            now, passes = classifier_output(model.classify(hidden, lengths, [depth])), torch.tensor([depth])
            decision = at_last_layer(self._policy.decide(now, passes, state), passes, model.config.layers)
            leaves, state = bool(at_limit(decision, passes, limit).leaving), decision.state
        return PeerResult(text.ticket, depth, tuple(now.logits[0].tolist()))


def drained(runner: Runner, requests: Sequence[Request]) -> list[Verdict]:
    """Run requests through an empty runner; return verdicts in order of exit."""
    runner.submit(requests)
    results: list[Verdict] = []
    while runner.waiting or runner.active:
        results += runner.step()
    return results


def elbert(setting: Setting, dtype: Dtype, deterministic: bool) -> Elbert:
    """Build our CPU model from the twin's weights.

    Raises ConfigError where this machine cannot run it.
    """
    layer = EightBits(deterministic) if dtype == "int8" else None
    tensors = replace(setting, device=CPU).tensors(dtype)
    return Elbert(setting.config, tensors, 1.0, linears(deterministic), layer)


def _packed(dtype: Dtype, deterministic: bool) -> Build:
    return lambda setting: PackedRow(setting, dtype, deterministic)


def _idle(dtype: Dtype) -> Build:
    def build(setting: Setting) -> BenchRow:
        model = elbert(setting, dtype, False)
        return IdleRow(dtype, Packed(model, ForcedDepth(), setting.slots, setting.token_budget))

    return build


def _alone(dtype: Dtype) -> Build:
    return lambda setting: Batch1Row(setting, dtype)


_DTYPES = {short: dtype for short, dtype in SHORT.items() if short != "fp16"}

ROWS: dict[str, Build] = {
    **{f"packed_{short}": _packed(dtype, False) for short, dtype in _DTYPES.items()},
    **{f"packed_{short}_deterministic": _packed(dtype, True) for short, dtype in _DTYPES.items()},
}
IDLE: dict[str, tuple[Build, Build]] = {
    f"packed_{short}": (_idle(dtype), _alone(dtype)) for short, dtype in _DTYPES.items()
}
"""Rows for one text at a time: an idle engine, and a batch-1 early exit on the same kernels."""
