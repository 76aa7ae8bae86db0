"""Consumer process: a group member without a model of its own.

    python -m earlybird.stream.consumer_processes.consumer_process DESCRIPTOR

Another process runs the engine. Only the supervisor starts this. stdin is its lifeline: a pipe that the engine's
process holds open. SIGTERM and SIGINT drain it, as they drain a worker; it then exits with 0.
"""

import sys
from functools import partial

import structlog

from earlybird.stream.consumer_processes.process_spec import ProcessSpec
from earlybird.stream.consumer_processes.remote_engine import RemoteEngine
from earlybird.stream.errors import StreamError
from earlybird.stream.observability.health import HealthServer
from earlybird.stream.observability.logging import configure_logging, worker_name
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.observability.watchdog import stop_on_signals
from earlybird.stream.run_worker import run_worker

log = structlog.get_logger(__name__)


def main() -> int:
    """Run the consumer process and return its exit status.

    0: it was told to stop and nothing that it read is lost. 2: a StreamError ended it.
    """
    stop = stop_on_signals()
    spec = ProcessSpec.read(int(sys.argv[1]))
    settings, origin, number = spec.settings, spec.origin, spec.number
    configure_logging(
        settings.log.level, settings.log.format, worker=worker_name(), group=settings.group, consumer_process=number
    )
    end = spec.channel.consumer_end()

    def on_started(worker: str, health: HealthServer) -> None:
        end.port = health.port
        log.info("consumer_process.started", worker=worker)

    make_inference = partial(RemoteEngine, end, sys.stdin.fileno())
    try:
        summary = run_worker(
            settings, spec, origin, Metrics(origin.max_layers, origin.rungs), stop, on_started, make_inference
        )
    except StreamError as error:
        log.error("consumer_process.failed", error=str(error))
        return 2
    log.info("consumer_process.stopped", **summary.log_fields())
    return 0


if __name__ == "__main__":
    sys.exit(main())
