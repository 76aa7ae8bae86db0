"""The tables of docs/faults.md, from reports: python -m tests.chaos.markdown var/chaos.json [MORE ...]"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from tests.chaos.plan import PATIENT_MS
from tests.chaos.report import row
from tests.chaos.session import Strike
from tests.chaos.setting import SESSION_MS, Delivery


def total(reports: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One row per delivery: everything, and what broke."""
    yield "| delivery | faults | processes killed | inputs | lost | repeated |"
    yield "|---|---:|---:|---:|---:|---:|"
    for delivery in get_args(Delivery):
        ended = [each for report in reports for each in report["sessions"] if each["delivery"] == delivery]
        made = sum(each["delivery"] == delivery for report in reports for each in report["strikes"])
        sums = (sum(each[name] for each in ended) for name in ("killed", "inputs", "lost", "repeated"))
        yield f"| {_short(delivery)} | {made} | " + " | ".join(f"{each:,}" for each in sums) + " |"
    yield from (f"\nBROKEN: {each}" for report in reports for each in report["broken"])


def failover(reports: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One row per delivery, protocol and session time-out: how long a partition is without signals after a kill."""
    yield "| delivery | protocol | session, s | kills | p50, s | p99, s |"
    yield "|---|---|---:|---:|---:|---:|"
    sessions_ms = {"worker killed": SESSION_MS, "worker killed, session of 10 s": PATIENT_MS}
    for found in _rows(reports):
        if found["fault"] in sessions_ms:
            yield (
                f"| {_short(found['delivery'])} | {found['protocol']} | {sessions_ms[found['fault']] / 1e3:.0f} | "
                f"{found['runs']} | {found['silence_p50_s']:.1f} | {found['silence_p99_s']:.1f} |"
            )


def faults(reports: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One row per fault, delivery and protocol."""
    yield "| fault | delivery | protocol | runs | inputs | lost | repeated | recovered, s | silence, s |"
    yield "|---|---|---|---:|---:|---:|---:|---:|---:|"
    for found in _rows(reports):
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


def _rows(reports: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The figures of all reports per fault, delivery and protocol."""
    groups: dict[tuple[str, str, str], list[Strike]] = {}
    for report in reports:
        for each in report["strikes"]:
            made = Strike(**{name: value for name, value in each.items() if name not in ("delivery", "protocol")})
            groups.setdefault((made.fault, each["delivery"], each["protocol"]), []).append(made)
    for key, strikes in sorted(groups.items()):
        yield row(*key, strikes)


def _short(delivery: str) -> str:
    return f"`{delivery}`"


if __name__ == "__main__":
    found = [json.loads(Path(name).read_text()) for name in sys.argv[1:]]
    for table in (total, faults, failover, sessions, loads):
        print(*table(found), sep="\n", end="\n\n")
