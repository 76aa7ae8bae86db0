"""Run one worker of the consumer group until SIGTERM or SIGINT.

  earlybird run
  EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS=broker:9092 earlybird run

Settings come from variables and, with lower precedence, from the file of --config.
"""

import argparse

from earlybird.stream.config.report import variables
from earlybird.stream.config.settings import PREFIX, Settings, add_config_option, examined
from earlybird.stream.observability.logging import configure_logging, worker_name
from earlybird.stream.observability.watchdog import leave, stop_on_signals

MOST_USED = (
    "kafka.bootstrap_servers", "kafka.options", "group", "topics.raw", "redis.url",
    "model", "policy", "engine.consumer_processes", "http.host", "log.format",
)  # fmt: skip
"""Settings that `--help` names; `earlybird config table` has all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the settings file; all else is a setting."""
    add_config_option(parser)
    most_used = variables(Settings, PREFIX, MOST_USED)
    parser.epilog = f"settings, the most used of them [default]; all: earlybird config table\n{most_used}"


def run(args: argparse.Namespace) -> int:
    """Serve until asked to stop.

    The exit status is 0 when every record read has its outcome or will be read again.
    """
    stop = stop_on_signals()
    settings, faults = examined(args.config)
    configure_logging(settings.log.level, settings.log.format, worker=worker_name(), group=settings.group)
    from earlybird.stream.startup_check import check

    check(settings, faults, model=False)  # the model is checked when it is loaded
    from earlybird.stream.service import (
        serve,  # imported late: torch takes seconds, and settings are checked first
    )

    serve(settings, stop)
    leave(0)
