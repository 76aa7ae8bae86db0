"""Export of spans to a collector over HTTP: what arrives, and what a collector cannot do to us."""

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from collector import Collector, collecting
from earlybird.stream.observability import traces
from earlybird.stream.observability.traces import exporting

HTTP = ("otlp_proto_http",)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """The variables name it."""
    with collecting() as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.endpoint)
        yield running


def export(count: int) -> list[Any]:
    """So many spans; what was logged."""
    with capture_logs() as logs, exporting(HTTP, "host-7") as tracer:
        assert tracer is not None
        for number in range(count):
            tracer.start_span(f"text {number}").end()
    return logs


def test_no_exporter_no_tracer() -> None:
    with exporting((), "host-7") as tracer:
        assert tracer is None


def test_all_spans_have_arrived_at_the_end(collector: Collector) -> None:
    """More than one batch, flushed."""
    logs = export(700)
    assert {span.name for span in collector.spans} == {f"text {number}" for number in range(700)}
    assert {"service.name": "earlybird", "service.instance.id": "host-7"}.items() <= collector.resources[0].items()
    assert [log["event"] for log in logs] == ["traces.on"]


def test_names_of_the_operator_win(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Service and resource as they say; the sampler, too."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "sentiment")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=a,deployment.environment.name=test")
    assert "AlwaysOn" in export(1)[0]["sampler"]
    wanted = {"service.name": "sentiment", "service.instance.id": "a", "deployment.environment.name": "test"}
    assert wanted.items() <= collector.resources[0].items()
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    export(100)
    assert len(collector.spans) == 1


def test_a_collector_that_does_not_answer_holds_nothing_up(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end goes on without it, and says so."""
    monkeypatch.setattr(traces, "FLUSH_S", 0.05)
    collector.open.clear()
    assert [log["event"] for log in export(3)] == ["traces.on", "traces.not_flushed"]


def test_a_collector_that_refuses_is_logged(collector: Collector) -> None:
    """In our log, not in lines of another shape."""
    collector.status = 403
    events = [(log["event"], log.get("error", "")) for log in export(3)]
    assert [event for event, _ in events] == ["traces.on", "traces.failed"]
    assert "403" in events[1][1]


def test_what_is_not_installed_is_a_warning() -> None:
    """With the extra to install; the stage runs without traces."""
    with capture_logs() as logs, exporting(("zipkin_of_old",), "host-7") as tracer:
        assert tracer is None
    assert [(log["event"], log["log_level"]) for log in logs] == [("traces.off", "warning")]
    assert "zipkin_of_old" in logs[0]["reason"] and "traces" in logs[0]["hint"]


def test_a_variable_that_cannot_work_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's own variables are theirs to judge; no stage ends over them."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "0")
    with capture_logs() as logs, exporting(HTTP, "host-7") as tracer:
        assert tracer is None
    assert [log["event"] for log in logs] == ["traces.off"] and "max_queue_size" in logs[0]["reason"]


def test_what_the_sdk_ignores_is_logged(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the start on."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "rar")
    logs = export(1)
    assert [log["event"] for log in logs] == ["traces.failed", "traces.on"] and "rar" in logs[0]["error"]
    assert len(collector.spans) == 1
