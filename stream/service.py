"""The composition root: settings -> engine, adapters, threads; and their order of life.

Start: model, engine threads, publisher, consumer. Stop (SIGTERM, SIGINT): the consumer drains and commits, the
publisher waits for the last acknowledgement, the engine threads end, the group is left. Exit 0 means that nothing that
was read is lost.
"""

import gc
import os
import socket
import sys
import threading
import time
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version

import structlog
import torch

from engine.config import EngineConfig
from engine.engine import Engine
from engine.text.tokenizer import duplicate_key
from schemas.signal import Model
from stream.adapters.clock import SystemClock
from stream.adapters.kafka import KafkaSource
from stream.adapters.kafka_sink import KafkaSink
from stream.adapters.memory import NoCache
from stream.adapters.redis import RedisCache
from stream.duplicates import Duplicates
from stream.haste import ByClock, Haste
from stream.health import HealthServer, Readiness
from stream.heartbeat import Pulse
from stream.inflight import Answers, Stop
from stream.outcome import Origin
from stream.pipeline import Budget, Pipeline
from stream.ports import Clock, DuplicateCache, Sink, Source
from stream.preprocess import Limits
from stream.publisher import Publisher
from stream.settings import Settings
from stream.telemetry import Metrics
from stream.worker import EngineThreads

log = structlog.get_logger(__name__)

# Python hands the interpreter over between threads at this interval; the default of 5 ms adds itself to every latency
# while an engine thread is between two operators. It costs no throughput: 129 us a text at 0.5 ms, 134 at 5 ms.
SWITCH_INTERVAL_S = 0.0005
# Nothing on a text's way holds itself: after 20,000 texts a collection found no object. To look every 700 allocations
# took a sixth of the Python side's time (in memory, no engine, with the freeze: 103 -> 86 us a text, means of 3 runs).
GC_THRESHOLDS = (50_000, 20, 50)
LAST_WORD_S = 10.0  # for the last acknowledgements; by then only a heartbeat can be under way


class Service:
    """One worker of the group, on the sources and sinks that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock: Clock = SystemClock()

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set; then finish, commit and leave. Raises EngineError, StreamError."""
        settings, clock = self._settings, self._clock
        torch.set_num_threads(1)  # parallel over texts, not inside one: see EngineThreads
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        engine = load_engine(settings)
        metrics = Metrics(engine.max_layers)
        origin = origin_of(engine, settings)
        _announce(engine, metrics)
        with ExitStack() as stack:
            kafka = settings.kafka
            names = [topic.name for topic in settings.topics.raw]
            source = KafkaSource(
                kafka.bootstrap_servers, names, settings.group, protocol=kafka.group_protocol, options=kafka.options
            )
            sink = KafkaSink(kafka.bootstrap_servers, options=kafka.options)
            cache = open_cache(settings)
            stack.callback(cache.close)
            stage = Stage(settings, engine, origin, source, sink, cache, clock, metrics)
            health = HealthServer(
                settings.http.host,
                settings.http.port,
                beat_age_s=lambda: time.monotonic() - stage.pipeline.beat_s,
                readiness=stage.readiness,
                metrics=metrics.exposition,
            )
            stack.callback(health.close)
            log.info("service.started", worker=stage.worker, health=health.url)
            stage.run(stop)
        log.info("service.stopped", worker=stage.worker, finished=stage.pipeline.finished_total)


