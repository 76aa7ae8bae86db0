"""Send one text to a running stage and show its signal.

  earlybird say "Norvex cuts outlook" --symbol NRVX

The stage is that of the settings (EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS, --config); where they name no broker, it is your
running `earlybird demo`. The text goes to the raw topic like any other, as a news item with an id of its own, so other
readers of the topics see it and its signal, too.

Exit status: 0 a signal came, 1 the text became a dead letter, 2 no stage answered.
"""

import argparse
import re
import sys
import time
from contextlib import closing

from rich.console import Console

from earlybird.schemas.codec import DecodeError, decode
from earlybird.schemas.rejection import Rejection
from earlybird.schemas.signal import Signal
from earlybird.stream.adapters.embedded import CLIENT_OPTIONS
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.commands.arguments import as_utf8, seconds, symbol
from earlybird.stream.config.client_options import KafkaEndpoint
from earlybird.stream.config.settings import Settings, add_config_option, load
from earlybird.stream.demo.address import running_demo
from earlybird.stream.errors import FeedError, SourceError
from earlybird.stream.monitor.answer import outcome_line
from earlybird.stream.observability.escape import json_line
from earlybird.stream.observability.logging import configure_logging
from earlybird.stream.ports import Outgoing, Record
from earlybird.stream.publishing.one_text import one_text

SOURCE = "say"
_TIMEOUT_S = 10.0
_USUAL = re.compile(r"(?=.*[^\W_])[\w.:/^=&+#*!@$-]+")
"""Symbols of markets and data vendors: `BTC/USD`, `^GSPC`, `ES=F`, `M&M.NS`, `CL1!`, `@ES#`, `ABC+`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the text and what it is about."""
    parser.add_argument("text", nargs="+", type=as_utf8, metavar="TEXT", help="the text; several words are one text")
    add_config_option(parser)
    about = "an instrument that the text is about, in any spelling; repeatable"
    parser.add_argument("--symbol", action="append", default=[], type=_symbol, metavar="SYM", help=about)
    parser.add_argument("--tweet", action="store_true", help="send a tweet, not a news item")
    parser.add_argument("--topic", help="raw topic (default: news.raw, or tweets.raw with --tweet)")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=_TIMEOUT_S,
        metavar="SECONDS",
        help=f"wait so long for a broker and a signal (default {_TIMEOUT_S:g})",
    )
    parser.add_argument("--json", action="store_true", help="print the signal's value as it is")


def run(args: argparse.Namespace) -> int:
    """Send the text and show its outcome; raises SourceError when none comes."""
    text = " ".join(args.text).strip()
    if not text:
        raise FeedError("text: at least one character besides blanks required")
    settings = load(args.config)
    configure_logging("error", settings.log.format)
    endpoint, hint = _where(settings)
    topic = args.topic or ("tweets.raw" if args.tweet else "news.raw")
    outgoing = one_text(text, topic, SOURCE, args.symbol, tweet=args.tweet)
    try:
        outcome, value, took_s = _answer(outgoing, endpoint, settings, args.timeout)
    except SourceError as error:
        raise SourceError(f"{error}{hint}") from None
    if args.json:
        print(json_line(value.decode("utf-8", "replace")))
    else:
        console = Console(highlight=False)
        width = console.width if console.is_terminal else 200
        console.print(outcome_line(outcome, text, took_s, width), soft_wrap=True)
    return 1 if isinstance(outcome, Rejection) else 0


def _symbol(written: str) -> str:
    """Parse an instrument, stricter than for feeds: here a strange sign is a typing error."""
    name = symbol(as_utf8(written))
    if not _USUAL.fullmatch(name):
        raise argparse.ArgumentTypeError(
            f"{written!r} names no instrument: letters, digits and signs of . : / ^ = & + # * ! @ $ - expected"
        )
    return name


def _where(settings: Settings) -> tuple[KafkaEndpoint, str]:
    """Return the brokers of settings or running demo, and a hint if nothing answers."""
    demo = running_demo()
    if "bootstrap_servers" in settings.kafka.model_fields_set:
        elsewhere = demo not in (None, settings.kafka.bootstrap_servers)
        return settings.kafka.endpoint, f"; kafka.bootstrap_servers is set: your demo is at {demo}" * elsewhere
    if demo is None:
        hint = "; no `earlybird demo` runs here, and kafka.bootstrap_servers names no other broker"
        return settings.kafka.endpoint, hint
    print(f"to the running demo at {demo}", file=sys.stderr)
    return KafkaEndpoint(demo, CLIENT_OPTIONS), ""


def _answer(
    outgoing: Outgoing, endpoint: KafkaEndpoint, settings: Settings, timeout_s: float
) -> tuple[Signal | Rejection, bytes, float]:
    """Send the record; return its outcome, the outcome's bytes and the seconds."""
    signals, dlq = settings.topics.signals, settings.topics.dlq
    # The producer first: it gets its id, which takes half a second, while the tail finds its place.
    with (
        closing(KafkaSink(endpoint)) as sink,
        closing(Tail(endpoint, [signals, dlq], start="end", timeout_s=timeout_s)) as tail,
    ):
        began_s = time.monotonic()
        sink.send(outgoing, receipt=outgoing)
        sent = False
        while (took_s := time.monotonic() - began_s) < timeout_s:
            sent = sent or bool(sink.receipts())
            for record in tail.poll(20):
                outcome = _outcome(record, dlq)
                if outcome is not None and (outcome.item_key or "").encode() == outgoing.key:
                    return outcome, record.value or b"", time.monotonic() - began_s
    place = f"{endpoint.bootstrap_servers} after {took_s:.0f} s"
    if not sent:
        raise SourceError(f"{outgoing.topic}: the text was not acknowledged by {place}; is the topic there?")
    names = [topic.name for topic in settings.topics.raw]
    waits = "and waits for a stage such as `earlybird run`"
    fate = waits if outgoing.topic in names else f"where no stage reads it: topics.raw are {', '.join(names)}"
    raise SourceError(f"{signals}: no signal from {place}; the text is in {outgoing.topic} {fate}")


def _outcome(record: Record, dlq: str) -> Signal | Rejection | None:
    try:
        value = record.value or b""
        outcome = decode(Rejection, value) if record.topic == dlq else decode(Signal, value)
    except DecodeError:
        return None  # another's record, which is of no concern here
    # A dead letter's item is also retracted; the dead letter says why.
    return None if isinstance(outcome, Signal) and outcome.label is None else outcome
