"""The tables of docs/faults.md, from reports: python -m tests.chaos.markdown var/chaos.json [MORE ...]"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.report import row
from tests.chaos.session import Strike


def faults(reports: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One row per fault, delivery and protocol."""
    yield "| fault | delivery | protocol | runs | inputs | lost | repeated | recovered, s | silence, s |"
    yield "|---|---|---|---:|---:|---:|---:|---:|---:|"
    groups: dict[tuple[str, str, str], list[Strike]] = {}
    for report in reports:
        for each in report["strikes"]:
            made = Strike(**{name: value for name, value in each.items() if name not in ("delivery", "protocol")})
            groups.setdefault((made.fault, each["delivery"], each["protocol"]), []).append(made)
    for key, strikes in sorted(groups.items()):
        found = row(*key, strikes)
        yield (
            f"| {found['fault']} | {_short(found['delivery'])} | {found['protocol']} | {found['runs']} | "
            f"{found['inputs']:,} | {found['lost']} | {found['repeated']} | "
            f"{found['recovered_s']:.1f} / {found['recovered_max_s']:.1f} | "
            f"{found['silence_p50_s']:.1f} / {found['silence_p99_s']:.1f} |"
        )


def sessions(reports: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One row per session."""
    yield "| session | delivery | inputs | lost | repeated | other digest | processes killed |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for each in (session for report in reports for session in report["sessions"]):
        yield (
            f"| {each['session']} | {_short(each['delivery'])} | {each['inputs']:,} | {each['lost']} | "
            f"{each['repeated']} | {each['differing']} | {each['killed']} |"
        )


def loads(reports: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One row per load."""
    yield "| load | delivery | inputs | lost | repeated | outcomes/s | largest lag | resident, MB | rebalances |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|"
    for each in (load for report in reports for load in report["loads"]):
        yield (
            f"| {each['load']} | {_short(each['delivery'])} | {each['inputs']:,} | {each['lost']} | "
            f"{each['repeated']} | {each['per_s']:,.0f} | {each['lag_max']:,} | "
            f"{each['rss_half_mb']}, then {each['rss_mb']} | {each['rebalances']} |"
        )


def _short(delivery: str) -> str:
    return f"`{delivery}`"


if __name__ == "__main__":
    found = [json.loads(Path(name).read_text()) for name in sys.argv[1:]]
    for table in (faults, sessions, loads):
        print(*table(found), sep="\n", end="\n\n")
