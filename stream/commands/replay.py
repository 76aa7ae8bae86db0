"""Replay history at any speed from topics or an archive, without touching live data.

  earlybird replay recorded  --from 2024-05-01 --to 2024-06-01 --output may
  earlybird replay recompute --archive DIR --policy cwb:delta=0.2,window=2 --compare --output again

`recorded` replays the published signals and reads no dead letters. `recompute` puts the raw texts through the same
stage with a model and policy of your choice, and counts its own dead letters. Records are in order of availability: by
the broker's append time, or by the ingest time of back-dated history. The output folder holds the signals and
manifest.json: the input, the code and model, and the hashes of input and output.

--from and --to take ISO 8601 (UTC where no zone is named), an epoch, now, -2h, offset=N or TOPIC/PARTITION=N
(repeatable). A duration has its unit: 250ms, 1.5s, 5m, 2h, 1d. Exit status 1: --compare found a difference that should
not be.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from earlybird.stream.commands.arguments import add_bounds, speed
from earlybird.stream.config import settings as settings_module
from earlybird.stream.errors import SettingsError
from earlybird.stream.observability.logging import configure_logging
from earlybird.stream.observability.quantity import quantity


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: source, range, model, output."""
    settings_module.add_config_option(parser)
    parser.add_argument("mode", nargs="?", choices=["recorded", "recompute"], default="recorded")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="signals and manifest go there")
    parser.add_argument("--format", choices=["parquet", "arrow", "jsonl", "topic"], default="parquet")
    parser.add_argument("--topic", metavar="NAME", help="with --format topic: a topic of its own, never a live one")
    parser.add_argument("--archive", type=Path, metavar="FOLDER", help="read files of `earlybird archive`, not Kafka")
    add_bounds(parser)
    parser.add_argument("--slack", metavar="DURATION", help="how far a partition's times are out of order, or all (1h)")
    parser.add_argument(
        "--available", choices=["auto", "appended", "ingested"], default="auto",
        help="what counts: the broker's time, or ingested_us (for signals of back-dated history)",
    )  # fmt: skip
    parser.add_argument(
        "--latency",
        metavar="DURATION",
        help="added to availability: 250ms, or empirical, drawn from what the live stage took (default: 0)",
    )
    parser.add_argument("--order", choices=["available", "event"], default="available", help="event looks ahead")
    parser.add_argument("--speed", type=speed, metavar="X", help="1, 10, ... times as fast as recorded; max (default)")
    parser.add_argument("--model", help="for recompute: another model")
    parser.add_argument("--policy", help="for recompute: another exit policy")
    parser.add_argument("--symbols", type=Path, metavar="FILE", help="for recompute: another table of symbols")
    parser.add_argument("--compare", action="store_true", help="for recompute: hold every signal against the record")
    parser.add_argument("--strict", action="store_true", help="refuse in-sample, edited, cut and look-ahead replays")
    parser.add_argument("--run-id", metavar="ID", help="run_id of every signal (default: replay-TIME-RANDOM)")
    parser.add_argument("--resume", action="store_true", help="go on with a replay that was interrupted")
    parser.add_argument("--dry-run", action="store_true", help="say what would be read; write nothing")


def run(args: argparse.Namespace) -> int:
    """Replay; the exit status is 1 if --compare failed."""
    from earlybird.stream.replay.run import Options, history_of, plan_of, run_replay

    settings = settings_module.load(args.config)
    configure_logging(settings.log.level, settings.log.format)
    chosen: dict[str, Any] = {name: value for name in ("model", "policy") if (value := getattr(args, name)) is not None}
    if args.symbols is not None:
        chosen["symbols"] = settings.symbols.model_copy(update={"table": args.symbols})
    if chosen and args.mode == "recorded":
        raise SettingsError(f"--{next(iter(chosen))}: recorded signals stay as they are; use it with recompute")
    settings = settings.model_copy(update=chosen)
    options = Options(
        args.output, args.mode, args.format, args.topic, args.archive, args.start, args.end, args.slack, args.available,
        args.latency, args.order, args.speed, args.compare, args.strict, args.resume, args.run_id,
    )  # fmt: skip
    history = history_of(settings, options)
    plan = plan_of(settings, options, history)
    if args.dry_run:
        print(json.dumps(plan.content() | {"records": _records(plan.spans.values())}, indent=2))
        return 0
    with _Progress(_records(plan.spans.values())) as progress:
        manifest = run_replay(settings, options, history, plan, progress)
    print("\n".join(summary(manifest)))
    return 0 if manifest.get("comparison", {}).get("holds", True) else 1


