"""List, show and redrive dead letters.

  earlybird dlq list --reason language --from -2h
  earlybird dlq show 3/17
  earlybird dlq redrive --reason stale --source wire

Places are PARTITION/OFFSET of the topic of dead letters. `redrive` publishes the original records to their
raw topics again, with their key and headers: from the raw topic while it holds them, else from the dead letter's copy,
which is used only if it is whole. Each record counts in its header `redriven` how often that happened (--tries), and no
dead letter is redriven twice. Without a place or a filter `list` and `show` take all; `redrive` wants --all for that.
Exit status 0: every place has its dead letter, and every one chosen was redriven; 1: some were not.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from earlybird.schemas.rejection import Reason
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.topic_range import TopicHistory
from earlybird.stream.commands.arguments import add_bounds, positive_int
from earlybird.stream.config.settings import Settings, add_config_option, load
from earlybird.stream.errors import RecordTooLarge, SettingsError, SinkError
from earlybird.stream.observability.escape import escaped
from earlybird.stream.observability.logging import configure_logging
from earlybird.stream.ports import Record
from earlybird.stream.publishing.redrive import OBSTACLES, Filter, Letter, Redrive, origins, redrive
from earlybird.stream.timeline.instants import written
from earlybird.stream.timeline.merge import Window, parse_window

_SILENCE_S = 60.0
_TRIES = 3
_LONGEST_SHOWN = 4_096
_COLUMNS = {
    "place": 10, "at": 27, "reason": 18, "raw": 18, "redriven": 8, "whole": 5, "item_key": 20, "detail": 0,
}  # fmt: skip
"""What `list` shows, and the width of each column at least."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb and what chooses dead letters."""
    parser.add_argument("verb", choices=["list", "show", "redrive"], metavar="{list,show,redrive}")
    about = "these dead letters (default: all; of redrive: none)"
    parser.add_argument("place", nargs="*", metavar="PARTITION/OFFSET", help=about)
    add_config_option(parser)
    reasons = [reason.value for reason in Reason]
    parser.add_argument("--reason", action="append", default=[], choices=reasons, help="with this reason; repeatable")
    parser.add_argument("--source", action="append", default=[], metavar="NAME", help="of this source; repeatable")
    parser.add_argument("--topic", action="append", default=[], metavar="NAME", help="of this raw topic; repeatable")
    add_bounds(parser)
    parser.add_argument("--all", action="store_true", help="redrive without any filter")
    parser.add_argument(
        "--tries", type=positive_int, default=_TRIES, help=f"most times a record is redriven ({_TRIES})"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be redriven")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")


def run(args: argparse.Namespace) -> int:
    """Run the verb; see the module's docstring for the exit status."""
    settings = load(args.config)
    configure_logging("warning", settings.log.format)
    places = [_place(one) for one in args.place]
    filters = Filter([Reason(name) for name in args.reason], args.source, args.topic, places)
    narrowed = any((args.reason, args.source, args.topic, args.start, args.end))
    if args.verb == "redrive" and not (narrowed or places or args.all):
        raise SettingsError("dlq redrive: a place or a filter required; --all chooses every dead letter")
    history = TopicHistory(settings.kafka.endpoint)
    letters = _letters(history, settings, filters, args)
    if args.verb == "redrive":
        chosen = list(letters)
        status = _redrive(history, settings, chosen, args)
        return max(status, _absent(places, {letter.place for letter in chosen}, narrowed=narrowed))
    if args.verb == "list" and not args.json and sys.stdout.isatty():
        print(_row(dict(zip(_COLUMNS, _COLUMNS, strict=True))))
    shown: set[str] = set()
    for letter in letters:
        _print(letter, args)
        shown.update({letter.place}.intersection(places))
    return _absent(places, shown, narrowed=narrowed)


def _absent(places: Sequence[str], found: Collection[str], *, narrowed: bool) -> int:
    """Name the places where no dead letter was chosen; return the exit status."""
    absent = [place for place in dict.fromkeys(places) if place not in found]
    for place in absent:
        print(f"no dead letter at {place}{' that the filters choose' if narrowed else ''}", file=sys.stderr)
    return 1 if absent else 0


def _place(text: str) -> str:
    partition, slash, offset = text.partition("/")
    if not (slash and partition.isdecimal() and offset.isdecimal()):
        raise SettingsError(f"a place like 3/17 (PARTITION/OFFSET of the dead letter) expected, was {text!r}")
    return f"{int(partition)}/{int(offset)}"


