"""The standard variables: when there are traces, and to whom they go."""

import os

import pytest

from earlybird.stream.config.traces import trace_exporters

HTTP, GRPC = ("otlp_proto_http",), ("otlp_proto_grpc",)


@pytest.mark.parametrize(
    ("variables", "exporters"),
    [
        ({}, ()),
        ({"TRACES_SAMPLER": "always_on", "SERVICE_NAME": "x"}, ()),
        ({"TRACES_EXPORTER": "otlp"}, HTTP),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, HTTP),
        ({"EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, HTTP),
        ({"EXPORTER_OTLP_ENDPOINT": " "}, ()),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c:4318", "TRACES_EXPORTER": "none"}, ()),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c:4318", "SDK_DISABLED": "True"}, ()),
        ({"TRACES_EXPORTER": "otlp", "EXPORTER_OTLP_PROTOCOL": "grpc"}, GRPC),
        (
            {
                "TRACES_EXPORTER": "otlp",
                "EXPORTER_OTLP_PROTOCOL": "grpc",
                "EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            },
            HTTP,
        ),
        ({"TRACES_EXPORTER": "console, otlp,"}, ("console", *HTTP)),
    ],
)
def test_an_exporter_or_an_endpoint_turns_traces_on(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], exporters: tuple[str, ...]
) -> None:
    """And `none` or a disabled SDK off again."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(f"OTEL_{name}", value)
    assert trace_exporters() == exporters
