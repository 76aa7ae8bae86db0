"""Run the whole path on this machine, without any installation.

  earlybird demo
  earlybird demo --once

The demo starts an embedded Kafka and Redis and one worker with the bundled model, and plays a feed of about 240
invented news items and tweets that contains every oddity of a real feed once.

On a terminal it shows the live tape. Every odd item must end as its table states, else the exit status is 1. The feed
is paced, so its rate is not the throughput. Its texts were chosen so that the bundled model classifies them correctly;
they do not show its accuracy, which is in its model card. Without --once the stage stays up for other commands until
Ctrl-C.
"""

import argparse
import io
import json
import re
import sys
import time
from pathlib import Path

from rich.console import Console

from earlybird.stream.adapters.embedded import CLIENT_OPTIONS
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.config.settings import load
from earlybird.stream.demo.items import demo_feed, rebased
from earlybird.stream.demo.playback import RAW_TOPICS, Playback
from earlybird.stream.demo.stage import DemoStage
from earlybird.stream.monitor.starting import Starting
from earlybird.stream.monitor.summary import TapeTally
from earlybird.stream.monitor.tape import Kind, Row, Tape, most_active, picture
from earlybird.stream.observability.logging import configure_logging

_PICTURE_COLUMNS, _PICTURE_ROWS = 100, 26
_READY_S, _OUTCOME_S = 180.0, 60.0  # generous, for busy machines; a dead worker is noticed at once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: speed, duration, output."""
    parser.add_argument("--once", action="store_true", help="end when every record has its outcome")
    parser.add_argument("--json", action="store_true", help="end with one JSON line on stdout; the tape goes to stderr")
    parser.add_argument("--seconds", type=float, default=15.0, help="play four minutes of feed in so long (default 15)")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write a picture of the tape")


def run(args: argparse.Namespace) -> int:
    """Run the demo; the exit status is 1 if a record had a wrong outcome."""
    configure_logging("error", "console")
    load()  # reports a wrong setting here rather than in the worker's log
    console = Console(stderr=args.json, highlight=False)
    starting = Starting(console)
    with starting, DemoStage(_READY_S, starting.tell) as stage:
        starting.done()
        if not args.once:
            _invite(stage, console)
        rows, tally, seconds, surprises = _play(stage, console, args.seconds)
        console.print(tally.picture(seconds))
        for surprise in surprises:
            print(f"not as it should be: {surprise}", file=sys.stderr)
        if args.svg:
            _write_picture(args.svg, rows, tally, seconds)
        if args.once:
            _next_steps(console)
        else:
            _stay(stage, console)
    if args.json:
        print(json.dumps(tally.as_json(seconds)))
    return 1 if surprises else 0


def _play(stage: DemoStage, console: Console, length_s: float) -> tuple[list[Row], TapeTally, float, list[str]]:
    feed = demo_feed()
    recorded_s = (feed[-1].at_us - feed[0].at_us) / 1e6
    tail = Tail(stage.bootstrap_servers, [*RAW_TOPICS, "signals", "raw.dlq"], start="beginning", options=CLIENT_OPTIONS)
    sink = KafkaSink(stage.bootstrap_servers)
    tally, shown = TapeTally(), list[Row]()
    start_us = time.time_ns() // 1000
    playback = Playback(rebased(feed, start_us, recorded_s / length_s), sink, tail)
    try:
        with Tape(console) as tape:
            for rows in playback.play(_OUTCOME_S, stage.check):
                for row in rows:
                    tally.add(row)
                tally.texts = playback.answered
                shown += rows
                tape.status = tally.status(time.time_ns() / 1e9 - start_us / 1e6)
                tape.add(rows)
    finally:
        sink.close()
        tail.close()
    return shown, tally, time.time_ns() / 1e9 - start_us / 1e6, playback.surprises()


def _invite(stage: DemoStage, console: Console) -> None:
    console.print(
        f"Beside it, in another terminal:\n"
        f"  EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS={stage.bootstrap_servers} earlybird signals --from beginning --raw\n",
        soft_wrap=True,
    )


def _next_steps(console: Console) -> None:
    console.print(
        "\nNext, the same stage that stays up for other commands and for your strategy:\n"
        "  earlybird demo\n"
        "your own headlines, without Kafka:\n"
        '  earlybird classify "Norvex lifts its outlook"\n'
        'your own brokers: README.md, "Ten lines to a first real deployment".',
        soft_wrap=True,
    )


def _stay(stage: DemoStage, console: Console) -> None:
    console.print("\nThe stage stays up until Ctrl-C.")
    _invite(stage, console)
    try:
        while True:
            stage.check()
            time.sleep(0.5)
    except KeyboardInterrupt:
        return


def _write_picture(path: Path, rows: list[Row], tally: TapeTally, seconds: float) -> None:
    canvas = Console(
        record=True, width=_PICTURE_COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    lively = most_active([row for row in rows if row.kind is not Kind.REJECTION or row.headline], _PICTURE_ROWS)
    canvas.print(picture(lively, tally.status(seconds), _PICTURE_COLUMNS))
    drawn = canvas.export_svg(title="earlybird demo")
    # A picture in a README cannot load fonts: any monospaced font will do.
    path.write_text(re.sub(r"@font-face\s*{[^}]*}\s*", "", drawn), encoding="utf-8")
