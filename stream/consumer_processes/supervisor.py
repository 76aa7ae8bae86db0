"""Run the engine and start the consumer processes  that use it.

They are one service. When a consumer process ends unexpectedly, the others drain and the service ends with an error, so
that its supervisor restarts it as a whole. When this process dies, the pipe that is each consumer's stdin closes and
the consumer processes end at once. Neither loses records: those in flight are read again, as after any crash.
"""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from queue import Empty, SimpleQueue
from typing import IO

import structlog

from earlybird.engine.engine import Engine
from earlybird.engine.runtime import tune_interpreter
from earlybird.stream.adapters.clock import SystemClock
from earlybird.stream.config.settings import Http, Settings
from earlybird.stream.consumer_processes.channel import Channel
from earlybird.stream.consumer_processes.engine_server import EngineServer
from earlybird.stream.consumer_processes.merged_health import MergedHealth
from earlybird.stream.consumer_processes.process_spec import ProcessSpec
from earlybird.stream.errors import ConsumerProcessLost
from earlybird.stream.observability.health import HealthServer
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.observability.watchdog import END_S, HUNG_S, Watchdog
from earlybird.stream.stage.engine_threads import SHUTDOWN_GRACE_S
from earlybird.stream.stage.messages import Failed
from earlybird.stream.stage.outcome import Origin

log = structlog.get_logger(__name__)

WATCH_S = 0.1
INSTANCE = "group.instance.id"


class Supervisor:
    """The consumers' processes; not thread-safe."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, spec: ProcessSpec) -> None:
        descriptor = spec.write()
        self._processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "earlybird.stream.consumer_processes.consumer_process", str(descriptor)],
                stdin=subprocess.PIPE,
                pass_fds=(descriptor, *spec.channel.descriptors),
                start_new_session=True,  # Ctrl-C reaches this process only, which then ends the others
            )
        )
        os.close(descriptor)

    def watch(
        self,
        stop: threading.Event,
        failures: "SimpleQueue[Failed]",
        silent: Callable[[], list[int]],
        end_s: float,
    ) -> None:
        """Wait until all consumer processes have drained and ended, after `stop` or after one ended.

        Kills consumer processes that are `silent`, and those still running `end_s` after they were told to end. Raises
        ConsumerProcessLost for a consumer process that ended unexpectedly or with an error, and the errors in
        `failures`.
        """
        lost: ConsumerProcessLost | None = None
        ending = False
        end_at = math.inf
        while True:
            with suppress(Empty):
                raise failures.get_nowait().error
            ended = [process.poll() for process in self._processes]
            asked = stop.is_set()  # read after the statuses: a signal may reach all processes at once
            for number, status in enumerate(ended):
                # -SIGTERM: the signal came before the consumer process had installed its handler.
                expected = status in (0, -signal.SIGTERM) and (asked or ending)
                if status is not None and not expected:
                    lost = lost or ConsumerProcessLost(number, status)
            if not ending and (asked or lost):
                ending, end_at = True, time.monotonic() + end_s
                for process in self._processes:
                    process.terminate()
            self._kill(range(len(self._processes)) if time.monotonic() > end_at else silent())
            if None not in ended:
                break
            time.sleep(WATCH_S)
        if lost:
            raise lost

    def _kill(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if self._processes[number].poll() is None:
                log.error(
                    "consumer_process.hung",
                    consumer_process=number,
                    action="it is killed; what it had under way is read again",
                )
                self._processes[number].kill()

    def close(self) -> None:
        """End the remaining consumer processes by closing their lifelines; kill those that do not end."""
        for process in self._processes:
            _lifeline(process).close()
        for process in self._processes:
            try:
                process.wait(2 * SHUTDOWN_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def serve_consumer_processes(
    settings: Settings, engine: Engine, origin: Origin, metrics: Metrics, stop: threading.Event
) -> None:
    """Run the consumer processes around one engine until `stop` is set.

    They then finish, commit and leave the group. Raises EngineError, StreamError.
    """
    channels = [
        Channel.create(settings.limits.max_in_flight, engine.max_tokens)
        for _ in range(settings.engine.consumer_processes)
    ]
    failures: SimpleQueue[Failed] = SimpleQueue()
    server = EngineServer(channels, engine, settings.engine.threads, SystemClock(), failures.put)
    metrics.watch(lambda: server.threads.figures)
    merged, supervisor, http = MergedHealth(server.ports, metrics.exposition), Supervisor(), settings.http
    with ExitStack() as stack:
        for channel in channels:
            stack.callback(channel.close)
        health = HealthServer(
            http.host, http.port, loop_age_s=merged.loop_age_s, readiness=merged.readiness, metrics=merged.page
        )
        stack.callback(merged.close)
        stack.callback(health.close)
        end_s = settings.timing.drain_timeout_s + END_S
        # The consumer processes have watchdogs of their own; this one allows for their time to end and for the wait.
        stack.enter_context(Watchdog(server.threads.progress, stop, end_s + END_S))
        tune_interpreter()
        server.start()
        stack.callback(server.close)
        stack.callback(supervisor.close)
        for number, channel in enumerate(channels):
            own = _settings_of(number, settings)
            supervisor.start(ProcessSpec(own, origin, engine.encoder, tuple(engine.languages), channel, number))
        log.info("service.started", consumer_processes=len(channels), health=health.url, reach=health.reach)
        supervisor.watch(stop, failures, lambda: merged.silent(HUNG_S), end_s + SHUTDOWN_GRACE_S)
    log.info("service.stopped", consumer_processes=len(channels))


def _settings_of(number: int, settings: Settings) -> Settings:
    """Return one consumer's settings: a private health port, and its own instance and group.instance.id.

    Its health is for this process alone, which merges it. Two members with one name would fence each other.
    """
    kafka, instance = settings.kafka, settings.kafka.options.get(INSTANCE)
    if instance is not None:
        kafka = kafka.model_copy(update={"options": {**kafka.options, INSTANCE: f"{instance}-{number}"}})
    own: dict[str, object] = {"http": Http(host="127.0.0.1", port=0), "kafka": kafka}
    if settings.instance is not None:
        own["instance"] = f"{settings.instance}-{number}"
    return settings.model_copy(update=own)


def _lifeline(process: "subprocess.Popen[bytes]") -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin
