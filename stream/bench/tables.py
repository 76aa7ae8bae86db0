"""Tables of figures, and the machine that they depend on; no torch."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

PACKAGES = ("confluent-kafka", "pydantic", "pydantic-core", "redis", "torch")


WIDTH = 132
"""Width of tables where there is no terminal to take it from."""


def bench_console(*, stderr: bool) -> Console:
    """Return a console that prints whole tables, also into a pipe."""
    console = Console(stderr=stderr, highlight=False, markup=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, markup=False, width=WIDTH)


def machine() -> dict[str, Any]:
    """Return the hardware, load and package versions that the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def figures(title: str, *columns: str) -> Table:
    """Return an empty table: the first column for names, the others for figures."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table
