"""Topics of the stage: `create` makes those that are missing and changes none, `show` says what the broker has.

`signals` carries the broker's append time. Raw topics that will take history need retention.ms=-1 (--keep-raw).
"""

import argparse

from stream.adapters.topics import Topic, create_topics, known_topics, stage_topics
from stream.logs import configure_logging
from stream.settings import Settings, add_config_option, load

_SHOWN_S, _CREATED_S = 10.0, 30.0  # longest wait for a broker


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Their size."""
    parser.add_argument("verb", choices=["create", "show"])
    add_config_option(parser)
    parser.add_argument("--partitions", type=int, default=12, help="of raw topics, signals and dead letters (12)")
    parser.add_argument("--replication", type=int, default=1, help="copies of each partition (1)")
    parser.add_argument("--keep-raw", action="store_true", help="raw topics keep records for ever, back-dated ones too")


def run(args: argparse.Namespace) -> int:
    """0: every topic is there; 1: some are missing. Raises StreamError when no broker answers."""
    settings = load(args.config)
    configure_logging(settings.log.level, settings.log.format)
    return _create(settings, args) if args.verb == "create" else _show(settings)


def _create(settings: Settings, args: argparse.Namespace) -> int:
    names, kafka = settings.topics, settings.kafka
    raw = [topic.name for topic in names.raw]
    topics = stage_topics(
        raw, names.signals, names.control, names.dlq, partitions=args.partitions, replication=args.replication
    )
    if args.keep_raw:
        topics = [_kept(topic) if topic.name in raw else topic for topic in topics]
    for made in create_topics(kafka.bootstrap_servers, topics, options=kafka.options, timeout_s=_CREATED_S):
        print(f"{made.outcome:<8} {made.topic.name}  {made.partitions} partitions")
    return 0


def _kept(topic: Topic) -> Topic:
    return Topic(topic.name, topic.partitions, topic.replication, {**topic.config, "retention.ms": "-1"})


def _show(settings: Settings) -> int:
    names, kafka = settings.topics, settings.kafka
    known = known_topics(kafka.bootstrap_servers, kafka.options, timeout_s=_SHOWN_S)
    missing = False
    for name in [*(topic.name for topic in names.raw), names.signals, names.control, names.dlq]:
        partitions = known.get(name, 0)
        missing |= partitions == 0
        print(f"{'missing' if partitions == 0 else 'there':<8} {name}  {partitions} partitions")
    return 1 if missing else 0
