"""Run the whole path on this machine, without any installation.

  earlybird demo
  earlybird demo --once

The demo starts an embedded Kafka and Redis and one worker with the bundled model, and plays a feed of about 240
invented news items and tweets that contains every oddity of a real feed once.

On a terminal it shows the slots of the model, texts climbing in them layer by layer, and the tape of signals below.
There each pass is stretched to 200 ms (--pass-ms), or it would be over before one sees it; elsewhere the engine runs
at full speed, and each outcome is one plain line. At the end the same texts go through slots and through a padded batch
loop at full speed, side by side.

Every odd item must end as its table states, else the exit status is 1. The feed is paced, so its rate is not the
throughput. Its texts were chosen so that the bundled model classifies them correctly; they do not show its accuracy,
which is in its model card. Without --once the stage stays up until Ctrl-C, for headlines that you type (Enter sends)
and for other commands, such as `earlybird say`.
"""

import argparse
import io
import json
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.text import Text

from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.commands.arguments import positive_float
from earlybird.stream.config.settings import Settings, load
from earlybird.stream.demo.address import announced
from earlybird.stream.demo.items import demo_feed, rebased
from earlybird.stream.demo.playback import RAW_TOPICS, Playback
from earlybird.stream.demo.show import Show
from earlybird.stream.demo.stage import DemoStage
from earlybird.stream.errors import SettingsError
from earlybird.stream.monitor.display import View, moving, picture
from earlybird.stream.monitor.keyboard import Keyboard
from earlybird.stream.monitor.starting import Starting
from earlybird.stream.observability.logging import configure_logging

_PICTURE_COLUMNS, _PICTURE_ROWS = 100, 32
_READY_S, _OUTCOME_S = 180.0, 60.0  # generous, for busy machines; a dead worker is noticed at once
_PASS_MS = 200.0  # slow enough to see, and still faster than the feed comes
_WATCHED = {"slots": "8", "threads": "1", "runner": "packed"}
"""Engine settings for a screen, unless the user has set them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: speed, duration, output."""
    parser.add_argument("--once", action="store_true", help="end when every record has its outcome")
    parser.add_argument("--json", action="store_true", help="end with one JSON line on stdout; the rest goes to stderr")
    seconds = "play four minutes of feed in so long (default 15)"
    parser.add_argument("--seconds", type=positive_float, default=15.0, help=seconds)
    stretch = "stretch each pass to so long, to be watched (default 200 on a terminal, else 0: full speed)"
    parser.add_argument("--pass-ms", type=_milliseconds, metavar="MS", help=stretch)
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write a picture of the liveliest moment")


def run(args: argparse.Namespace) -> int:
    """Run the demo; the exit status is 1 if a record had a wrong outcome."""
    configure_logging("error", "console")
    settings = load()  # reports a wrong setting here rather than in the worker's log
    if args.svg:
        _writable(args.svg)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an ASCII log shows ? where it has no sign
    console = Console(stderr=args.json, highlight=False)
    default_ms = _PASS_MS if moving(console) else 0.0
    pass_ms = default_ms if args.pass_ms is None else args.pass_ms
    starting, keyboard = Starting(console), Keyboard(moving(console) and not args.once)
    with (
        _ending(),
        keyboard,
        starting,
        DemoStage(_READY_S, starting.tell, pass_ms=pass_ms, engine=_engine(settings)) as stage,
    ):
        starting.done()
        with announced(stage.kafka.bootstrap_servers):
            return _shown(args, stage, console, keyboard, pass_ms)


@contextmanager
def _ending() -> Iterator[None]:
    """Restore the terminal and stop all parts on SIGTERM and SIGHUP, too."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _engine(settings: Settings) -> dict[str, str]:
    """Return the worker's engine settings: few slots to watch, unless the user has set them."""
    given = settings.engine
    wanted = {name: value for name, value in _WATCHED.items() if name not in given.model_fields_set}
    if given.device == "cuda" or given.tiers is not None or given.compile:
        wanted.pop("runner", None)  # the user wants the resident loop, whose slots cannot be watched
    return wanted | {"consumer_processes": "0"}


def _shown(args: argparse.Namespace, stage: DemoStage, console: Console, keyboard: Keyboard, pass_ms: float) -> int:
    feed = demo_feed()
    recorded_s = (feed[-1].at_us - feed[0].at_us) / 1e6
    topics = [*RAW_TOPICS, "signals", "raw.dlq"]
    tail = Tail(stage.kafka, topics, start="beginning")
    sink = KafkaSink(stage.kafka)
    playback = Playback(rebased(feed, time.time_ns() // 1000, recorded_s / args.seconds), sink, tail)
    at = stage.kafka.bootstrap_servers
    hint = "" if args.once else f'Kafka at {at}; in another terminal: earlybird say "Norvex ..."'
    show = Show(playback, stage.slots, console, stage.check, pass_ms=pass_ms, keyboard=keyboard, hint=hint)
    try:
        with show:
            show.play(_OUTCOME_S)
            compared, surprises = show.compare(), playback.surprises()
            if args.svg and show.still:
                _write_picture(args.svg, show.still)
            if not moving(console):
                _tell(show, compared, surprises, console)
            if not args.once:
                if not moving(console):
                    _invite(at, console)
                show.stay()
    finally:
        sink.close()
        tail.close()
    if moving(console):
        _tell(show, compared, surprises, console)
    if args.once:
        _next_steps(console)
    if args.json:
        about = {"pass_ms": pass_ms, "slots_and_batches": stage.slots.comparison}
        print(json.dumps(show.tally.as_json(show.seconds) | about))
    return 1 if surprises else 0


def _tell(show: Show, compared: Sequence[Text], surprises: Sequence[str], console: Console) -> None:
    """Print the totals, the comparison, and what was not as it should be."""
    console.print(show.tally.picture(show.seconds, slowed=show.slowed))
    console.print()
    for line in compared:
        console.print(line, soft_wrap=True)
    for surprise in surprises:
        print(f"not as it should be: {surprise}", file=sys.stderr)


def _invite(bootstrap_servers: str, console: Console) -> None:
    console.print(
        f"\nThe stage stays up until Ctrl-C. Beside it, in another terminal:\n"
        f'  earlybird say "Norvex cuts outlook" --symbol NRVX\n'
        f"  EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS={bootstrap_servers} earlybird signals --from beginning --raw\n",
        soft_wrap=True,
    )


def _next_steps(console: Console) -> None:
    console.print(
        "\nNext, the same stage that stays up for headlines that you type, for other commands and for your strategy:\n"
        "  earlybird demo\n"
        "your own headlines, without Kafka:\n"
        '  earlybird classify "Norvex lifts its outlook"\n'
        'your own brokers: README.md, "Ten lines to a first deployment".',
        soft_wrap=True,
    )


def _writable(path: Path) -> None:
    """Raise SettingsError if the picture could not be written at the end."""
    try:
        path.open("a").close()
    except OSError as error:
        raise SettingsError(f"--svg {path}: cannot be written, {error.strerror}") from None


def _write_picture(path: Path, still: View) -> None:
    canvas = Console(
        record=True, width=_PICTURE_COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    canvas.print(picture(still, _PICTURE_COLUMNS, _PICTURE_ROWS))
    drawn = canvas.export_svg(title="earlybird demo")
    # A picture in a README cannot load fonts: any monospaced font will do.
    path.write_text(re.sub(r"@font-face\s*{[^}]*}\s*", "", drawn), encoding="utf-8")


def _milliseconds(text: str) -> float:
    return 0.0 if text == "0" else positive_float(text)
