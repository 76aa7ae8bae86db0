"""One group member on the configured sources and sinks. Loads without torch."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from earlybird.stream.adapters.clock import SystemClock
from earlybird.stream.adapters.kafka import KafkaSource
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.kafka_transactions import KafkaTransactions
from earlybird.stream.adapters.memory import NoCache
from earlybird.stream.adapters.redis import RedisCache
from earlybird.stream.adapters.signal_framing import SignalFraming
from earlybird.stream.adapters.undecided import Undecided
from earlybird.stream.config.settings import Settings
from earlybird.stream.config.traces import trace_exporters
from earlybird.stream.errors import SettingsError
from earlybird.stream.observability.health import HealthServer
from earlybird.stream.observability.logging import worker_name
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.observability.traces import exporting
from earlybird.stream.observability.watchdog import END_S
from earlybird.stream.ports import DuplicateCache
from earlybird.stream.stage import commit_map
from earlybird.stream.stage.outcome import Origin
from earlybird.stream.stage.stage import InferenceFactory, Stage, TextSide


class RunSummary(NamedTuple):
    """Work done by a member."""

    finished: int  # texts whose outcome the broker has acknowledged
    cpu_s: float  # CPU time of its process, from joining the group to leaving it

    def log_fields(self) -> dict[str, float]:
        """Return the fields of the member's last log event.

        Without finished texts there is no CPU time per text.
        """
        if not self.finished:
            return {"finished": 0}
        return {"finished": self.finished, "cpu_ms_per_text": round(1e3 * self.cpu_s / self.finished, 3)}


def run_worker(
    settings: Settings,
    engine: TextSide,
    origin: Origin,
    metrics: Metrics,
    stop: threading.Event,
    on_started: Callable[[str, HealthServer], None],
    make_inference: InferenceFactory | None = None,
) -> RunSummary:
    """Run one group member on the configured sources and sinks, until it leaves.

    `started(worker_id, health_server)` is called once it serves. `make_inference`: see Stage. Raises EngineError,
    StreamError.
    """
    kafka, http, before_s = settings.kafka, settings.http, time.process_time()
    with ExitStack() as stack:
        names = [topic.name for topic in settings.topics.raw]
        source = KafkaSource(kafka.endpoint, names, settings.group, protocol=kafka.group_protocol)
        topics = settings.topics
        outcomes = (topics.signals, topics.control, topics.dlq)
        sink = open_sink(settings, outcomes)
        cache = open_cache(settings, origin.max_layers, len(origin.rungs))
        stack.callback(cache.close)
        tracer = stack.enter_context(exporting(trace_exporters(), worker_name()))
        stage = Stage(
            settings,
            engine,
            origin,
            source,
            sink,
            cache,
            SystemClock(),
            metrics,
            make_inference=make_inference,
            tracer=tracer,
            framing=SignalFraming.of_options(kafka.options, topics.signals, topics.signals_format),
        )
        health = HealthServer(
            http.host,
            http.port,
            loop_age_s=lambda: time.monotonic() - stage.pipeline.last_loop_s,
            readiness=stage.readiness,
            metrics=metrics.page,
        )
        stack.callback(health.close)
        stack.enter_context(stage.watched(stop, settings.timing.drain_timeout_s + END_S))
        on_started(stage.worker, health)
        stage.run(stop)
    return RunSummary(stage.pipeline.finished_total, time.process_time() - before_s)


def open_sink(settings: Settings, topics: Sequence[str] = ()) -> KafkaSink | KafkaTransactions:
    """Create the sink that the delivery asks for; it waits for `topics`."""
    kafka, place, dated = settings.kafka, transactional_id(settings), settings.topics.signals
    if place is None:
        return KafkaSink(kafka.endpoint, topics=topics, append_dated=dated)
    written, raw = (settings.topics.signals, settings.topics.dlq), [topic.name for topic in settings.topics.raw]
    return KafkaTransactions(
        kafka.endpoint,
        place,
        interval_ms=settings.timing.transaction_interval_ms,
        topics=topics,
        append_dated=dated,
        undecided=Undecided(kafka.endpoint, written, raw, settings.group, commit_map.finished_above),
    )


def transactional_id(settings: Settings) -> str | None:
    """Return Kafka's transactional.id of this worker; None under at-least-once.

    Raises SettingsError without a name.
    """
    if settings.delivery == "at_least_once":
        return None
    name = settings.instance or settings.kafka.options.get("group.instance.id")
    if name is None:
        needed = "a name of this worker that is the same after a restart and no other's"
        raise SettingsError(f"instance: required with delivery exactly_once: {needed}; was none")
    return f"{settings.group}-{name}"


def open_cache(settings: Settings, max_layers: int = 1, rungs: int = 0) -> DuplicateCache:
    """Open Redis if configured; else deduplicate only texts in flight.

    `max_layers` is the model's, `rungs` the policy's; they do not matter when only checking whether the cache can be
    opened.
    """
    redis = settings.redis
    if redis.url is None:
        return NoCache()
    return RedisCache(
        redis.url,
        ttl_us=redis.ttl_s * 1_000_000,
        lease_ms=redis.lease_ms,
        max_layers=max_layers,
        rungs=rungs,
        budget_ms=redis.budget_ms,
        secret=redis.secret,
    )
