"""Run the engine and start the consumer processes (feeders) that use it.

They are one service. When a feeder ends unexpectedly, the others drain and the service ends with an error, so that
its supervisor restarts it as a whole. When this process dies, the pipe that is each feeder's stdin closes and the
feeders end at once. Neither loses records: those in flight are read again, as after any crash.
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
from earlybird.stream.consumer_processes.bootstrap import Blueprint
from earlybird.stream.consumer_processes.channel import Line
from earlybird.stream.consumer_processes.engine_server import Device
from earlybird.stream.consumer_processes.merged_health import Vitals
from earlybird.stream.errors import FeederLost
from earlybird.stream.observability.health import HealthServer
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.observability.watchdog import END_S, HUNG_S, Watchdog
from earlybird.stream.stage.engine_threads import LAST_WORD_S
from earlybird.stream.stage.messages import Failed
from earlybird.stream.stage.outcome import Origin

log = structlog.get_logger(__name__)

WATCH_S = 0.1
INSTANCE = "group.instance.id"


class Crew:
    """The feeders' processes; not thread-safe."""

    def __init__(self) -> None:
        self._feeders: list[subprocess.Popen[bytes]] = []

    def start(self, blueprint: Blueprint) -> None:
        """Start one more feeder."""
        descriptor = blueprint.written()
        self._feeders.append(
            subprocess.Popen(
                [sys.executable, "-m", "earlybird.stream.consumer_processes.consumer_process", str(descriptor)],
                stdin=subprocess.PIPE,
                pass_fds=(descriptor, *blueprint.line.descriptors),
                start_new_session=True,  # Ctrl-C in a terminal reaches this process only, which then ends the feeders
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
        """Wait until all feeders have drained and ended, after `stop` or after one ended.

        Kills feeders that are `silent`, and those still running `end_s` after they were told to end. Raises
        FeederLost for a feeder that ended unexpectedly or with an error, and the errors in `failures`.
        """
        lost: FeederLost | None = None
        told = False
        end_at = math.inf
        while True:
            with suppress(Empty):
                raise failures.get_nowait().error
            ended = [feeder.poll() for feeder in self._feeders]
            asked = stop.is_set()  # read after the statuses: a signal may reach all processes at once
            for number, status in enumerate(ended):
                # -SIGTERM: the signal came before the feeder had installed its handler.
                well = status in (0, -signal.SIGTERM) and (asked or told)
                if status is not None and not well:
                    lost = lost or FeederLost(number, status)
            if not told and (asked or lost):
                told, end_at = True, time.monotonic() + end_s
                for feeder in self._feeders:
                    feeder.terminate()
            self._kill(range(len(self._feeders)) if time.monotonic() > end_at else silent())
            if None not in ended:
                break
            time.sleep(WATCH_S)
        if lost:
            raise lost

    def _kill(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if self._feeders[number].poll() is None:
                log.error("feeder.hung", feeder=number, action="it is killed; what it had under way is read again")
                self._feeders[number].kill()

    def close(self) -> None:
        """End the remaining feeders by closing their lifelines; kill those that do not end."""
        for feeder in self._feeders:
            _lifeline(feeder).close()
        for feeder in self._feeders:
            try:
                feeder.wait(2 * LAST_WORD_S)
            except subprocess.TimeoutExpired:
                feeder.kill()
                feeder.wait()


def serve_crew(settings: Settings, engine: Engine, origin: Origin, metrics: Metrics, stop: threading.Event) -> None:
    """Run the consumer processes around one engine until `stop` is set.

    They then finish, commit and leave the group. Raises EngineError, StreamError.
    """
    lines = [
        Line.create(settings.limits.max_in_flight, engine.max_tokens) for _ in range(settings.engine.consumer_processes)
    ]
    failures: SimpleQueue[Failed] = SimpleQueue()
    device = Device(lines, engine, settings.engine.threads, SystemClock(), failures.put)
    metrics.watch(lambda: device.threads.figures)
    vitals, crew, http = Vitals(device.ports, metrics.exposition), Crew(), settings.http
    with ExitStack() as stack:
        for line in lines:
            stack.callback(line.close)
        health = HealthServer(
            http.host, http.port, loop_age_s=vitals.loop_age_s, readiness=vitals.readiness, metrics=vitals.page
        )
        stack.callback(vitals.close)
        stack.callback(health.close)
        end_s = settings.timing.drain_timeout_s + END_S
        # The feeders have watchdogs of their own; this one allows for their time to end and for the wait.
        stack.enter_context(Watchdog(device.threads.progress, stop, end_s + END_S))
        tune_interpreter()
        device.start()
        stack.callback(device.close)
        stack.callback(crew.close)
        for number, line in enumerate(lines):
            own = _settings_of(number, settings)
            crew.start(Blueprint(own, origin, engine.encoder, tuple(engine.languages), line, number))
        log.info("service.started", feeders=len(lines), health=health.url, reach=health.reach)
        crew.watch(stop, failures, lambda: vitals.silent(HUNG_S), end_s + LAST_WORD_S)
    log.info("service.stopped", feeders=len(lines))


def _settings_of(number: int, settings: Settings) -> Settings:
    """Return one feeder's settings: a private health port and its own group.instance.id.

    Its health is for this process alone, which merges it. Two members with one group.instance.id would fence each
    other.
    """
    kafka, instance = settings.kafka, settings.kafka.options.get(INSTANCE)
    if instance is not None:
        kafka = kafka.model_copy(update={"options": {**kafka.options, INSTANCE: f"{instance}-{number}"}})
    return settings.model_copy(update={"http": Http(host="127.0.0.1", port=0), "kafka": kafka})


def _lifeline(feeder: "subprocess.Popen[bytes]") -> IO[bytes]:
    assert feeder.stdin is not None
    return feeder.stdin
