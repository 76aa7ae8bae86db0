"""The result of a run, as tables and as one JSON object."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console

from earlybird.stream.bench.tables import figures, machine
from tests.chaos.load import Load
from tests.chaos.session import Strike


@dataclass
class Report:
    """Everything that was counted in one run."""

    strikes: list[tuple[str, str, Strike]] = field(default_factory=list)  # delivery, protocol, fault
    sessions: list[dict[str, Any]] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=machine)

    @property
    def kills(self) -> int:
        """Processes of the stage that were killed with signal 9."""
        return sum(session["killed"] for session in self.sessions)

    @property
    def broken(self) -> list[str]:
        """What must not be and was."""
        found = list(self.errors)
        found += [f"{strike.fault}: {strike.lost} without an outcome" for _, _, strike in self.strikes if strike.lost]
        for session in self.sessions:
            name = f"session {session['session']} ({session['delivery']})"
            found += [f"{name}: {session['lost']} lost"] if session["lost"] else []
            found += [f"{name}: {session['differing']} repeated with other digests"] if session["differing"] else []
            found += [f"{name}: {session['strays']} outcomes of no record"] if session["strays"] else []
            found += [f"{name}: statuses {session['statuses']}"] if any(session["statuses"]) else []
            # Under exactly_once a worker that cannot know whether its commit happened ends with 2, as documented.
            died = set(session["died"]) - ({"2"} if session["delivery"] == "exactly_once" else set())
            found += [f"{name}: workers ended by themselves: {session['died']}"] if died else []
            found += [f"{name}: `earlybird audit` disagrees"] if session["audit"] is False else []
            if session["delivery"] == "exactly_once" and session["repeated"]:
                found.append(f"{name}: {session['repeated']} repeated")
        return found + [f"{load.load} ({load.delivery}): {fault}" for load in self.loads for fault in load.faults]

    def rows(self) -> list[dict[str, Any]]:
        """One per fault, delivery and protocol."""
        groups: dict[tuple[str, str, str], list[Strike]] = {}
        for delivery, protocol, strike in self.strikes:
            groups.setdefault((strike.fault, delivery, protocol), []).append(strike)
        return [row(*key, strikes) for key, strikes in groups.items()]

    def as_json(self) -> dict[str, Any]:
        strikes = [{"delivery": d, "protocol": p, **asdict(strike)} for d, p, strike in self.strikes]
        return {
            "machine": self.machine, "kills": self.kills, "rows": self.rows(), "sessions": self.sessions,
            "loads": [asdict(load) for load in self.loads], "strikes": strikes, "broken": self.broken,
        }  # fmt: skip

    def show(self, console: Console) -> None:
        console.print("  ".join(f"{name}: {value}" for name, value in self.machine.items()))
        columns = ("fault", "delivery", "protocol", "runs", "inputs", "lost", "repeated", "a run", "recovered s", "max",
                   "silence s p50", "p99")  # fmt: skip
        table = figures(f"{len(self.strikes)} faults, {self.kills} processes killed", *columns)
        for row in self.rows():
            table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values()))
        console.print(table)
        table = figures(
            "Audits by raw position", "session", "delivery", "inputs", "lost", "repeated", "differing", "killed"
        )
        for session in self.sessions:
            table.add_row(
                *(
                    str(session[name])
                    for name in ("session", "delivery", "inputs", "lost", "repeated", "differing", "killed")
                )
            )
        console.print(table)
        if self.loads:
            table = figures("Loads", *(name for name in asdict(self.loads[0]) if name != "faults"))
            for load in self.loads:
                table.add_row(*(str(value) for name, value in asdict(load).items() if name != "faults"))
            console.print(table)
        for fault in self.broken:
            console.print(f"BROKEN: {fault}")


def row(fault: str, delivery: str, protocol: str, strikes: Sequence[Strike]) -> dict[str, Any]:
    recovered, silence = sorted(s.recovered_s for s in strikes), sorted(s.silence_s for s in strikes)
    repeated = sum(strike.repeated for strike in strikes)
    return {
        "fault": fault,
        "delivery": delivery,
        "protocol": protocol,
        "runs": len(strikes),
        "inputs": sum(strike.inputs for strike in strikes),
        "lost": sum(strike.lost for strike in strikes),
        "repeated": repeated,
        "repeated_a_run": repeated / len(strikes),
        "recovered_s": statistics.median(recovered),
        "recovered_max_s": recovered[-1],
        "silence_p50_s": statistics.median(silence),
        "silence_p99_s": silence[min(len(silence) - 1, int(0.99 * len(silence)))],
    }
