"""Text output of a report; missing parts are skipped."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from earlybird.engine.bench.measure import REFILLS
from earlybird.engine.bench.memory import SAMPLES_AT

_WIDTH = 132


def show(report: Mapping[str, Any]) -> None:
    """Print machine and workload, then the parts."""
    console = Console(width=_WIDTH, highlight=False, soft_wrap=True, markup=False)
    _head(console, report)
    parts = {
        "rows": _rows,
        "idle": _idle,
        "deterministic": _deterministic,
        "threads": _threads,
        "memory": _memory,
        "host": _host,
        "bench_peak_mb": _peak,
        "card_peak_mb": _card_peak,
        "profiles": _profiles,
        "points": _points,
    }
    for name, part in parts.items():
        if report.get(name):
            part(console, report)


def _head(console: Console, report: Mapping[str, Any]) -> None:
    machine, versions = report["machine"], report["machine"]["versions"]
    topology = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in machine["topology"].items())
    console.print(
        f"{machine['cpu']} ({machine['family_model']}), {topology}, {machine['threads']} of "
        f"{machine['cores_usable']} usable cores, "
        f"{' '.join(f'{name} {size}' for name, size in machine['caches'].items())}, {' '.join(machine['units'])}, "
        f"load {machine['load_average']}"
    )
    if "card" in machine:
        console.print(", ".join(f"{name} {value}" for name, value in machine["card"].items()))
    console.print(", ".join(f"{name} {version}" for name, version in versions.items()))
    if "mean_exit" in report:
        console.print(
            f"geometry {report['geometry']}, mean length {report['mean_tokens']:.1f} tokens, mean exit "
            f"{report['mean_exit']:.2f} of {report['layers']} layers"
        )
        console.print(
            "tokens computed per token that needs it, in batches of 32: {both:.1f}; by padding alone {padding:.1f}, by "
            "waiting for the deepest text alone {straggler:.1f}".format_map(report["waste"])
        )
    if "limit" in report:
        rates = ", ".join(f"{name} {value:,.0f} G/s" for name, value in report["limit"].items())
        console.print(f"limit (best GEMM here): {rates}")


def _rows(console: Console, report: Mapping[str, Any]) -> None:
    of_limit = "of bf16 limit" if "card" in report["machine"] else "of limit"
    table = _table("row", "texts/s (rounds)", "ratio", "to best peer", of_limit, "label", "exit", "max logit diff")
    for row in report["rows"]:
        table.add_row(*_cells(row))
    console.print(table)
    if any(_drains(row) for row in report["rows"]):
        console.print(f"* fewer than {REFILLS} refills of every slot: the figure includes the emptying of the slots")


def _cells(row: Mapping[str, Any]) -> list[str]:
    if row["texts_per_s"] is None:
        return [row["name"], row["note"]]
    several = f" ({row['slots']} slots)" if row["name"].startswith("algorithm1") else ""
    return [
        row["name"] + several + (" *" if _drains(row) else ""),
        f"{row['texts_per_s']:,.1f} ({row['slowest']:,.1f}-{row['fastest']:,.1f})",
        *(f"{row[name]:.2f}" if row[name] is not None else "-" for name in ("ratio", "ratio_best_peer")),
        *(f"{row[name]:.0%}" for name in ("share", "label_agreement", "depth_agreement")),
        f"{row['max_logit_diff']:.1e}",
    ]


def _drains(row: Mapping[str, Any]) -> bool:
    return row["texts_per_s"] is not None and row["refilled"] and row["refills"] < REFILLS


def _idle(console: Console, report: Mapping[str, Any]) -> None:
    for each in report["idle"]:
        console.print(
            f"idle latency, {each['name']}: {each['idle_ms']:.2f} ms per text, batch-1 early exit "
            f"{each['alone_ms']:.2f} ms: {each['ratio']:.2f}x"
        )


def _deterministic(console: Console, report: Mapping[str, Any]) -> None:
    costs = ", ".join(f"{name} {cost:+.1%}" for name, cost in report["deterministic"].items())
    console.print(f"cost of determinism: {costs}")


def _threads(console: Console, report: Mapping[str, Any]) -> None:
    for each in report["threads"]:
        console.print(
            f"engine threads {each['threads']}: {each['texts_per_s']:,.1f} texts/s, {each['ratio']:.2f}x, "
            f"{each['cpu_ms']:.2f} ms of CPU per text"
        )


def _memory(console: Console, report: Mapping[str, Any]) -> None:
    for each in report["memory"]:
        samples = zip(SAMPLES_AT, each["resident_mb"], strict=True)
        console.print(
            f"memory of an engine, {report['geometry']} {each['dtype']}: weights {each['weights_mb']:.1f} MB, process "
            f"{each['bare_mb']:.0f} MB bare, {', '.join(f'{mb:.1f} MB at {share:.0%}' for share, mb in samples)} of "
            f"{each['texts']:,} texts, peak {each['peak_mb']:.0f} MB"
        )


def _peak(console: Console, report: Mapping[str, Any]) -> None:
    console.print(f"peak of this bench, peers included: {report['bench_peak_mb']:.0f} MB")


def _card_peak(console: Console, report: Mapping[str, Any]) -> None:
    peak = report["card_peak_mb"]
    console.print(f"the card's memory, at most: {peak['tensors']:,.0f} MB in tensors, {peak['taken']:,.0f} MB taken")


def _host(console: Console, report: Mapping[str, Any]) -> None:
    each = report["host"]
    console.print(
        f"host side of the resident loop alone, steps simulated: {each['texts_per_s']:,.0f} texts/s, "
        f"{each['us_per_text']:.1f} us per text"
    )


def _profiles(console: Console, report: Mapping[str, Any]) -> None:
    for each in report["profiles"]:
        table = _table(f"{each['name']}, {each['us_per_text']:,.0f} us per text", "us per text", "share")
        for part in (*each["parts"], *each["kernels"]):
            table.add_row(part["kind"], f"{part['us_per_text']:,.1f}", f"{part['share']:.1%}")
        console.print(table)
        console.print(f"products at {each['products_of_limit']:.0%} of the limit")


def _points(console: Console, report: Mapping[str, Any]) -> None:
    loads = sorted({point["load_per_s"] for point in report["points"]})
    columns = ("setting", "most texts/s", "idle ms", "to batch 1", *(f"{load:,.0f} texts/s" for load in loads))
    table = _table(*columns, title=f"p50 / p99 ms of {report['model']}, {report['dtype']}")
    for setting in dict.fromkeys(point["setting"] for point in report["points"]):
        row = [point for point in report["points"] if point["setting"] == setting]
        cells = [f"{point['p50_ms']:.1f} / {point['p99_ms']:.1f}" for point in row]
        idle = row[0]["idle_ms"]
        table.add_row(
            setting, f"{row[0]['most_per_s']:,.0f}", f"{idle:.2f}", f"{idle / report['alone_ms']:.2f}x", *cells
        )
    console.print(table)
    console.print(f"batch-1 early exit, idle: {report['alone_ms']:.2f} ms")


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title)
    for number, heading in enumerate(columns):
        table.add_column(heading, justify="right" if number else "left")
    return table
