"""`earlybird run`: one worker of the group, until SIGTERM or SIGINT."""

import argparse

from earlybird.stream.config.settings import add_config_option, examined
from earlybird.stream.observability.logging import configure_logging, worker_name
from earlybird.stream.observability.watchdog import stop_on_signals


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything is a setting; see `earlybird config table`."""
    add_config_option(parser)


def run(args: argparse.Namespace) -> int:
    """Serve; 0 when it was asked to stop and everything that was read has its outcome or will be read again."""
    stop = stop_on_signals()
    settings, faults = examined(args.config)
    configure_logging(settings.log.level, settings.log.format, worker=worker_name(), group=settings.group)
    from earlybird.stream.startup_check import check

    check(settings, faults, model=False)  # the start loads it
    from earlybird.stream.service import (
        serve,  # torch and the model take seconds: settings should have been checked by then
    )

    serve(settings, stop)
    return 0
