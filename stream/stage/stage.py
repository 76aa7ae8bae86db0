"""One group member: pipeline, publisher and inference threads; live and in a replay.

Needs only the engine's text side, so that a process without torch can be a member.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from opentelemetry.trace import Tracer

from earlybird.engine.runtime import tune_interpreter
from earlybird.engine.text.encoder import TextEncoder
from earlybird.engine.text.tokenizer import duplicate_key
from earlybird.stream.adapters.framed_values import framed_topics
from earlybird.stream.config.settings import Settings
from earlybird.stream.feeds.reader import Reader
from earlybird.stream.feeds.registry import topic_parsers
from earlybird.stream.frames import FrameWriter
from earlybird.stream.linking.load import load_linker
from earlybird.stream.observability.figures import Values
from earlybird.stream.observability.health import Readiness
from earlybird.stream.observability.logging import worker_name
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.observability.watchdog import Progress, Watchdog
from earlybird.stream.parsing.records import Limits
from earlybird.stream.ports import Clock, DuplicateCache, Sink, Source
from earlybird.stream.stage.budget import Budget
from earlybird.stream.stage.deadlines import ClockLateness, LatenessPolicy
from earlybird.stream.stage.duplicates import Deduplicator
from earlybird.stream.stage.engine_threads import SHUTDOWN_GRACE_S, EngineBackend, EngineThreads
from earlybird.stream.stage.heartbeat import HeartbeatSender
from earlybird.stream.stage.messages import Answers, Failed, Inference, Stop
from earlybird.stream.stage.outcome import Origin
from earlybird.stream.stage.pipeline import Pipeline
from earlybird.stream.stage.publisher import Publisher
from earlybird.stream.stage.spans import Spans
from earlybird.stream.stage.transactions import TransactionalSink

SINK_COUNTERS = ("errors", "produced_again", "transactions_committed", "transactions_aborted")


class TextSide(Protocol):
    """The text side of an Engine."""

    @property
    def encoder(self) -> TextEncoder: ...

    @property
    def languages(self) -> tuple[str, ...]: ...


class InferenceThreads(Inference, Protocol):
    """An Inference that is started and closed."""

    @property
    def figures(self) -> Values:
        """Values for the metrics; may be read on any thread."""

    def start(self) -> None:
        """Start serving."""

    def progress(self) -> Mapping[str, float | None]:
        """Return each thread's progress value, which changes with each step.

        None while a thread waits for texts.
        """

    def close(self, timeout_s: float) -> None:
        """End within this time. Nothing is submitted any more."""


InferenceFactory = Callable[[Callable[[Answers], None], Callable[[Failed], None]], InferenceThreads]
"""Factory of the inference side, from the puts of the queues for its answers and its failure."""


class Stage:
    """Pipeline, publisher and engine threads around one engine.

    Live and replay differ only in the arguments.
    """

    def __init__(
        self,
        settings: Settings,
        engine: TextSide,
        origin: Origin,
        source: Source,
        sink: Sink,
        cache: DuplicateCache,
        clock: Clock,
        metrics: Metrics,
        lateness: LatenessPolicy | None = None,
        make_inference: InferenceFactory | None = None,
        tracer: Tracer | None = None,
        framing: FrameWriter | None = None,
    ) -> None:
        """Create it. `lateness` and `make_inference` replace the defaults.

        `lateness` replaces the clock-based policy (replay); `make_inference` replaces the engine threads (tests,
        consumer processes). With a `tracer` each text gets a span, with `framing` each signal its frame. Raises
        SettingsError for a table of symbols or a schema registry that cannot be used.
        """
        self.worker = worker_name()
        self._source, self._sink, self._cache = source, sink, cache
        # Loaded here, so that each process stamps the table that it uses.
        self._linker = load_linker(settings.symbols)
        origin = replace(origin, symbol_table=None if self._linker is None else self._linker.hash)
        read = reader_of(settings, engine.languages, patient=False)
        if self._linker is not None:
            read = replace(read, link=self._linker.linked)
        spans = None if tracer is None else Spans(tracer, clock, settings.group)
        self._publisher = Publisher(sink, origin, settings.topics.control, clock, metrics, spans, framing)
        self._frames, self._framing = read.frames, framing
        publish = self._publisher.inbox.put
        if make_inference is None:
            assert isinstance(engine, EngineBackend), f"nothing computes, was {engine!r}. This is a bug."
            make_inference = partial(EngineThreads, engine, settings.engine.threads, clock)
        self._inference = make_inference(publish, self._publisher.finished.put)
        self._stalled: Callable[[], tuple[str, ...]] = tuple
        self._duplicates = duplicates = Deduplicator(
            cache,
            partial(
                duplicate_key,
                model_sha256=origin.model.sha256,
                config_hash=origin.model.config_hash,
                numerics=origin.model.numerics,
            ),
            settings.redis.ttl_s * 1_000_000,
            settings.redis.lease_ms / 1000,
            answered=lambda answers: publish(Answers(answers)),
        )
        self.pipeline = Pipeline(
            source,
            engine.encoder,
            duplicates,
            self._inference,
            publish,
            self._publisher.finished,
            clock,
            metrics,
            read,
            _budget(settings),
            lateness or _lateness(settings),
            transactional=isinstance(sink, TransactionalSink),
            ready=read.ready if framing is None else lambda record: framing.ready() and read.ready(record),
        )
        interval_ms = settings.timing.heartbeat_interval_ms
        self._max_in_flight = settings.limits.max_in_flight
        metrics.watch(self._figures)
        self._heartbeats = HeartbeatSender(
            self.pipeline, source, self.worker, origin.model, publish, clock, metrics, interval_ms
        )

    def run(self, stop: threading.Event) -> None:
        """Run until `stop` or the end of a bounded source. Raises any thread's error."""
        tune_interpreter()
        publisher = threading.Thread(target=self._publisher.run, name="publisher", daemon=True)
        publisher.start()
        self._inference.start()
        try:
            self.pipeline.run(stop.is_set, self._heartbeats.run_once)
            self._heartbeats.last()
        finally:  # in this order: nothing may be handed to a thread that has ended
            self._inference.close(SHUTDOWN_GRACE_S)
            self._publisher.inbox.put(Stop())
            publisher.join(timeout=SHUTDOWN_GRACE_S)
            self._sink.close()
            for part in (self._frames, self._framing):
                if part is not None:
                    part.close()

    def watched(self, stop: threading.Event, end_s: float) -> Watchdog:
        """Return the watchdog that ends this process if it hangs or stops too late.

        Too late is `end_s` after `stop`.
        """
        watchdog = Watchdog(self.progress, stop, end_s)
        self._stalled = lambda: watchdog.standing
        return watchdog

    def progress(self) -> Progress:
        """Return each part's progress for the watchdog.

        An unreachable broker blocks publishing; that is no hang.
        """
        pipeline, engine = self.pipeline, self._inference.progress()
        published = not self._sink.awaited
        # All parts idle with texts in flight: a text was lost between them and would wait for ever.
        idle = published and not self._duplicates.waiting and bool(engine) and set(engine.values()) == {None}
        return {
            "consumer": pipeline.last_loop_s,
            "publisher": self._publisher.loops if published else None,
            "stage": pipeline.finished_total if pipeline.in_flight and idle else None,
            **engine,
        }

    def readiness(self) -> Readiness:
        """Return the state for /readyz.

        Ready means: the group has given us an assignment (even an empty one), and outcomes can be published. Without
        its cache the stage is degraded but serves: it computes everything.
        """
        brokers = getattr(self._source, "statistics", {}).get("brokers")
        waiting = ["broker"] if brokers == 0 else []  # None: unknown so far
        waiting += [] if self._source.member else ["assignment"]
        waiting += [*self._sink.awaited, *self._stalled()]
        waiting += sorted({part.awaited for part in (self._frames, self._framing) if part is not None} - {""})
        degraded = ["redis"] if not getattr(self._cache, "available", True) else []
        degraded += [f"topic {topic}" for topic in sorted(getattr(self._source, "missing_topics", ()))]
        degraded += ["redis writes"] if not getattr(self._cache, "writable", True) else []
        return Readiness(tuple(waiting), tuple(degraded))

    def _figures(self) -> Values:
        """Return the stage's metrics. Called on a scraper's thread."""
        offsets = self.pipeline.offsets
        return {
            "ready": not self.readiness().waiting,
            "in_flight_limit": self._max_in_flight,
            "partitions": len(offsets.partitions()),
            "ledger.skipped": offsets.skipped,
            **({} if self._linker is None else {"linked": self._linker.texts}),
            "ledger.maps_dropped": sum(list(offsets.maps_dropped.values())),
            **self._inference.figures,
            **_figures_of(
                "source", self._source, "out_of_range", "topics_recreated", "commits_accepted", "commits_refused"
            ),
            **_figures_of("sink", self._sink, *SINK_COUNTERS),
            **{f"cache.{name}": value for name, value in getattr(self._cache, "figures", {}).items()},
        }


