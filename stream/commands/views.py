"""Serve sentiment per symbol over windows of 5 minutes to a day.

  EARLYBIRD_HTTP__PORT=9465 earlybird views
  curl localhost:9465/symbols
  curl 'localhost:9465/symbols/NVDA?window=15m'

Reads `signals`, answers over HTTP (http.host, http.port; `earlybird run` has the default one) and writes the compacted
topic `views.topic`. Several workers share the symbols; any of them answers for all. A page for people is at /.
"""

import argparse

from earlybird.stream.config.report import variables
from earlybird.stream.config.settings import PREFIX, Settings, add_config_option, load
from earlybird.stream.observability.logging import configure_logging, worker_name
from earlybird.stream.observability.watchdog import stop_on_signals

MOST_USED = (
    "kafka.bootstrap_servers",
    "kafka.options",
    "views.group",
    "views.topic",
    "views.url",
    "http.host",
    "http.port",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the settings file; all else is a setting."""
    add_config_option(parser)
    most_used = variables(Settings, PREFIX, MOST_USED)
    parser.epilog = f"settings, the most used of them [default]; all: earlybird config table\n{most_used}"


def run(args: argparse.Namespace) -> int:
    """Serve until asked to stop; the exit status is then 0."""
    settings = load(args.config)
    configure_logging(settings.log.level, settings.log.format, worker=worker_name(), group=settings.views.group)
    from earlybird.stream.views.service import serve  # imported late: settings are checked first

    serve(settings, stop_on_signals().is_set)
    return 0
