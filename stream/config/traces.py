"""Exporters of spans that the standard OTEL_* variables ask for."""

import os

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def trace_exporters() -> tuple[str, ...]:
    """Return the exporters' names as entry points of OpenTelemetry; empty: no traces.

    There are none unless an exporter or an endpoint of OTLP is named.
    """
    if _first("OTEL_SDK_DISABLED").lower() == "true":
        return ()
    named = _first("OTEL_TRACES_EXPORTER") or ("otlp" if _first(*_ENDPOINTS) else "none")
    otlp = "otlp_proto_grpc" if _first(*_PROTOCOLS) == "grpc" else "otlp_proto_http"
    names = [otlp if name == "otlp" else name for name in map(str.strip, named.split(","))]
    return tuple(name for name in names if name not in ("", "none"))


def _first(*variables: str) -> str:
    """Return the first of these variables that is not empty."""
    return next((value for name in variables if (value := os.environ.get(name, "").strip())), "")