def summary(manifest: dict[str, Any]) -> list[str]:
    """Return the manifest in a few lines."""
    counts = manifest["counts"]
    letters = [] if counts["rejections"] is None else [quantity(sum(counts["rejections"].values()), "dead letter")]
    outcomes = [quantity(counts["signals"], "signal"), *letters]
    lines = [
        f"{manifest['mode']}: {', '.join(outcomes)}, run {manifest['run_id']}",
        f"output: {manifest['output'].get('file') or manifest['output'].get('topic')}, "
        f"content {counts['content_sha256'][:16]}",
    ]
    for partition, (offset, _) in manifest["cut"].items():
        lines.append(f"CUT: {partition} begins at offset {offset}; earlier records that were asked for may be gone")
    if manifest["in_sample"]:
        lines.append(f"IN-SAMPLE: {quantity(manifest['in_sample_signals'], 'signal')}; {manifest['in_sample_reason']}")
    by_text = manifest["mode"] == "recompute" or manifest["availability"] == "ingested"  # append times hold the latency
    if by_text and (took := manifest["latency_recorded"]) and not manifest["latency_chosen"]:
        lines.append(
            f"NO LATENCY: signals come the instant their texts were available; the live stage took "
            f"{took['p50_us'] / 1e3:,.1f} ms (p50), {took['p99_us'] / 1e3:,.1f} ms (p99): --latency empirical"
        )
    if manifest["novelty_taken_back"]:
        lines.append(f"novelty taken back, its first was not yet available: {manifest['novelty_taken_back']:,}")
    if manifest["look_ahead"]:
        lines.append("LOOK-AHEAD: in the order of events, not of availability")
    if manifest["edited_history_dated_by_update"]:
        lines.append(f"edited afterwards, dated by their update: {manifest['edited_history_dated_by_update']:,}")
    if manifest["ingest_times_assumed"]:
        lines.append(f"ingest times that were assumed, not observed: {manifest['ingest_times_assumed']:,}")
    if manifest.get("recorded_deadlines") or manifest.get("recorded_shed"):
        lines.append(
            f"as in the record: {quantity(manifest['recorded_deadlines'], 'deadline')}, "
            f"{manifest['recorded_shed']:,} shed"
        )
    if "comparison" in manifest:
        found = manifest["comparison"]
        verdict = "as expected" if found["holds"] else "NOT AS EXPECTED"
        lines.append(f"against the record: {verdict}; expected {found['expected']} ({found['why']})")
        figures = [name for name, figure in found.items() if isinstance(figure, int | float) and name != "holds"]
        if found["only_recomputed"]:
            lines.append("  some texts have no signal in the record: did the live stage get that far?")
        lines.append("  " + ", ".join(f"{name.replace('_', ' ')} {found[name]}" for name in figures))
        pairs = [f"{pair['recorded']} -> {pair['recomputed']} {pair['signals']:,}" for pair in found["labels"]]
        lines.append("  labels: " + (", ".join(pairs) or "none"))
        for side, layers in found["exit_layers"].items():
            lines.append(f"  exit layers, {side}: " + ", ".join(f"{layer}: {n:,}" for layer, n in layers.items()))
        if found["differing"] or found["novelty_differing"] or found["only_recorded"] or found["only_recomputed"]:
            lines.append("  signal by signal: comparison.jsonl")
    return lines


class _Progress:
    """Progress bar with the replayed clock, on a terminal only."""

    def __init__(self, records: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("[bold]{task.fields[clock]}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:,.0f}/s"), TimeRemainingColumn(),
            console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty(),
        )  # fmt: skip
        self._task = self._bar.add_task("replay", total=records, clock="", rate=0.0)
        self._count, self._begun_s = 0, time.monotonic()

    def __enter__(self) -> Callable[[int], None]:
        self._bar.start()
        return self._advance

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _advance(self, at_us: int) -> None:
        self._count += 1
        if not self._bar.disable and self._count % 64 == 1:
            clock = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at_us / 1e6))
            rate = self._count / max(time.monotonic() - self._begun_s, 1e-9)
            self._bar.update(self._task, completed=self._count, clock=clock, rate=rate)


def _records(spans: Any) -> int:
    return sum(end - start for start, end in spans)
