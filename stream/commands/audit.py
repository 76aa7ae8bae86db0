"""Check that every raw record has its outcome.

  earlybird audit
  earlybird audit --from -2h --topic news.raw --json

The command reads the raw topics and every outcome, and matches them by raw position. Records without an outcome that
the group has not committed are `waiting`: the stage has still to read or to finish them. All others are `missing`.
Where the group's offsets cannot be read, `waiting` is unknown, and a backlog counts as missing. Exit status 0: nothing
is missing, and outcomes published twice are equal. 1: not so. Records are read as the settings tell the stage to read
them (limits.max_record_bytes). --from and --to bound the raw records by the broker's time or by offsets, as in
`earlybird replay`; their outcomes are looked up to the present.
"""

import argparse
import json
import sys
import time
from collections.abc import Collection, Mapping
from typing import Any

from earlybird.stream.commands.arguments import add_bounds
from earlybird.stream.config import settings as settings_module
from earlybird.stream.errors import SettingsError, SourceError
from earlybird.stream.observability.escape import escaped
from earlybird.stream.observability.logging import configure_logging
from earlybird.stream.ports import Partition

_NAMED = 10
_SHOWN = {"rejections": "dead letters", "cache_hits": "duplicates", "span_s": "seconds", "outcomes_per_s": "per second"}
"""Rows whose words differ from their names in JSON."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: which raw records, which output."""
    settings_module.add_config_option(parser)
    parser.add_argument("--topic", action="append", metavar="NAME", help="this raw topic; repeatable (default: all)")
    add_bounds(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def run(args: argparse.Namespace) -> int:
    """Print the audit; the exit status is 1 if it fails."""
    from earlybird.stream.adapters.topic_range import TopicHistory
    from earlybird.stream.monitor.account import Account, report
    from earlybird.stream.stage.stage import reader_of
    from earlybird.stream.timeline.merge import Window, parse_window

    settings = settings_module.load(args.config)
    configure_logging("warning", settings.log.format)
    known = [topic.name for topic in settings.topics.raw]
    wanted = args.topic or known
    if strange := sorted(set(wanted) - set(known)):
        raise SettingsError(f"--topic: one of {', '.join(known)} (topics.raw) expected, was {strange[0]}")
    window = parse_window(args.start, args.end, time.time_ns() // 1000)
    history = TopicHistory(settings.kafka.endpoint)
    raw = history.spans(wanted, window)
    account = Account(raw, reader_of(settings), bounded=bool(args.start), aside=set(known) - set(wanted))
    for partition in history.read(raw, window):
        for stamped in partition:
            account.add_raw(stamped.record)
    committed = _committed(settings, raw)  # before the outcomes' ends are asked for: what it names is among them
    # An outcome is never older than its record, apart from clock skew.
    outcomes = history.spans([settings.topics.signals, settings.topics.dlq], Window(window.start_us))
    for partition in history.read(outcomes, Window()):
        for stamped in partition:
            signal = stamped.record.topic == settings.topics.signals
            (account.add_signal if signal else account.add_rejection)(stamped.record)
    if committed is not None:
        account.note_committed(committed)
    _show(report(account), as_json=args.json)
    return 0 if account.balanced else 1


def _committed(
    settings: settings_module.Settings, partitions: Collection[Partition]
) -> Mapping[Partition, tuple[int, Collection[int]]] | None:
    """Return the offset to read next and those finished above; None: unknown."""
    from earlybird.stream.adapters.group_commits import group_commits
    from earlybird.stream.stage.commit_map import finished_above

    try:
        commits = group_commits(settings.kafka.endpoint, settings.group, partitions)
    except SourceError as error:
        print(escaped(f"waiting: unknown, a backlog counts as missing; {error}"), file=sys.stderr)
        return None
    return {
        partition: (0, ()) if commit is None else (commit.offset, finished_above(commit))
        for partition, commit in commits.items()
    }


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        if not name.endswith("_at"):
            print(f"{_SHOWN.get(name, name.replace('_', ' ')):<14} {_words(value)}")
    for what, name in (
        ("no outcome", "missing"),
        ("no such record", "strays"),
        ("said twice, differently", "disagreeing"),
    ):
        places = found[f"{name}_at"]
        for place in places[:_NAMED]:
            print(f"{what}: {place}")
        if len(places) > _NAMED:
            print(f"{what}: ... and more; --json names up to a thousand")


def _words(value: object) -> str:
    if isinstance(value, dict):  # counts by reason or layer
        return ", ".join(f"{name}: {count}" for name, count in value.items()) or "0"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "unknown" if value is None else str(value)
