"""Results of the bench, as tables and as one JSON object."""

from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from earlybird.stream.bench.latency import Latency
from earlybird.stream.bench.steps import Step
from earlybird.stream.bench.tables import figures, machine


@dataclass(frozen=True, slots=True)
class Whole:
    """One run of a complete consumer: the stage or a peer."""

    name: str
    processes: int
    texts: int
    wall_s: float
    cpu_s: float
    rate: float | None = None  # texts per second of the simulated device, if there is one

    @property
    def per_s(self) -> float:
        return self.texts / self.wall_s if self.wall_s else 0.0

    @property
    def per_cpu_s(self) -> float:
        """Texts per second of CPU time, summed over all its processes."""
        return self.texts / self.cpu_s if self.cpu_s else 0.0


@dataclass(slots=True)
class Report:
    """All measurements of one run of the bench."""

    broker: str
    machine: dict[str, Any] = field(default_factory=lambda: machine())
    steps: list[Step] = field(default_factory=list)
    wholes: list[Whole] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    latency: Latency | None = None

    def as_json(self) -> dict[str, Any]:
        """Return all measurements, including the rates shown in the tables."""
        found = asdict(self)
        for kind in ("steps", "wholes"):
            for row, source in zip(found[kind], getattr(self, kind), strict=True):
                row["per_cpu_s"] = round(source.per_cpu_s)
        return found

    def show(self, console: Console) -> None:
        console.print("  ".join(f"{name}: {value}" for name, value in self.machine.items()), f"  broker: {self.broker}")
        console.print(self._steps(), self._wholes(), sep="\n")
        for line in self.missing:
            console.print(line)
        if (found := self.latency) is not None:
            console.print(
                f"latency at {found.rate:.0f} texts/s, bundled model, {found.texts} texts, ms p50 / p99:\n"
                f"  produce -> signal    {found.signal_p50:.1f} / {found.signal_p99:.1f}\n"
                f"  produce -> consumer  {found.broker_p50:.1f} / {found.broker_p99:.1f}   the bare broker, same run\n"
                f"  over the broker      {found.signal_p50 - found.broker_p50:.1f} / "
                f"{found.signal_p99 - found.broker_p99:.1f}"
            )

    def _steps(self) -> Table:
        table = figures("Step by step", "step", "texts/CPU-s", "us a text")
        for step in self.steps:
            table.add_row(
                step.name,
                f"{step.per_cpu_s:,.0f}",
                f"{1e6 / max(step.per_cpu_s, 1):.1f}",
                style="dim" * step.calibration,
            )
        return table

    def _wholes(self) -> Table:
        table = figures("The whole", "consumer", "procs", "texts/s", "texts/CPU-s", "cores", "device")
        for run in self.wholes:
            share = "" if run.rate is None else f"{run.per_s / run.rate:.0%}"
            cores = f"{run.cpu_s / run.wall_s:.2f}" if run.wall_s else ""
            rates = (f"{run.per_s:,.0f}", f"{run.per_cpu_s:,.0f}")
            table.add_row(run.name, str(run.processes), *rates, cores, share)
        return table
