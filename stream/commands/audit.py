"""`earlybird audit`: read the raw topics and every outcome, and account for each record by its raw position.

Exit 0: every record up to now has its outcome, and outcomes that were published twice say the same. 1: they do not.
"""

import argparse
import json

from stream import settings as settings_module


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which topics is a setting; all are read from their beginning to their present end."""
    settings_module.add_config_option(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def run(args: argparse.Namespace) -> int:
    """The account, on stdout."""
    from stream.adapters.tail import Tail
    from stream.audit import Audit

    settings = settings_module.load(args.config)
    topics = settings.topics
    audit = Audit()
    add = dict.fromkeys((topic.name for topic in topics.raw), audit.add_raw)
    add |= {topics.signals: audit.add_signal, topics.dlq: audit.add_rejection}
    tail = Tail(
        settings.kafka.bootstrap_servers, list(add), start="beginning", options=settings.kafka.options, patience_s=30
    )
    ends = tail.ends()
    while not tail.reached(ends):
        for record in tail.poll(200):
            add[record.topic](record)
    tail.close()
    report = audit.report()
    if args.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name:<12} {value}")
    for position in audit.missing[:10]:
        print(f"no outcome: {position.topic}/{position.partition}/{position.offset}/{position.index}")
    return 0 if audit.balanced else 1
