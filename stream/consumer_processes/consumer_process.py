"""Consumer process (feeder): a group member without a model of its own.

    python -m earlybird.stream.consumer_processes.consumer_process BLUEPRINT

Another process runs the engine. Only the supervisor starts this. stdin is its lifeline: a pipe that the engine's
process holds open. SIGTERM and SIGINT drain it, as they drain a worker; it then exits with 0.
"""

import sys
from functools import partial

import structlog

from earlybird.stream.consumer_processes.bootstrap import Blueprint
from earlybird.stream.consumer_processes.remote_engine import Remote
from earlybird.stream.errors import StreamError
from earlybird.stream.observability.health import HealthServer
from earlybird.stream.observability.logging import configure_logging, worker_name
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.observability.watchdog import stop_on_signals
from earlybird.stream.run_worker import work

log = structlog.get_logger(__name__)


def main() -> int:
    """Run the consumer process and return its exit status.

    0: it was told to stop and nothing that it read is lost. 2: a StreamError ended it.
    """
    stop = stop_on_signals()
    blueprint = Blueprint.read(int(sys.argv[1]))
    settings, origin, feeder = blueprint.settings, blueprint.origin, blueprint.number
    configure_logging(
        settings.log.level, settings.log.format, worker=worker_name(), group=settings.group, feeder=feeder
    )
    end = blueprint.line.feeder_end()

    def started(worker: str, health: HealthServer) -> None:
        end.port = health.port
        log.info("feeder.started", feeder=feeder, worker=worker)

    serve = partial(Remote, end, sys.stdin.fileno())
    try:
        done = work(settings, blueprint, origin, Metrics(origin.max_layers), stop, started, serve)
    except StreamError as error:
        log.error("feeder.failed", feeder=feeder, error=str(error))
        return 2
    log.info("feeder.stopped", feeder=feeder, **done.account())
    return 0


if __name__ == "__main__":
    sys.exit(main())
