"""Latency against throughput of a real model, by slots and token budget or tiers.

Texts arrive at random (Poisson). On one CPU thread the clock advances by the CPU time of each step, so other load on
the machine does not show as latency; on a card it is the wall clock. It jumps when no text is in flight.
"""

import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from earlybird.engine.bench.clock import stopwatch
from earlybird.engine.bench.measure import torch_threads
from earlybird.engine.bench.ours import Batch1Row, drained
from earlybird.engine.bench.ours_resident import Batch1GraphRow
from earlybird.engine.bench.paired_models import PairedModels
from earlybird.engine.bench.row import Setting
from earlybird.engine.bench.workload import text, usual_lengths
from earlybird.engine.config import CUDA_TIERS, EngineConfig
from earlybird.engine.engine import Engine
from earlybird.engine.slots.runner import Runner
from earlybird.engine.types import Request

SETTINGS = ((1, 128), (4, 128), (8, 256), (16, 512), (32, 1024), (64, 2048))
LOADS = (0.1, 0.5, 0.8, 0.95)  # share of the shipped setting's throughput
IDLE_TEXTS = 32
ALONE = "alone"
TEXTS, QUICK_TEXTS = 1500, 200  # twenty times that on a card


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """One setting under one load; latency is from arrival to verdict, with waiting."""

    setting: str
    most_per_s: float  # texts per second, with the queue never empty
    idle_ms: float  # one text at a time, median
    load_per_s: float
    p50_ms: float
    p99_ms: float


def curve(config: EngineConfig, *, quick: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    """Measure the points of a model, and the latency of a batch-1 early exit.

    The model and device are `config`'s, under the model's own policy. Packed slots on the CPU run on one thread,
    deterministic; the resident loop runs in bfloat16 on a card.
    """
    card = config.device == "cuda"
    if card:
        config = replace(config, runner="resident", dtype="bfloat16", deterministic=False)
    else:
        config = replace(config, runner="packed")
    shipped = Engine.load(config)
    requests = _requests(shipped, (QUICK_TEXTS if quick else TEXTS) * (20 if card else 1))
    with torch_threads(1):
        runners = dict(_settings(config))
        most = {name: _most(runner, requests, card) for name, runner in runners.items()}
        idle = _idle(shipped, runners, requests[:IDLE_TEXTS], card)
        loads = [load * most[_name(config)] for load in LOADS]
        points = []
        for name, runner in runners.items():
            for load in loads:
                progress(f"{name} at {load:.0f} texts/s")
                points.append(LoadPoint(name, most[name], idle[name], load, *_latency(runner, requests, load, card)))
    return {
        "model": shipped.model_id,
        "dtype": shipped.dtype,
        "alone_ms": idle[ALONE],
        "points": [asdict(point) for point in points],
    }


def _settings(config: EngineConfig) -> Iterator[tuple[str, Runner]]:
    """Yield the settings by name, the shipped one among them."""
    if config.device == "cuda":
        several = [replace(config, tiers=tiers) for tiers in (*((tier,) for tier in CUDA_TIERS), CUDA_TIERS)]
    else:
        several = [replace(config, slots=slots, token_budget=tokens) for slots, tokens in SETTINGS]
    for each in several:
        yield _name(each), Engine.load(each).runner()


def _name(config: EngineConfig) -> str:
    if config.device == "cuda":
        return ", ".join(f"{slots} x {tokens}" for slots, tokens, _ in config.tiers or CUDA_TIERS)
    return f"{config.slots} slots, {config.token_budget} tokens"


def _requests(engine: Engine, count: int) -> list[Request]:
    rng, lengths = random.Random(5), usual_lengths(engine.max_tokens)
    vocabulary = engine.checkpoint.config.vocab_size
    return [
        Request(ticket, tuple(rng.randrange(5, vocabulary) for _ in range(rng.choice(lengths))))
        for ticket in range(count)
    ]


def _most(runner: Runner, requests: Sequence[Request], wall: bool) -> float:
    """Measure texts per second with all of them waiting."""
    _spent(runner, requests[:32], wall)  # warm-up
    return len(requests) / _spent(runner, requests, wall)


def _idle(engine: Engine, runners: Mapping[str, Runner], requests: Sequence[Request], wall: bool) -> dict[str, float]:
    """Measure milliseconds per text for texts that come one at a time.

    Medians over the texts, through each runner in turn and, as ALONE, through a batch-1 early exit on the same kernels,
    where every text exits at the depth of its verdict.
    """
    config, dtype = engine.checkpoint.config, engine.config.dtype
    setting = Setting(config, PairedModels(None, engine.model.tensors), 1, 1, 1, torch.device(engine.device))
    row = Batch1GraphRow(setting, dtype) if wall else Batch1Row(setting, dtype)
    depths = {verdict.ticket: verdict.exit_layer for verdict in drained(engine.runner(), requests)}
    texts = [text(each.ticket, each.token_ids, depths[each.ticket]) for each in requests]
    row.run(texts)  # warm-up: a card captures graphs
    times: dict[str, list[float]] = {name: [] for name in (*runners, ALONE)}
    for request, each in zip(requests, texts, strict=True):
        for name, runner in runners.items():
            times[name].append(_spent(runner, [request], wall))
        elapsed = stopwatch(wall=wall)
        row.run([each])
        times[ALONE].append(elapsed())
    return {name: 1e3 * statistics.median(several) for name, several in times.items()}


def _spent(runner: Runner, requests: Sequence[Request], wall: bool) -> float:
    elapsed = stopwatch(wall=wall)
    drained(runner, requests)
    return elapsed()


def _latency(runner: Runner, requests: Sequence[Request], per_s: float, wall: bool) -> tuple[float, float]:
    """Measure p50 and p99 in milliseconds.

    A load above the runner's throughput gives a queue that grows to the end.
    """
    rng, now, due = random.Random(11), 0.0, 0.0
    arrivals = []
    for _ in requests:
        due += rng.expovariate(per_s)
        arrivals.append(due)
    waits, following = list[float](), 0
    while following < len(requests) or runner.active or runner.waiting:
        if not (runner.active or runner.waiting):
            now = max(now, arrivals[following])
        elapsed = stopwatch(wall=wall)
        while following < len(requests) and arrivals[following] <= now:
            runner.submit([requests[following]])
            following += 1
        verdicts = runner.step()
        now += elapsed()
        waits += [now - arrivals[verdict.ticket] for verdict in verdicts]
    waits.sort()
    return waits[len(waits) // 2] * 1e3, waits[int(len(waits) * 0.99)] * 1e3
