"""Make faults under load and count what comes of them.

    make chaos                                   the long form, both deliveries, into var/chaos
    PYTHONPATH=tests/support python -m tests.chaos --short
    PYTHONPATH=tests/support python -m tests.chaos --only "worker killed" --seed 7

It starts a real Kafka, Redis, workers as processes, and a feed of invented records. Each fault is made while records
come; it is over when everything that was published by then has its outcome. Each session ends with an audit by raw
position. The exit status is 1 if a record was lost, if one was repeated with another digest (or at all, under
exactly_once), or if a worker ended by itself.
"""

import argparse
import faulthandler
import json
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from deploy.kafka.local import LocalCluster, LocalKafka
from earlybird.stream.bench.report import WIDTH
from earlybird.stream.observability.logging import configure_logging
from tests.chaos import plan
from tests.chaos.faults import FAULTS
from tests.chaos.report import Report
from tests.chaos.session import Session
from tests.chaos.setting import Delivery, Setting


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="about four minutes, fixed seeds")
    parser.add_argument("--delivery", action="append", choices=("at_least_once", "exactly_once"))
    parser.add_argument("--only", action="append", metavar="FAULT", choices=sorted(FAULTS), help="repeatable")
    parser.add_argument("--session", action="append", metavar="NAME", help="only sessions of this name; repeatable")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="the report, written after every session")
    args = parser.parse_args()
    faulthandler.dump_traceback_later(60, repeat=True)
    configure_logging("error", "console")
    console, report = Console(stderr=True, width=None if sys.stderr.isatty() else 2 * WIDTH), Report()
    for part in plan.short() if args.short else plan.long():
        part = plan.only(part, args.only or list(FAULTS), args.session)
        for delivery in args.delivery or ["at_least_once"]:
            if part.settings:
                run_part(part, delivery, args.seed, report, console, args.json)
    report.show(console)
    return 1 if report.broken else 0


def run_part(
    part: plan.Part, delivery: Delivery, seed: int, report: Report, console: Console, out: Path | None
) -> None:
    """Run its sessions one after the other on one broker or cluster."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    with (LocalKafka if part.nodes == 1 else LocalCluster)(folder / "kafka", options=part.broker) as kafka:
        for setting in part.settings:
            run_session(kafka, setting, delivery, seed, report, console, folder)
            if out is not None:
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(json.dumps(report.as_json(), indent=1))


def run_session(
    kafka: object, setting: Setting, delivery: Delivery, seed: int, report: Report, console: Console, folder: Path
) -> None:
    """Make its faults in a shuffled order, then audit."""
    with Session(kafka, setting, delivery, seed, folder) as session:
        faults = list(setting.faults)
        session.rng.shuffle(faults)
        for number, name in enumerate(faults, 1):
            began_s = time.monotonic()
            strike = session.strike(name, FAULTS[name])
            report.strikes.append((delivery, setting.protocol, strike))
            console.print(
                f"{setting.name} {number}/{len(faults)}: {name}: {strike.inputs} inputs, {strike.lost} lost, "
                f"{strike.repeated} repeated, recovered {strike.recovered_s:.1f} s, silence {strike.silence_s:.1f} s "
                f"({time.monotonic() - began_s:.1f} s)"
            )
        report.sessions.append(session.finish())
        console.print(report.sessions[-1])


if __name__ == "__main__":
    raise SystemExit(main())