def _figures_of(name: str, client: object, *counters: str) -> Values:
    """Return an adapter's counters and its client's statistics; in-memory adapters have neither."""
    values = {counter: getattr(client, counter, 0) for counter in counters} | getattr(client, "statistics", {})
    return {f"{name}.{key}": value for key, value in values.items()}


def reader_of(settings: Settings, languages: Sequence[str] = (), *, patient: bool = True) -> Reader:
    """Build the reader of the raw topics, for a model that reads these languages.

    `patient`: it waits for a schema registry that is away, instead of being not `ready`. Raises SettingsError.
    """
    age_s = settings.limits.max_age_s
    limits = Limits(
        max_record_bytes=settings.limits.max_record_bytes,
        max_age_us=None if age_s is None else round(age_s * 1_000_000),
        languages=tuple(languages),
    )
    formats = {topic.name: topic.format for topic in settings.topics.raw}
    framed, frames = framed_topics(formats, settings.kafka.options, patient=patient)
    return Reader(limits, topic_parsers(formats), framed=framed, frames=frames)


def _lateness(settings: Settings) -> ClockLateness:
    """Build the clock-based lateness policy of the settings."""
    limits = settings.limits
    return ClockLateness(limits.deadline_ms * 1000 or None, limits.shed_after_ms * 1000 or None)


def _budget(settings: Settings) -> Budget:
    """Build the budget of the settings."""
    timing = settings.timing
    return Budget(
        max_in_flight=settings.limits.max_in_flight,
        poll_timeout_ms=timing.poll_timeout_ms,
        transaction_interval_ms=timing.transaction_interval_ms,
        commit_interval_ms=timing.commit_interval_ms,
        revoke_timeout_ms=timing.revoke_timeout_ms,
        shutdown_timeout_ms=round(timing.drain_timeout_s * 1000),
        commit_map=settings.commit_map,
    )
