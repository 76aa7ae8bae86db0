"""Create the topics of the stage, or show the state of each.

  earlybird topics create --partitions 12 --replication 3
  earlybird topics create --views
  earlybird topics create --register
  earlybird topics show

`create` makes missing topics; it waits 30 s for a broker, `show` 10 s. `signals` and raw topics in a vendor's format
are created with the broker's append time. Raw topics that will receive history need --keep-raw: it sets their
retention.ms to -1, also where they exist. Nothing else of an existing topic is changed. --register also registers the
released schemas in a schema registry, as TOPIC-value: Avro for signals if topics.signals_format says so, else JSON
Schema. Raw topics of other formats than ours get none.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from earlybird.schemas import release
from earlybird.schemas.control import Heartbeat, ReplayComplete
from earlybird.schemas.raw import RawNews, RawTweet
from earlybird.schemas.rejection import Rejection
from earlybird.schemas.signal import Signal
from earlybird.stream.adapters.retention import KEPT, keep_records, sender_dated
from earlybird.stream.adapters.schema_registry import URL, TopicSchema, register
from earlybird.stream.adapters.signal_framing import KINDS
from earlybird.stream.adapters.topics import Seen, Topic, create_topics, look_at, stage_topics
from earlybird.stream.config.settings import Settings, add_config_option, load
from earlybird.stream.errors import SettingsError
from earlybird.stream.feeds.registry import OURS, OWN
from earlybird.stream.observability.logging import configure_logging
from earlybird.stream.observability.quantity import quantity
from earlybird.stream.views.topics import views_topics

_CREATED_S = 30.0  # a deployment may create its topics while the broker starts
_HIDDEN = "there or not: no permission to describe it"
_SENDER_DATED = (
    "its records carry the sender's time: what a strategy takes for the instant at which a signal became available "
    "would be the worker's clock, not the broker's; set message.timestamp.type=LogAppendTime on it"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb, partitions, replication and retention."""
    parser.add_argument("verb", choices=["create", "show"], metavar="{create,show}")
    add_config_option(parser)
    parser.add_argument("--partitions", type=int, default=12, help="of raw topics, signals and dead letters (12)")
    parser.add_argument("--replication", type=int, default=1, help="copies of each partition (1)")
    parser.add_argument("--keep-raw", action="store_true", help="raw topics, also existing ones, keep records for ever")
    parser.add_argument("--views", action="store_true", help="the topics of `earlybird views`, too")
    about = "register the topics' schemas in this schema registry (default: kafka.options.schema.registry.url)"
    parser.add_argument("--register", nargs="?", const="", metavar="URL", help=about)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def run(args: argparse.Namespace) -> int:
    """Create or show the topics.

    Exit status of `show` 0: every topic exists, and signals carry the broker's time; 1: not so. Raises StreamError when
    no broker answers.
    """
    settings = load(args.config)
    configure_logging(settings.log.level, settings.log.format)
    return _create(settings, args) if args.verb == "create" else _show(settings, args)


def _create(settings: Settings, args: argparse.Namespace) -> int:
    names = settings.topics
    raw = [topic.name for topic in names.raw]
    topics = stage_topics(
        raw, names.signals, names.control, names.dlq, partitions=args.partitions, replication=args.replication
    )
    if args.views:
        topics += views_topics(settings.views, args.partitions)
    vendors = {topic.name for topic in names.raw if topic.format not in OURS}
    stamped = {"message.timestamp.type": "LogAppendTime"}  # it becomes their items' ingest time
    topics = [_with(topic, stamped) if topic.name in vendors else topic for topic in topics]
    if args.keep_raw:
        topics = [_with(topic, KEPT) if topic.name in raw else topic for topic in topics]
    kafka = settings.kafka
    options = kafka.options | ({URL: args.register} if args.register else {})
    if args.register == "" and URL not in options:
        raise SettingsError(f"--register: a URL, or kafka.options.{URL} required")
    done = create_topics(kafka.endpoint, topics, timeout_s=_CREATED_S)
    there = [made.topic.name for made in done if made.outcome == "exists"]
    changed = [name for name in there if args.keep_raw and name in raw]
    keep_records(kafka.endpoint, changed)
    ids = {} if args.register is None else register(options, _schemas(settings))
    if args.json:
        rows = [
            {"name": made.topic.name, "outcome": made.outcome, "partitions": made.partitions}
            | ({"set": KEPT} if made.topic.name in changed else {})
            for made in done
        ]
        print(json.dumps({"topics": rows} | ({"schemas": ids} if args.register else {})))
        return 0
    for made in done:
        kept = "".join(f", {name}={value} set" for name, value in KEPT.items() if made.topic.name in changed)
        print(f"{made.outcome:<8} {made.topic.name}  {quantity(made.partitions, 'partition')}{kept}")
    for subject, identifier in ids.items():
        print(f"schema   {subject}  id {identifier}")
    return 0


def _schemas(settings: Settings) -> list[TopicSchema]:
    """Return the schemas of topics in our formats; all but raw ones are ours."""
    topics, raw = settings.topics, release.union("RawItem", RawNews, RawTweet)
    kind, suffix = KINDS.get(topics.signals_format, KINDS["json-schema"])
    return [
        *(TopicSchema(topic.name, raw) for topic in topics.raw if topic.format == OWN),
        TopicSchema(topics.signals, release.latest(Signal, suffix), "FORWARD", kind),
        TopicSchema(topics.control, release.union("Control", Heartbeat, ReplayComplete), "FORWARD"),
        TopicSchema(topics.dlq, release.latest(Rejection), "NONE"),  # a version may add reasons
    ]


def _with(topic: Topic, config: Mapping[str, str]) -> Topic:
    return Topic(topic.name, topic.partitions, topic.replication, {**topic.config, **config})


def _show(settings: Settings, args: argparse.Namespace) -> int:
    names, endpoint = settings.topics, settings.kafka.endpoint
    wanted = [*(topic.name for topic in names.raw), names.signals, names.control, names.dlq]
    wanted += [topic.name for topic in views_topics(settings.views, 1)] if args.views else []
    seen = look_at(endpoint, wanted)
    there = {topic.name for topic in seen if topic.state == "there"}
    unfit = names.signals in there and sender_dated(endpoint, names.signals) is True
    if args.json:
        print(json.dumps({"topics": [asdict(topic) for topic in seen], "signals_sender_dated": unfit}))
    else:
        _print(seen)
        if unfit:
            print(f"{names.signals}: {_SENDER_DATED}")
    return 1 if unfit or len(there) < len(seen) else 0


def _print(seen: Sequence[Seen]) -> None:
    for topic in seen:
        partitions = _HIDDEN if topic.state == "hidden" else quantity(topic.partitions, "partition")
        print(f"{topic.state:<8} {topic.name}  {partitions}")
