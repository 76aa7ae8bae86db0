"""Latency against throughput of the bundled model: what `slots` and `token_budget` buy.

Texts arrive at random (Poisson) on a clock that advances by the CPU time of each step and jumps when nothing is under
way, so a busy neighbour on the machine does not show as latency.
"""

import json
import random
from dataclasses import asdict, dataclass

from engine.bench.clock import stopwatch
from engine.bench.measure import torch_threads
from engine.bench.workload import usual_lengths
from engine.config import EngineConfig
from engine.engine import Engine
from engine.slots.packed import Packed
from engine.slots.runner import Runner
from engine.types import Request

SETTINGS = ((1, 128), (4, 128), (8, 256), (16, 512), (32, 1024), (64, 2048))
LOADS = (0.1, 0.5, 0.8, 0.95)  # of what the default setting can do


@dataclass(frozen=True, slots=True)
class Point:
    """One setting under one load. Latency from arrival to verdict, waiting included."""

    slots: int
    token_budget: int
    most_per_s: float  # texts, with the queue never empty
    load_per_s: float
    p50_ms: float
    p99_ms: float


def curve(*, as_json: bool, quick: bool) -> int:
    """Prints the points; one thread, deterministic, the bundled model under its own policy."""
    engine = Engine.load(EngineConfig(runner="packed", device="cpu"))
    requests = _requests(engine, 200 if quick else 1500)
    with torch_threads(1):
        most = {setting: _most(_runner(engine, setting), requests) for setting in SETTINGS}
        default = most[(engine.config.slots, engine.config.token_budget)]
        points = [
            Point(
                *setting, most[setting], load * default, *_latency(_runner(engine, setting), requests, load * default)
            )
            for setting in SETTINGS
            for load in LOADS
        ]
    if as_json:
        print(json.dumps([asdict(point) for point in points]))
    else:
        _show(points)
    return 0


def _requests(engine: Engine, count: int) -> list[Request]:
    chance, lengths = random.Random(5), usual_lengths(engine.max_tokens)
    vocabulary = engine.checkpoint.config.vocab_size
    return [
        Request(ticket, tuple(chance.randrange(5, vocabulary) for _ in range(chance.choice(lengths))))
        for ticket in range(count)
    ]


def _point(engine: Engine, setting: tuple[int, int], most: float, load: float, requests: list[Request]) -> Point:
    return Point(*setting, most, load, *_latency(_runner(engine, setting), requests, load))


def _runner(engine: Engine, setting: tuple[int, int]) -> Runner:
    return Packed(engine.model, engine.policy, *setting)


def _most(runner: Runner, requests: list[Request]) -> float:
    """Texts a second with all of them waiting."""
    runner.submit(requests[:32])
    _empty(runner)  # warm
    runner.submit(requests)
    elapsed = stopwatch()
    _empty(runner)
    return len(requests) / elapsed()


def _empty(runner: Runner) -> None:
    while runner.waiting or runner.active:
        runner.step()


def _latency(runner: Runner, requests: list[Request], per_s: float) -> tuple[float, float]:
    """p50 and p99 in milliseconds. A load above what the runner can do gives a queue that grows to the end."""
    chance, now, due = random.Random(11), 0.0, 0.0
    arrivals = []
    for _ in requests:
        due += chance.expovariate(per_s)
        arrivals.append(due)
    waits, following = list[float](), 0
    while following < len(requests) or runner.active or runner.waiting:
        if not (runner.active or runner.waiting):
            now = max(now, arrivals[following])
        elapsed = stopwatch()
        while following < len(requests) and arrivals[following] <= now:
            runner.submit([requests[following]])
            following += 1
        said = runner.step()
        now += elapsed()
        waits += [now - arrivals[verdict.ticket] for verdict in said]
    waits.sort()
    return waits[len(waits) // 2] * 1e3, waits[int(len(waits) * 0.99)] * 1e3


def _show(points: list[Point]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("slots", "token budget", "most texts/s", title="p50 / p99 ms of the bundled model, one core")
    for load in sorted({point.load_per_s for point in points}):
        table.add_column(f"{load:.0f} texts/s", justify="right")
    for slots, budget in SETTINGS:
        row = [point for point in points if (point.slots, point.token_budget) == (slots, budget)]
        cells = [f"{point.p50_ms:.0f} / {point.p99_ms:.0f}" for point in row]
        table.add_row(str(slots), str(budget), f"{row[0].most_per_s:.0f}", *cells)
    Console().print(table)
