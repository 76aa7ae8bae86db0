"""The engine and its peers on this machine: the same texts, weights and exits, rows in turn, medians of the rounds.

Peers that are not installed are named, never dropped. Exits are computed for real and overruled by a depth per text,
so that every row does the same work; `bench flips` says what a dtype does to real decisions.
"""

import argparse
import json
import resource
import sys
from dataclasses import asdict, replace
from pathlib import Path

from engine.bench import ours, peers_hf, peers_ort
from engine.bench.curve import curve
from engine.bench.machine import machine
from engine.bench.measure import Pace, Result, measure
from engine.bench.real import lengths_and_depths
from engine.bench.row import Setting
from engine.bench.twin import twin
from engine.bench.workload import BLOCK, GEOMETRIES, forced_depths, lengths_of, texts, usual_lengths
from engine.config import EngineConfig, ModelConfig
from engine.errors import ConfigError

_SCHEDULES = ("exit_b1", "barrel_b32", "shrink_b32", "algorithm1")
ORDER = (*(name for name in peers_hf.ROWS if name not in _SCHEDULES), *peers_ort.ROWS, *_SCHEDULES, *ours.ROWS)
BUILDS = {**peers_hf.ROWS, **peers_ort.ROWS, **ours.ROWS}
FULL = Pace(rounds=3, seconds=4.0, patience=15.0, checked=2 * BLOCK)
QUICK = Pace(rounds=2, seconds=0.3, patience=1.0, checked=BLOCK)
_MOST_BLOCKS = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `earlybird bench engine`."""
    defaults = EngineConfig()
    parser.add_argument("--geometry", choices=GEOMETRIES, default="mini", help="ALBERT of this size (default: mini)")
    parser.add_argument("--rows", nargs="+", choices=ORDER, default=ORDER, metavar="ROW", help=" ".join(ORDER))
    parser.add_argument("--lengths", type=Path, metavar="FILE", help="token counts, one a line (default: headlines')")
    parser.add_argument("--mean-exit", type=float, default=0.4, help="share of the depth (default: %(default)s)")
    parser.add_argument("--model", metavar="FOLDER", help="sizes, lengths and exit depths of this model on --texts")
    parser.add_argument(
        "--texts", type=Path, metavar="FILE", help="for --model: a text a line, or JSON lines with text"
    )
    parser.add_argument("--threads", type=int, default=1, help="1: CPU time is measured; more: wall clock")
    parser.add_argument("--slots", type=int, default=defaults.slots, help="of a packed runner (default: %(default)s)")
    parser.add_argument("--token-budget", type=int, default=defaults.token_budget, help="(default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="within a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--curve", action="store_true", help="latency against throughput of the bundled model instead")


def run(args: argparse.Namespace) -> int:
    """0, also where a peer is missing. Raises EngineError."""
    if args.threads < 1:
        raise ConfigError(f"threads: at least 1 required, was {args.threads}")
    if args.curve:
        return curve(as_json=args.json, quick=args.quick)
    config, lengths, depths = _work(args)
    setting = Setting(config, twin(config), args.threads, args.slots, args.token_budget)
    work = texts(config, lengths, depths, _MOST_BLOCKS)
    builds = {name: BUILDS[name] for name in args.rows}
    limit, results = measure(builds, setting, work, QUICK if args.quick else FULL, _tell)
    weights = sum(tensor.nbytes for tensor in setting.twin.tensors.values())
    report = {
        "machine": machine(args.threads),
        "geometry": args.model or args.geometry,
        "layers": config.layers,
        "mean_tokens": sum(lengths) / len(lengths),
        "mean_exit": sum(depths) / len(depths),
        "memory": {
            "weights_mb": weights / 1e6,
            "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        },
        "limit": limit,
        "rows": [asdict(result) for result in results],
    }
    _print(report, results, as_json=args.json)
    return 0


def _work(args: argparse.Namespace) -> tuple[ModelConfig, list[int], list[int]]:
    if (args.model is None) != (args.texts is None):
        raise ConfigError("--model and --texts: both or none required")
    if args.model is not None:
        config, lengths, depths = lengths_and_depths(args.model, args.texts)
        form = GEOMETRIES["base"]  # peers run ALBERT's form only: sizes are the model's, weights are random
        config = replace(
            config, embedding=form.embedding, pool=form.pool, activation=form.activation, classifiers=form.classifiers
        )
        return config, lengths, depths
    config = GEOMETRIES[args.geometry]
    lengths = lengths_of(args.lengths, config.max_positions) if args.lengths else usual_lengths(config.max_positions)
    return config, lengths, forced_depths(config.layers, args.mean_exit)


def _print(report: dict[str, object], results: list[Result], *, as_json: bool) -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    if as_json:
        print(json.dumps(report))
        return
    from engine.bench.table import show

    show(report, results)


def _tell(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)
