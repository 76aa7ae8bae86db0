"""Latency under a burst, with and without exits that follow the load.

Texts arrive at random (Poisson), first at 0.6 of what the idle policy can do, then faster than it can (the burst), then
at 0.6 again. The same arrivals meet each policy of the ladder alone and the ladder. One thread; the clock advances by
the CPU time of each step, so other load on the machine does not show as latency.

Reads labelled texts as `earlybird evaluate` does (default: the package's challenge set) and repeats them as needed.
"""

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from earlybird.engine.bench.clock import stopwatch
from earlybird.engine.bench.measure import torch_threads
from earlybird.engine.bench.ours import drained
from earlybird.engine.config import BUNDLED, EngineConfig
from earlybird.engine.engine import Engine
from earlybird.engine.errors import ConfigError
from earlybird.engine.evaluation.challenge import Challenge, read_challenge
from earlybird.engine.exits.ladder import Ladder
from earlybird.engine.slots.runner import Runner
from earlybird.engine.text.assembly import Text
from earlybird.engine.training.data import Example, read_examples
from earlybird.engine.types import Request, Verdict

BEFORE = AFTER = 0.6  # of the idle policy's capacity
TEXTS, QUICK_TEXTS = 3_000, 900
SEED = 11


@dataclass(frozen=True, slots=True)
class Row:
    """What one policy makes of the arrivals; latency is from arrival to verdict, with waiting."""

    policy: str
    p50_ms: float
    p99_ms: float
    burst_p99_ms: float  # of the texts that arrived in the burst
    longest_queue: int
    mean_depth: float
    busy: float  # share of texts that did not take the first rung
    right: float  # share of texts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `earlybird bench burst`."""
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="labelled texts (default: challenge set)")
    parser.add_argument("--model", default=BUNDLED, metavar="FOLDER", help="(default: the bundled model)")
    parser.add_argument("--policy", metavar="SPEC", help="load:... (default: the model's own; fixed:1 from 16 waiting)")
    parser.add_argument("--burst", type=float, default=1.5, metavar="TIMES", help="the idle capacity (%(default)s)")
    parser.add_argument("--texts", type=int, metavar="COUNT", help=f"in all, a third in the burst ({TEXTS:,})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_TEXTS} texts")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Run the command; raises EngineError."""
    count = args.texts or (QUICK_TEXTS if args.quick else TEXTS)
    if args.burst <= 0 or count < 30:
        raise ConfigError(f"burst: a rate above 0 and at least 30 texts required, was {args.burst} and {count}")
    with torch_threads(1):
        report = burst(args.model, args.policy, args.file, args.burst, count)
    if args.json:
        print(json.dumps(report))
        return 0
    print(
        f"{report['model']}, {report['texts']:,} texts; the idle policy can do {report['idle_per_s']:.0f} texts/s; "
        f"burst of {report['burst_texts']:,} texts at {report['burst_per_s']:.0f} texts/s"
    )
    print(f"{'p50 ms':>8} {'p99 ms':>8} {'in burst':>9} {'queue':>6} {'depth':>6} {'busy':>6} {'right':>6}  policy")
    for row in report["rows"]:
        print(
            f"{row['p50_ms']:>8.0f} {row['p99_ms']:>8.0f} {row['burst_p99_ms']:>9.0f} {row['longest_queue']:>6} "
            f"{row['mean_depth']:>6.2f} {row['busy']:>6.0%} {row['right']:>6.1%}  {row['policy']}"
        )
    return 0


def burst(model: str, policy: str | None, path: Path | None, times: float, count: int) -> dict[str, Any]:
    """Measure a ladder and its policies; raises EngineError."""
    ladder = Engine.load(EngineConfig(model, policy, runner="packed", device="cpu"))
    if policy is None:
        spec = f"load:idle=({ladder.policy.spec}),busy=(fixed:1),at=16"
        ladder = Engine.load(EngineConfig(model, spec, runner="packed", device="cpu"))
    if not isinstance(ladder.policy, Ladder):
        raise ConfigError(f"policy: load:... required, was {ladder.policy.spec!r}")
    alone = [Engine.load(EngineConfig(model, spec, runner="packed", device="cpu")) for spec in ladder.rungs]
    requests, labels = _requests(ladder, path, count)
    idle = alone[0].runner()
    drained(idle, requests[:32])  # warm-up
    elapsed = stopwatch()
    drained(idle, requests)
    idle_per_s = count / elapsed()
    arrivals = _arrivals(count, idle_per_s, times)
    rows = [_row(engine, requests, labels, arrivals) for engine in (*alone, ladder)]
    return {
        "model": ladder.model_id,
        "texts": count,
        "idle_per_s": idle_per_s,
        "burst_per_s": times * idle_per_s,
        "burst_texts": len(_burst(count)),
        "rows": [asdict(row) for row in rows],
    }


def _requests(engine: Engine, path: Path | None, count: int) -> tuple[list[Request], list[int]]:
    """Return `count` requests in random order, and their labels."""
    items: Sequence[Challenge | Example] = read_challenge() if path is None else read_examples(path)
    encoded = engine.encoder.encode([Text((item.text,)) for item in items])
    known = [(each.token_ids, item.label) for each, item in zip(encoded, items, strict=True) if each is not None]
    if not known:
        raise ConfigError("texts: at least one that the model can read required, was none")
    chosen = [known[place] for place in random.Random(SEED).choices(range(len(known)), k=count)]
    return [Request(ticket, ids) for ticket, (ids, _) in enumerate(chosen)], [label for _, label in chosen]


def _burst(count: int) -> range:
    return range(count // 3, 2 * count // 3)


def _arrivals(count: int, idle_per_s: float, times: float) -> list[float]:
    rng, now, inside, found = random.Random(SEED), 0.0, _burst(count), []
    for number in range(count):
        share = times if number in inside else BEFORE if number < inside.start else AFTER
        now += rng.expovariate(share * idle_per_s)
        found.append(now)
    return found


def _row(engine: Engine, requests: Sequence[Request], labels: Sequence[int], arrivals: Sequence[float]) -> Row:
    drained(engine.runner(), requests[:32])  # warm-up
    waits, said, longest = _served(engine.runner(), requests, arrivals)
    inside, count = _burst(len(requests)), len(requests)
    return Row(
        engine.policy.spec,
        1e3 * _at(waits, 0.5),
        1e3 * _at(waits, 0.99),
        1e3 * _at([waits[ticket] for ticket in inside], 0.99),
        longest,
        sum(verdict.exit_layer for verdict in said) / count,
        sum(bool(verdict.rung) for verdict in said) / count,
        sum(verdict.label == labels[verdict.ticket] for verdict in said) / count,
    )


def _served(
    runner: Runner, requests: Sequence[Request], arrivals: Sequence[float]
) -> tuple[list[float], list[Verdict], int]:
    """Serve the arrivals; return each text's seconds, the verdicts and the longest queue."""
    now, following, longest = 0.0, 0, 0
    waits, said = [0.0] * len(requests), list[Verdict]()
    runner.behind = 0  # the runner has the whole queue
    while len(said) < len(requests):
        if not (runner.active or runner.waiting):
            now = max(now, arrivals[following])
        elapsed = stopwatch()
        while following < len(requests) and arrivals[following] <= now:
            runner.submit([requests[following]])
            following += 1
        found = runner.step()
        now += elapsed()
        longest = max(longest, runner.waiting)
        for verdict in found:
            waits[verdict.ticket] = now - arrivals[verdict.ticket]
        said += found
    return waits, said, longest


def _at(values: Sequence[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)]
