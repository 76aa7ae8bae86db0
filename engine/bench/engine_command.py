"""Benchmark of the engine and its peers: same texts, weights and exits.

Rows run in turn, and figures are medians over the rounds. Peers that are not installed are named, never dropped. Exits
are computed and then overruled by a depth per text, so that every row does the same work; `bench flips` measures a
dtype's effect on real decisions. Further figures: the latency of a single text on an idle engine, the cost of
determinism, the host's work for a resident loop, the gain of further threads, and the memory of an engine.

--curve, --profile or --million run instead of all that.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from earlybird.engine.bench.curve import curve
from earlybird.engine.bench.host import host
from earlybird.engine.bench.idle import PAIRS, idle
from earlybird.engine.bench.limit import peaks
from earlybird.engine.bench.machine import machine
from earlybird.engine.bench.measure import RunLength, deterministic, measure, torch_threads
from earlybird.engine.bench.memory import card_mb, memory, peak_mb
from earlybird.engine.bench.paired_models import paired_models
from earlybird.engine.bench.profile import profile
from earlybird.engine.bench.real import lengths_and_depths
from earlybird.engine.bench.registry import BUILDS, IDLE, MORE, ROWS
from earlybird.engine.bench.row import BenchRow, Build, Setting
from earlybird.engine.bench.threads import scaling
from earlybird.engine.bench.waste import waste
from earlybird.engine.bench.workload import BLOCK, GEOMETRIES, forced_depths, lengths_of, texts, usual_lengths
from earlybird.engine.config import BUNDLED, CUDA_TIERS, Dtype, EngineConfig, ModelConfig
from earlybird.engine.device.step import Tier
from earlybird.engine.errors import ConfigError

FULL = {
    "cpu": RunLength(rounds=3, seconds=4.0, longest_s=15.0, checked=2 * BLOCK),
    "cuda": RunLength(rounds=3, seconds=1.0, longest_s=15.0, checked=2 * BLOCK),
}
QUICK = RunLength(rounds=3, seconds=0.3, longest_s=0.7, checked=BLOCK // 2, enough=30.0)
MEMORY_TEXTS = {True: BLOCK, False: 16 * BLOCK}  # by --quick
PROFILED = {"cpu": ("packed_fp32_deterministic", "packed_int8_deterministic"), "cuda": ("resident_bf16",)}
_MOST_BLOCKS = {"cpu": 32, "cuda": 1024}
_GEOMETRY = {"cpu": "mini", "cuda": "large"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `earlybird bench engine`."""
    defaults = EngineConfig()
    parser.add_argument("--device", choices=ROWS, default="cpu", help="(default: cpu)")
    parser.add_argument("--geometry", choices=GEOMETRIES, help="ALBERT of this size (default: mini; on cuda large)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--rows", nargs="+", choices=BUILDS, metavar="ROW", help=f"only these, of {' '.join(BUILDS)}")
    which.add_argument("--all", action="store_true", help="more dtypes and tilings than the default rows")
    parser.add_argument(
        "--lengths", metavar="FILE|COUNT", help="token counts, one a line, or one for all (default: headlines')"
    )
    parser.add_argument("--mean-exit", type=float, default=0.4, help="share of the depth (default: %(default)s)")
    parser.add_argument("--model", metavar="FOLDER", help="sizes, lengths and exit depths of this model on --texts")
    parser.add_argument(
        "--texts", type=Path, metavar="FILE", help="for --model: a text a line, or JSON lines with text"
    )
    parser.add_argument("--threads", type=int, default=1, help="1: CPU time is measured; more: wall clock")
    parser.add_argument("--slots", type=int, default=defaults.slots, help="of a packed runner (default: %(default)s)")
    parser.add_argument("--token-budget", type=int, default=defaults.token_budget, help="(default: %(default)s)")
    parser.add_argument(
        "--tiers", nargs="+", type=_tier, metavar="SLOTSxTOKENSxSTEPS", help="of resident loops (default: as shipped)"
    )
    parser.add_argument("--quick", action="store_true", help="within a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--curve", action="store_true", help="latency against throughput of --model, or the bundled")
    instead.add_argument("--profile", action="store_true", help="where a step's time goes, for --rows of ours")
    instead.add_argument(
        "--million", type=int, nargs="?", const=1_000_000, metavar="TEXTS", help="memory over so many texts"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; returns 0, also where a peer is missing. Raises EngineError."""
    if args.threads < 1:
        raise ConfigError(f"threads: at least 1 required, was {args.threads}")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device: no CUDA device is usable here, torch was {torch.__version__}")
    if args.curve:
        settings = EngineConfig(args.model or BUNDLED, device=args.device)
        report = {"machine": machine(1, args.device), **curve(settings, quick=args.quick, progress=_progress)}
    else:
        report = _report(args)
    _print(report, as_json=args.json)
    return 0


def _report(args: argparse.Namespace) -> dict[str, Any]:
    config, lengths, depths = _work(args)
    head: dict[str, Any] = {
        "machine": machine(args.threads, args.device),
        "geometry": args.model or args.geometry or _GEOMETRY[args.device],
        "layers": config.layers,
        "mean_tokens": sum(lengths) / len(lengths),
        "mean_exit": sum(depths) / len(depths),
        "waste": asdict(waste(texts(config, lengths, depths, 64), BLOCK)),
    }
    tiers = tuple(args.tiers or (Tier(*tier) for tier in CUDA_TIERS if args.device == "cuda"))
    device = torch.device(args.device)
    setting = Setting(config, paired_models(config), args.threads, args.slots, args.token_budget, device, tiers)
    if args.million is not None:
        if args.device == "cuda":
            raise ConfigError("million: memory is measured on packed slots of the CPU, was asked of cuda")
        if args.million < BLOCK:
            raise ConfigError(f"million: at least {BLOCK} texts required, was {args.million}")
        return {**head, "memory": [asdict(memory(config, "float32", lengths, depths, args.million, setting))]}
    work = texts(config, lengths, depths, _MOST_BLOCKS[args.device])
    if args.profile:
        return {**head, **_profiles(args, setting, work)}
    run_length = QUICK if args.quick else FULL[args.device]
    names = args.rows or ROWS[args.device] + (MORE[args.device] if args.all else ())
    builds = {name: _build(name, args, head) for name in names}
    limit, results = measure(builds, setting, work, run_length, _progress)
    sampled: dict[str, Any] = {}
    if args.rows is None:
        pairs = {name: PAIRS[args.device][name] for name in (PAIRS if args.all else IDLE)[args.device]}
        sampled["idle"] = [asdict(each) for each in idle(pairs, setting, work[: BLOCK // 2], _progress)]
        _progress("host")
        sampled["host"] = asdict(host(config, work[: 64 * BLOCK]))
    if args.rows is None and args.device == "cpu":
        count, cores = MEMORY_TEXTS[args.quick], head["machine"]["cores_usable"]
        _progress("memory")
        dtypes: tuple[Dtype, ...] = ("float32",) if args.quick else ("float32", "int8")
        sampled["memory"] = [asdict(memory(config, dtype, lengths, depths, count, setting)) for dtype in dtypes]
        _progress("threads")
        sampled["threads"] = [asdict(each) for each in scaling(setting, work, cores, run_length)]
    return {
        **head,
        "bench_peak_mb": peak_mb(),
        **({"card_peak_mb": card_mb(device)} if args.device == "cuda" else {}),
        "limit": limit,
        "rows": [asdict(result) for result in results],
        "deterministic": deterministic(results),
        **sampled,
    }


def _build(name: str, args: argparse.Namespace, head: Mapping[str, Any]) -> Build:
    def build(_: Setting) -> BenchRow:
        raise ConfigError(f"left out by --quick; --rows {name} runs it")

    # Padding costs the pipeline what it costs hf_batch32, in minutes for larger models.
    left_out = name == "hf_pipeline_batch32" and args.quick and args.rows is None and head["geometry"] != "mini"
    return build if left_out else BUILDS[name]


def _profiles(args: argparse.Namespace, setting: Setting, work: list[Any]) -> dict[str, Any]:
    names = args.rows or PROFILED[args.device]
    with torch_threads(1):
        rows = {name: BUILDS[name](setting) for name in names}
        limit = peaks(setting.config, [row.dtype for row in rows.values()], setting.device)
        some = work[: (4 if args.device == "cpu" else 256) * BLOCK]
        found = [profile(name, row, setting, some, limit[row.dtype]) for name, row in rows.items()]
    return {"limit": limit, "profiles": [asdict(each) for each in found]}


def _work(args: argparse.Namespace) -> tuple[ModelConfig, list[int], list[int]]:
    if (args.model is None) != (args.texts is None):
        raise ConfigError("--model and --texts: both or none required")
    if args.model is not None:
        config, lengths, depths = lengths_and_depths(args.model, args.texts)
        form = GEOMETRIES["base"]  # peers run ALBERT's form only: the model's sizes, random weights, one shared layer
        changed = ("embedding", "pool", "activation", "classifiers", "groups")
        config = replace(config, **{name: getattr(form, name) for name in changed})
        return config, lengths, depths
    config = GEOMETRIES[args.geometry or _GEOMETRY[args.device]]
    if args.lengths is None:
        return config, usual_lengths(config.max_positions), forced_depths(config.layers, args.mean_exit)
    lengths = lengths_of(args.lengths, config.max_positions)
    # Slots padded to the longest allowed text are padded to the longest text of the run.
    return replace(config, max_positions=max(lengths)), lengths, forced_depths(config.layers, args.mean_exit)


def _tier(text: str) -> Tier:
    slots, tokens, steps = text.split("x")
    return Tier(int(slots), int(tokens), int(steps))


def _print(report: Mapping[str, Any], *, as_json: bool) -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    if as_json:
        print(json.dumps(report))
        return
    from earlybird.engine.bench.table import show

    show(report)


def _progress(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)
