"""A worker on the engine without a model: `earlybird run` without torch, and with signals that upset it.

    CHAOS_STEP_MS=5 python -m tests.chaos.worker

SIGUSR1: its engine threads never return from their next step. SIGUSR2: their next step raises. SIGRTMIN: the consumer
thread stands still for CHAOS_STALL_S, longer than max.poll.interval.ms allows. CHAOS_CARELESS=1: it commits what it has
read, as auto-commit does, in steps so long that a kill finds such texts under way; a run must find what that loses.
"""

import os
import signal
import time
from typing import Any, cast

import structlog

from earlybird.stream.bench import null
from earlybird.stream.config.settings import Settings, load
from earlybird.stream.errors import StreamError
from earlybird.stream.observability import watchdog
from earlybird.stream.observability.health import HealthServer
from earlybird.stream.observability.logging import configure_logging, worker_name
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.ports import Partition
from earlybird.stream.run_worker import run_worker
from earlybird.stream.stage.offsets import OffsetTracker
from tests.chaos.engine import LAYERS, Engine, Mood

log = structlog.get_logger(__name__)

CARELESS_STEP_S = 0.06  # a text takes 1 to 8 steps, and what is read is committed within 0.05 s


def main() -> int:
    """Serve until told to stop; the exit status is that of `earlybird run`."""
    stop, mood = watchdog.stop_on_signals(), Mood()
    signal.signal(signal.SIGUSR1, lambda *_: mood.hang.set())
    signal.signal(signal.SIGUSR2, lambda *_: mood.fail.set())
    signal.signal(signal.SIGRTMIN, lambda *_: time.sleep(float(os.environ["CHAOS_STALL_S"])))
    watchdog.HUNG_S = float(os.environ.get("CHAOS_HUNG_S", watchdog.HUNG_S))
    step_s = float(os.environ.get("CHAOS_STEP_MS", "0")) / 1e3
    if os.environ.get("CHAOS_CARELESS"):
        _be_careless()
        step_s = CARELESS_STEP_S
    settings = load()
    configure_logging(settings.log.level, settings.log.format, worker=worker_name(), group=settings.group)
    engine = cast(Any, Engine(step_s, mood))
    try:
        _serve(settings, engine, stop)
    except StreamError as error:
        log.error("worker.failed", error=str(error))
        return 2
    return 0


def _serve(settings: Settings, engine: Any, stop: Any) -> None:
    origin, metrics = null.origin(settings.topics.signals, settings.topics.dlq), Metrics(LAYERS)
    if settings.engine.consumer_processes:
        from earlybird.stream.consumer_processes.supervisor import serve_consumer_processes

        serve_consumer_processes(settings, engine, origin, metrics, stop)
    else:
        run_worker(settings, engine, origin, metrics, stop, _started)


def _be_careless() -> None:
    deliver, finish = OffsetTracker.deliver, OffsetTracker.finish

    def delivered(offsets: OffsetTracker, partition: Partition, offset: int, outcomes: int, *more: Any) -> bool:
        wanted = deliver(offsets, partition, offset, outcomes, *more)
        for _ in range(outcomes if wanted else 0):
            finish(offsets, partition, offset, offsets.epoch(partition) or 0)
        return wanted

    patched: Any = OffsetTracker
    patched.deliver, patched.finish = delivered, lambda *_: None


def _started(worker: str, health: HealthServer) -> None:
    log.info("service.started", worker=worker, health=health.url)


if __name__ == "__main__":
    watchdog.leave(main())
