"""Publish a vendor's live news or posts to the raw topics until SIGTERM or Ctrl-C.

  EARLYBIRD_PULL__ALPACA_KEY_ID=... EARLYBIRD_PULL__ALPACA_SECRET_KEY=... earlybird pull alpaca
  earlybird pull finnhub --symbol NRVX --symbol GRYF
  earlybird pull rss https://wire.example/feed.xml https://other.example/atom

alpaca: a stream, all symbols unless some are named. finnhub: a stream of the named symbols. x: the filtered stream,
with the account's rules. tiingo, rss: polled every pull.poll_interval_s. Tokens are settings (pull.*), also as files.

A lost connection is made again after a wait that doubles, and what alpaca and finnhub had meanwhile is fetched: those
records carry the header `pull-origin: gap`. All items are dated when they were received (observed). What was there
before the start is left out unless --since reaches back to it. A signal ends the command once the broker has
acknowledged everything; the exit status is then 0, and 2 if the vendor refuses us.
"""

import argparse
import time
from collections.abc import Callable, Mapping

import structlog

from earlybird.stream.commands.arguments import positive_int
from earlybird.stream.commands.feed import check_formats
from earlybird.stream.config.pull import Pull
from earlybird.stream.config.settings import PREFIX, add_config_option, load
from earlybird.stream.errors import SettingsError
from earlybird.stream.observability.logging import configure_logging, worker_name
from earlybird.stream.publishing.interruption import Interruption
from earlybird.stream.publishing.line_format import BadLine, Line
from earlybird.stream.publishing.publish import publish
from earlybird.stream.publishing.tally import Tally
from earlybird.stream.pull.source import Source
from earlybird.stream.timeline.instants import duration_us

log = structlog.get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: source, symbols, addresses, topic."""
    parser.add_argument("source", choices=sorted(_SOURCES), help="whose news or posts")
    parser.add_argument("addresses", nargs="*", metavar="URL", help="feeds to poll; rss only")
    add_config_option(parser)
    parser.add_argument("--symbol", action="append", default=[], help="repeatable; the vendor's own spelling")
    parser.add_argument("--since", metavar="DURATION", help="also what came so long before the start (15m, 2h)")
    parser.add_argument("--topic", help="one topic for all (default: news.raw and tweets.raw, by item type)")
    parser.add_argument("--limit", type=positive_int, metavar="N", help="stop after N texts")
    parser.add_argument("--url", help="the vendor's address, if not its public one")
    parser.add_argument("--history-url", metavar="URL", help="that of its history")


def run(args: argparse.Namespace) -> int:
    """Publish until asked to stop."""
    settings = load(args.config)
    configure_logging(settings.log.level, settings.log.format, worker=worker_name())
    from earlybird.stream.adapters.kafka_sink import KafkaSink
    from earlybird.stream.adapters.topics import known_topics
    from earlybird.stream.pull.session import Session

    check_formats(settings, args.topic)
    source = _SOURCES[args.source](args, settings.pull)
    since_us = None if args.since is None else time.time_ns() // 1000 - duration_us(args.since, "--since")
    known_topics(settings.kafka.endpoint)  # connects nowhere before a broker answers
    sink, tally = KafkaSink(settings.kafka.endpoint), Tally()
    session = Session(source, since_us=since_us, topic=args.topic)
    with Interruption() as interruption:
        try:
            publish(
                interruption.until(session.lines()), sink, limit=args.limit, on_line=_on_line,
                stop=interruption.came, tally=tally,
            )  # fmt: skip
        finally:
            sink.close()
            log.info(
                "pull.stopped", source=source.name, published=tally.acknowledged, refused=tally.bad_lines,
                skipped=tally.skipped_lines, open=len(tally.open), seconds=round(tally.seconds, 1),
            )  # fmt: skip
    return 1 if tally.open else 0


def _on_line(line: Line) -> None:
    if isinstance(line, BadLine):
        log.warning("pull.refused", place=line.place, why=line.why)


def _alpaca(args: argparse.Namespace, pull: Pull) -> Source:
    from earlybird.stream.pull.alpaca import HISTORY_URL, STREAM_URL, Alpaca

    key_id, secret = _secret(pull, "alpaca_key_id"), _secret(pull, "alpaca_secret_key")
    urls = (args.url or STREAM_URL, args.history_url or HISTORY_URL)
    return Alpaca(key_id, secret, args.symbol, pull.user_agent, *urls)


def _finnhub(args: argparse.Namespace, pull: Pull) -> Source:
    from earlybird.stream.pull.finnhub import HISTORY_URL, STREAM_URL, Finnhub

    if not args.symbol:
        raise SettingsError("finnhub: --symbol at least once: it has no subscription to all news")
    urls = (args.url or STREAM_URL, args.history_url or HISTORY_URL)
    return Finnhub(_secret(pull, "finnhub_token"), args.symbol, pull.user_agent, *urls)


def _tiingo(args: argparse.Namespace, pull: Pull) -> Source:
    from earlybird.stream.pull.tiingo import URL, Tiingo

    token = _secret(pull, "tiingo_token")
    return Tiingo(token, args.symbol, pull.user_agent, pull.poll_interval_s, args.url or URL)


def _x(args: argparse.Namespace, pull: Pull) -> Source:
    from earlybird.stream.pull.x import URL, X

    return X(_secret(pull, "x_bearer_token"), pull.user_agent, pull.x_backfill, args.url or URL)


def _rss(args: argparse.Namespace, pull: Pull) -> Source:
    from earlybird.stream.pull.rss import Rss

    if not args.addresses:
        raise SettingsError("rss: the address of at least one feed")
    return Rss(args.addresses, pull.user_agent, pull.poll_interval_s)


def _secret(pull: Pull, name: str) -> str:
    found: str | None = getattr(pull, name)
    if found is None:
        raise SettingsError(f"pull.{name}: none; set {PREFIX}PULL__{name.upper()}, or _FILE and the path of a file")
    return found


_SOURCES: Mapping[str, Callable[[argparse.Namespace, Pull], Source]] = {
    "alpaca": _alpaca,
    "finnhub": _finnhub,
    "rss": _rss,
    "tiingo": _tiingo,
    "x": _x,
}
