"""Make faults under load and count what comes of them.

    make chaos                                   the long form, both deliveries, into var/chaos
    PYTHONPATH=tests/support:deploy/kafka python -m tests.chaos --short
    PYTHONPATH=tests/support:deploy/kafka python -m tests.chaos --only "worker killed" --seed 7

It starts a real Kafka, Redis, workers as processes, and a feed of invented records. Each fault is made while records
come; it is over when everything that was published by then has its outcome. Each session ends with an audit by raw
position. The exit status is 1 if a record was lost, if one was repeated with another digest (or at all, under
exactly_once), or if a worker ended by itself.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from rich.console import Console

from earlybird.stream.bench.tables import WIDTH
from earlybird.stream.observability.logging import configure_logging
from kafka_node import LocalKafka
from local import LocalCluster
from tests.chaos import plan
from tests.chaos.faults import FAULTS
from tests.chaos.load import Load, burst, overload
from tests.chaos.report import Report
from tests.chaos.session import Session
from tests.chaos.setting import Delivery, Setting


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="some minutes, fixed seeds")
    parser.add_argument("--delivery", action="append", choices=get_args(Delivery), help="repeatable; default: both")
    parser.add_argument("--only", action="append", metavar="FAULT", choices=sorted(FAULTS), help="repeatable")
    parser.add_argument(
        "--session", action="append", metavar="NAME", help="only this, or a load: overload, 100000; repeatable"
    )
    parser.add_argument("--most", type=int, metavar="N", help="so many faults per session at most")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="each of them so many times")
    parser.add_argument("--rate", type=float, metavar="N", help="records a second, in sessions and under overload")
    parser.add_argument("--minutes", type=float, metavar="M", help="of the overload")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--patience", type=float, default=240.0, metavar="S", help="then a record counts as lost")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the workers; repeatable"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="the report, written after every session")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # workers and brokers end with this process
    configure_logging("error", "console")
    console = Console(stderr=True, width=None if sys.stderr.isatty() else WIDTH + 60, highlight=False)
    run = Run(args.seed, args.patience, console, args.json)
    for part in plan.short() if args.short else plan.long():
        part = plan.only(part, args.only or list(FAULTS), args.session, args.most)
        options = dict(each.split("=", 1) for each in args.set)
        part = plan.under(part, options, args.times, args.rate, args.minutes)
        for delivery in part.deliveries:
            if args.delivery is None or delivery in args.delivery:
                run.part(part, delivery)
    run.report.show(console)
    return 1 if run.report.broken else 0


@dataclass
class Run:
    """What all parts have in common."""

    seed: int
    patience_s: float
    console: Console
    out: Path | None
    report: Report = field(default_factory=Report)

    def part(self, part: plan.Part, delivery: Delivery) -> None:
        """Its sessions and loads, one after the other on one broker or cluster."""
        if not (part.settings or part.overload_minutes or part.bursts):
            return
        folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        with (LocalKafka if part.nodes == 1 else LocalCluster)(folder / "kafka", options=part.broker) as kafka:
            for setting in part.settings:
                try:
                    self.session(kafka, setting, delivery, folder)
                except Exception as error:  # the others are still worth their time
                    self.console.print_exception()
                    self.report.errors.append(f"session {setting.name} ({delivery}) ended early: {error!r}")
            if part.overload_minutes:
                minutes, rate = part.overload_minutes, part.overload_rate
                self.load(overload(kafka, delivery, folder, minutes, rate, part.load_options))
            for records in part.bursts:
                self.load(burst(kafka, delivery, folder, records, part.load_options))
        shutil.rmtree(folder / "kafka")  # the logs of the workers stay

    def session(self, kafka: object, setting: Setting, delivery: Delivery, folder: Path) -> None:
        """Make its faults in a shuffled order, then audit."""
        with Session(kafka, setting, delivery, self.seed, folder, self.patience_s) as session:
            faults = list(setting.faults)
            session.rng.shuffle(faults)
            for number, name in enumerate(faults, 1):
                began_s = time.monotonic()
                try:
                    strike = session.strike(name, FAULTS[name])
                except Exception as error:
                    self.console.print_exception()
                    self.report.errors.append(f"{setting.name}: {name}: {error!r}")
                    continue
                self.report.strikes.append((delivery, setting.protocol, strike))
                self.console.print(
                    f"{setting.name} {number}/{len(faults)}: {name}: {strike.inputs} inputs, {strike.lost} lost, "
                    f"{strike.repeated} repeated, recovered {strike.recovered_s:.1f} s, "
                    f"silence {strike.silence_s:.1f} s ({time.monotonic() - began_s:.1f} s)"
                )
            self.report.sessions.append(session.finish())
        self.console.print(self.report.sessions[-1])
        self.write()

    def load(self, load: Load) -> None:
        self.report.loads.append(load)
        self.console.print(load)
        self.write()

    def write(self) -> None:
        if self.out is not None:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self.out.write_text(json.dumps(self.report.as_json(), indent=1))


if __name__ == "__main__":
    raise SystemExit(main())