def _letters(history: TopicHistory, settings: Settings, filters: Filter, args: argparse.Namespace) -> Iterator[Letter]:
    window = parse_window(args.start, args.end, time.time_ns() // 1000)
    for partition in history.read(history.spans([settings.topics.dlq], window), window):
        for stamped in partition:
            letter = Letter.of(stamped.record)
            if filters.chooses(letter):
                yield letter


def _redrive(history: TopicHistory, settings: Settings, letters: Sequence[Letter], args: argparse.Namespace) -> int:
    topics = [topic.name for topic in settings.topics.raw]
    ours = [letter for letter in letters if letter.rejection is not None and letter.rejection.raw.topic in topics]
    places = [letter.raw_place for letter in ours]
    raws = history.records([place for place in places if place is not None])
    raw_of = {letter.place: raw for letter, raw in zip(ours, raws, strict=True)}
    done = origins(_since(history, ours))
    plan = [redrive(letter, raw_of.get(letter.place), topics=topics, tries=args.tries, done=done) for letter in letters]
    if not args.dry_run:
        plan = _published(settings, plan)
    counts: Counter[str] = Counter()
    for one in plan:
        counts[_outcome(one)] += 1
        _tell(one, args)
    _sum_up(counts, args)
    return 0 if counts.total() == counts["redriven"] else 1


def _since(history: TopicHistory, letters: Sequence[Letter]) -> Iterator[Record]:
    """Yield the raw records written since the first of these dead letters."""
    told = [letter.rejection for letter in letters if letter.rejection is not None]
    if told:
        window = Window(min(one.rejected_us for one in told), slack_us=0)
        spans = history.spans(sorted({one.raw.topic for one in told}), window)
        for partition in history.read(spans, window):
            for stamped in partition:
                yield stamped.record


def _published(settings: Settings, plan: Sequence[Redrive]) -> list[Redrive]:
    """Publish and wait for every acknowledgement; what a topic does not take gets its obstacle."""
    sink = KafkaSink(settings.kafka.endpoint)
    refused: set[object] = set()
    try:
        for number, one in enumerate(plan):
            if one.outgoing is not None:
                try:
                    sink.send(one.outgoing, number)
                except RecordTooLarge as error:
                    refused.add(error.receipt)
        heard_s = time.monotonic()
        while sink.unacknowledged():
            try:
                heard_s = time.monotonic() if sink.receipts(200) else heard_s
            except RecordTooLarge as error:
                refused.add(error.receipt)
            if time.monotonic() - heard_s > _SILENCE_S:
                raise SinkError(f"no acknowledgement for {_SILENCE_S:.0f} s; run it again: what arrived is left out")
    finally:
        sink.close()
    return [Redrive(one.letter, obstacle="too_large") if number in refused else one for number, one in enumerate(plan)]


def _outcome(one: Redrive) -> str:
    return one.obstacle or "redriven"


def _tell(one: Redrive, args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps({"place": one.letter.place, "outcome": _outcome(one), "headers_kept": one.headers_kept}))
    elif one.obstacle is not None:
        print(f"{one.letter.place}  not redriven: {OBSTACLES[one.obstacle]}")


def _sum_up(counts: Counter[str], args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps({"dry_run": args.dry_run, **counts}))
        return
    print(f"{'would be redriven' if args.dry_run else 'redriven'}: {counts['redriven']} of {counts.total()}")


def _print(letter: Letter, args: argparse.Namespace) -> None:
    about = _about(letter, shown=args.verb == "show")
    if args.json:
        print(json.dumps(about))
    elif args.verb == "show":
        for name, value in about.items():
            print(f"{name:<12} {escaped(str(value))}")
        print()
    else:
        print(_row(about))


def _row(about: Mapping[str, Any]) -> str:
    cells = {name: "-" if about[name] is None else escaped(str(about[name])) for name in _COLUMNS}
    return "  ".join(f"{value:<{_COLUMNS[name]}}" for name, value in cells.items())


def _about(letter: Letter, *, shown: bool) -> dict[str, Any]:
    told, record = letter.rejection, letter.record
    about: dict[str, Any] = {
        "place": letter.place,
        "at": written(record.timestamp_us or 0) if told is None else written(told.rejected_us),
        "reason": None if told is None else told.reason.value,
        "raw": None if told is None else f"{told.raw.topic}/{told.raw.partition}/{told.raw.offset}/{told.raw.index}",
        "redriven": letter.tries,
        "whole": letter.whole,
        "item_key": None if told is None else told.item_key,
        "detail": OBSTACLES["unreadable"] if told is None else told.detail,
    }
    if shown:
        original = None if told is None else told.original_value()
        about["bytes"] = 0 if told is None else told.original_bytes
        about["key"] = None if record.key is None else record.key.decode("utf-8", "replace")
        about["headers"] = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
        about["original"] = None if original is None else original[:_LONGEST_SHOWN].decode("utf-8", "replace")
    return about
