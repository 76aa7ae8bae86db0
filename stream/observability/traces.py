"""Export of spans; needs OpenTelemetry's SDK, which the standard OTEL_* variables configure.

Traces never stop a stage: what is wrong with them is logged.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import structlog
from opentelemetry.trace import Tracer

from earlybird.stream.extras import install_hint, version

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = structlog.get_logger(__name__)

FLUSH_S = 3.0  # a collector that does not answer must not hold up the end


@contextmanager
def exporting(exporters: Sequence[str], worker: str) -> Iterator[Tracer | None]:
    """Yield a tracer, None without exporters; flush its spans at the end.

    `exporters` are names of OpenTelemetry's entry points; `worker` is the instance's name.
    """
    if not exporters:
        yield None
        return
    with _complaints():
        provider = _provider(exporters, worker)
        if provider is None:
            yield None
            return
        try:
            yield provider.get_tracer("earlybird", version())
        finally:
            flush = threading.Thread(target=provider.shutdown, name="traces", daemon=True)
            flush.start()
            flush.join(FLUSH_S)
            if flush.is_alive():
                log.warning("traces.not_flushed", waited_s=FLUSH_S)


def _provider(exporters: Sequence[str], worker: str) -> "TracerProvider | None":
    try:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        service = {"service.name": "earlybird", "service.version": version(), "service.instance.id": worker}
        resource = Resource.create(service).merge(OTELResourceDetector().detect())  # the operator's names win
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        for make in [_exporter(name) for name in exporters]:
            provider.add_span_processor(BatchSpanProcessor(make()))
    except ImportError:
        log.warning("traces.off", reason=f"exporters {', '.join(exporters)} are not here", hint=install_hint("traces"))
        return None
    except Exception as error:  # a variable that cannot be parsed, for example
        log.warning("traces.off", reason=f"{type(error).__name__}: {error}")
        return None
    log.info("traces.on", exporters=list(exporters), sampler=provider.sampler.get_description())
    return provider


def _exporter(name: str) -> type:
    """Load an exporter's class; raises ImportError for one that is not installed."""
    found = list(entry_points(group="opentelemetry_traces_exporter", name=name))
    if not found:
        raise ImportError(name)
    exporter = found[0].load()
    assert isinstance(exporter, type), f"an exporter is a class, was {exporter!r}. This is a bug."
    return exporter


@contextmanager
def _complaints() -> Iterator[None]:
    """Pass the SDK's warnings and errors on to our log."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            log.warning("traces.failed", error=record.getMessage())

    theirs, ours = logging.getLogger("opentelemetry"), Handler(logging.WARNING)
    theirs.addHandler(ours)
    theirs.propagate = False
    try:
        yield
    finally:
        theirs.removeHandler(ours)
        theirs.propagate = True
