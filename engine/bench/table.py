"""The figures for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from engine.bench.measure import REFILLS, Result

_WIDTH = 132


def show(report: Mapping[str, Any], results: Sequence[Result]) -> None:
    """Machine and limit, then a line for each row."""
    console, machine = Console(width=_WIDTH), report["machine"]
    console.print(
        f"{machine['cpu']} ({machine['family_model']}), {machine['threads']} of {machine['cores_usable']} cores, "
        f"{' '.join(f'{name} {size}' for name, size in machine['caches'].items())}, {' '.join(machine['units'])}, "
        f"load {machine['load_average']}",
        ", ".join(f"{name} {version}" for name, version in machine["versions"].items()),
        f"geometry {report['geometry']}, mean length {report['mean_tokens']:.1f} tokens, mean exit "
        f"{report['mean_exit']:.2f} of {report['layers']} layers",
        "limit (best GEMM here): " + ", ".join(f"{name} {value:.0f} G/s" for name, value in report["limit"].items()),
        "memory: weights {weights_mb:.1f} MB in float32, process {rss_mb:.0f} MB".format_map(report["memory"]),
        sep="\n",
        highlight=False,
        soft_wrap=True,
    )
    table = Table()
    for heading in ("row", "texts/s (rounds)", "ratio", "to best peer", "of limit", "label", "exit", "max logit diff"):
        table.add_column(heading, justify="left" if heading == "row" else "right")
    for result in results:
        table.add_row(*_cells(result))
    console.print(table)
    if any(_drains(result) for result in results):
        console.print(f"* fewer than {REFILLS} refills of every slot: the emptying table weighs on it")


def _cells(result: Result) -> list[str]:
    if result.texts_per_s is None:
        return [result.name, result.note]
    several = f" ({result.slots} slots)" if result.name == "algorithm1" else ""
    return [
        result.name + several + (" *" if _drains(result) else ""),
        f"{result.texts_per_s:.1f} ({result.slowest:.1f}-{result.fastest:.1f})",
        *(f"{value:.2f}" if value is not None else "-" for value in (result.ratio, result.ratio_best_peer)),
        *(
            f"{value:.0%}"
            for value in (result.share or 0.0, result.label_agreement or 0.0, result.depth_agreement or 0.0)
        ),
        f"{result.max_logit_diff:.1e}",
    ]


def _drains(result: Result) -> bool:
    refilled = result.name == "algorithm1" or not result.peer
    return result.texts_per_s is not None and refilled and result.refills < REFILLS
