"""The composition root: settings -> engine and group members, and their order of life.

Start: model, engine threads, publisher, consumer. Stop (SIGTERM, SIGINT): the consumer drains and commits, the
publisher waits for the last acknowledgement, the engine threads end, the group is left. Exit 0 means that no record
that was read is lost.
"""

import threading
from importlib.metadata import version

import structlog
import torch

from earlybird.engine.engine import Engine
from earlybird.engine.errors import EngineError
from earlybird.engine.exits.ladder import Ladder
from earlybird.engine.exits.spec import never_early
from earlybird.schemas.signal import Model
from earlybird.stream.config.settings import Settings
from earlybird.stream.consumer_processes.supervisor import serve_consumer_processes
from earlybird.stream.errors import SettingsError
from earlybird.stream.observability.health import HealthServer
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.run_worker import run_worker
from earlybird.stream.stage.outcome import Origin
from earlybird.stream.startup_check import engine_config, engine_fault

log = structlog.get_logger(__name__)


def serve(settings: Settings, stop: threading.Event) -> None:
    """Serve until `stop` is set; then finish, commit and leave. Raises EngineError, StreamError."""
    torch.set_num_threads(1)  # parallel over texts, not within one: see EngineThreads
    engine = load_engine(settings)
    origin = origin_of(engine, settings)
    metrics = Metrics(engine.max_layers, origin.rungs)
    _announce(engine, origin, metrics)
    warn_of_exits(engine, settings)
    if settings.engine.consumer_processes:
        serve_consumer_processes(settings, engine, origin, metrics, stop)
        return
    summary = run_worker(settings, engine, origin, metrics, stop, _log_started)
    log.info("service.stopped", **summary.log_fields())


def load_engine(settings: Settings) -> Engine:
    """Load the configured engine; settings for an absent GPU are logged and ignored.

    Raises SettingsError.
    """
    wanted = engine_config(settings)
    try:
        engine = Engine.load(wanted)
    except EngineError as error:
        raise SettingsError(engine_fault(error)) from None
    runs = engine.config
    unused = [f"engine.{name}" for name in ("tiers", "compile") if getattr(wanted, name) != getattr(runs, name)]
    if unused:
        log.warning("settings.unused", settings=unused, runner=runs.runner, device=runs.device)
    return engine


def origin_of(engine: Engine, settings: Settings, run_id: str = "live") -> Origin:
    """Return the provenance stamped on every outcome of this process."""
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
    return Origin(
        model,
        engine.max_layers,
        engine.calibrated,
        run_id,
        topics.signals,
        topics.dlq,
        engine.rungs,
        headlines=settings.headlines,
    )


def _log_started(worker: str, health: HealthServer) -> None:
    log.info("service.started", worker=worker, health=health.url, reach=health.reach)


def _announce(engine: Engine, origin: Origin, metrics: Metrics) -> None:
    facts = {
        "model_id": engine.model_id,
        "sha256": engine.model_sha256,
        "policy": engine.policy.spec,
        "config_hash": engine.config_hash,
        "numerics": engine.numerics,
    }
    temperatures = None if engine.temperatures is None else engine.temperatures.flatten().tolist()
    promise = {"certificate": engine.certificate, "temperatures": temperatures}
    metrics.model(origin.model)
    runner = {"runner": engine.config.runner, "deterministic": engine.config.deterministic, "tiles": engine.tiles}
    log.info("model.loaded", **facts, **promise, dtype=engine.dtype, device=engine.device, **runner)


def warn_of_exits(engine: Engine, settings: Settings) -> None:
    """Log what of the exit policy can never take effect."""
    if never_early(engine.policy, engine.max_layers):
        log.warning("policy.never_early", policy=engine.policy.spec, layers=engine.max_layers)
    most = settings.limits.max_in_flight * max(1, settings.engine.consumer_processes)
    if isinstance(engine.policy, Ladder) and engine.policy.at[-1] >= most:
        hint = "raise limits.max_in_flight or lower at="
        log.warning("policy.never_busy", policy=engine.policy.spec, most_waiting=most, hint=hint)
