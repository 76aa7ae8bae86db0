"""The manifest of a replay: its input, its model and its limits as a backtest."""

from typing import Any

from earlybird.stream.extras import version
from earlybird.stream.replay.player import Plan, Player


def manifest_of(plan: Plan, player: Player, latency: str, output: dict[str, Any], *, chosen: bool) -> dict[str, Any]:
    """Return the content of manifest.json; `chosen`: whether the user named the latency.

    What a mode does not count is None: a replay of recorded signals reads no dead letters.
    """
    summary, in_sample = player.summary, player.in_sample
    return {
        "schema": "replay/1",
        **plan.content(),
        "latency": latency,
        "latency_chosen": chosen,
        "latency_recorded": _recorded_latency(player),
        "look_ahead": plan.order == "event",
        "in_sample": in_sample.reason is not None,
        "in_sample_reason": in_sample.reason,
        "in_sample_signals": in_sample.signals,
        "novelty_taken_back": player.novelty.taken_back,
        "edited_history_dated_by_update": player.edited,
        "signals_over_an_hour_behind": player.behind,
        "ingest_times_assumed": player.assumed if plan.mode == "recompute" else None,
        "models": list(summary.models.values()),
        "symbol_tables": sorted(summary.symbol_tables),
        "counts": summary.report() | ({} if plan.mode == "recompute" else {"rejections": None}),
        "output": output,
        "code_version": version(),
    }


def _recorded_latency(player: Player) -> dict[str, int] | None:
    """Return the live stage's latency in microseconds; None where none was seen."""
    took = sorted(player.latencies_us)
    if not took:
        return None
    return {"signals": len(took), "p50_us": took[len(took) // 2], "p99_us": took[len(took) * 99 // 100]}