class Stage:
    """Pipeline, publisher and engine threads around one engine; live and replay differ only in what is passed in."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        origin: Origin,
        source: Source,
        sink: Sink,
        cache: DuplicateCache,
        clock: Clock,
        metrics: Metrics,
        haste: Haste | None = None,
    ) -> None:
        """`haste`: what judges texts in the clock's place."""
        self.worker = f"{socket.gethostname()}-{os.getpid()}"
        self._cache, self._sink, self._metrics = cache, sink, metrics
        self._publisher = Publisher(sink, origin, settings.topics.control, clock, metrics)
        publish = self._publisher.inbox.put
        self._engine_threads = EngineThreads(
            engine, settings.engine.threads, clock, deliver=publish, fail=self._publisher.finished.put
        )
        duplicates = Duplicates(
            cache,
            partial(
                duplicate_key,
                model_sha256=origin.model.sha256,
                config_hash=origin.model.config_hash,
                numerics=origin.model.numerics,
            ),
            settings.redis.ttl_s * 1_000_000,
            answered=lambda answers: publish(Answers(answers)),
        )
        self.pipeline = Pipeline(
            source,
            engine.encoder,
            duplicates,
            self._engine_threads,
            publish,
            self._publisher.finished,
            clock,
            metrics,
            limits_of(settings, engine),
            budget_of(settings),
            haste or haste_of(settings),
        )
        interval_ms = settings.timing.heartbeat_interval_ms
        self._pulse = Pulse(self.pipeline, source, self.worker, origin.model, publish, clock, metrics, interval_ms)

    def run(self, stop: threading.Event) -> None:
        """Until `stop`, or the end of a bounded source. Raises what any of the threads raised."""
        gc.collect()
        gc.freeze()  # a full collection over model and libraries holds all threads up: 130 ms, frozen 0
        gc.set_threshold(*GC_THRESHOLDS)
        publisher = threading.Thread(target=self._publisher.run, name="publisher", daemon=True)
        publisher.start()
        self._engine_threads.start()
        try:
            self.pipeline.run(stop.is_set, self._turn)
            self._pulse.last()
        finally:  # in this order: nothing may be handed to a thread that has ended
            self._engine_threads.close()
            self._publisher.inbox.put(Stop())
            publisher.join(timeout=LAST_WORD_S)
            self._sink.close()

    def readiness(self) -> Readiness:
        """For /readyz: an assignment is held; without its cache the stage serves, and computes everything."""
        waiting = () if self.pipeline.assigned_once else ("assignment",)
        degraded = () if getattr(self._cache, "available", True) else ("redis",)
        return Readiness(waiting, degraded)

    def _turn(self) -> None:
        self._metrics.slots(self._engine_threads.active, self._engine_threads.capacity)
        self._metrics.passes(self._engine_threads.steps)
        self._pulse.turn()


def load_engine(settings: Settings) -> Engine:
    """The engine that the settings name."""
    wanted = settings.engine
    return Engine.load(
        EngineConfig(
            model=settings.model,
            policy=settings.policy,
            runner=wanted.runner,
            device=wanted.device,
            dtype=wanted.dtype,
            slots=wanted.slots,
            token_budget=wanted.token_budget,
            deterministic=wanted.deterministic,
        )
    )


def origin_of(engine: Engine, settings: Settings, run_id: str = "live") -> Origin:
    """What every outcome of this process says of its making."""
    model = Model(
        id=engine.model_id,
        sha256=engine.model_sha256,
        profile=engine.profile,
        policy=engine.policy.spec,
        config_hash=engine.config_hash,
        numerics=engine.numerics,
        dtype=engine.dtype,
        device=engine.device,
        code_version=version("earlybird"),
        knowledge_until_us=engine.knowledge_until_us,
    )
    topics = settings.topics
    return Origin(model, engine.max_layers, engine.calibrated, run_id, topics.signals, topics.dlq)


def limits_of(settings: Settings, engine: Engine) -> Limits:
    """What is refused before the model."""
    age_s = settings.limits.max_age_s
    return Limits(
        max_record_bytes=settings.limits.max_record_bytes,
        max_age_us=None if age_s is None else round(age_s * 1_000_000),
        languages=tuple(engine.languages),
    )


def haste_of(settings: Settings) -> ByClock:
    """How old a text may get."""
    limits = settings.limits
    return ByClock(limits.deadline_ms * 1000 or None, limits.shed_after_ms * 1000 or None)


def budget_of(settings: Settings) -> Budget:
    """How much may be under way."""
    timing = settings.timing
    return Budget(
        max_in_flight=settings.limits.max_in_flight,
        poll_timeout_ms=timing.poll_timeout_ms,
        commit_interval_ms=timing.commit_interval_ms,
        revoke_timeout_ms=timing.revoke_timeout_ms,
        shutdown_timeout_ms=round(timing.drain_timeout_s * 1000),
        commit_map=settings.commit_map,
    )


def open_cache(settings: Settings) -> DuplicateCache:
    """Redis where there is one, else nothing is remembered beyond what is in flight."""
    redis = settings.redis
    if redis.url is None:
        return NoCache()
    return RedisCache(redis.url, ttl_us=redis.ttl_s * 1_000_000, lease_ms=redis.lease_ms, budget_ms=redis.budget_ms)


def _announce(engine: Engine, metrics: Metrics) -> None:
    facts = {
        "model_id": engine.model_id,
        "sha256": engine.model_sha256,
        "policy": engine.policy.spec,
        "config_hash": engine.config_hash,
        "numerics": engine.numerics,
    }
    metrics.model(**facts)
    log.info("model.loaded", **facts, dtype=engine.dtype, device=engine.device, runner=engine.config.runner)
