"""Cost of traces per text, beside the steps that are always there."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec

from earlybird.stream.adapters.clock import SystemClock
from earlybird.stream.stage.messages import Entry, Fields
from earlybird.stream.stage.spans import Spans

BATCH = 512  # spans per export, OpenTelemetry's default


def span_steps(entries: Sequence[Entry], signals: Sequence[Fields]) -> Iterator[tuple[str, Callable[[], list[Entry]]]]:
    """Yield the work of traces, named: off, not sampled, sampled.

    Spans are encoded but not sent. Yields nothing without OpenTelemetry's SDK.
    """
    if not find_spec("opentelemetry") or not find_spec("opentelemetry.exporter"):
        return
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

    class Encoding(SpanProcessor):
        def __init__(self) -> None:
            self._batch: list[ReadableSpan] = []

        def on_end(self, span: ReadableSpan) -> None:
            self._batch.append(span)
            if len(self._batch) == BATCH:
                encode_spans(self._batch).SerializeToString()
                self._batch = []

    def traced(sampler: Sampler) -> Spans:
        provider = TracerProvider(sampler, shutdown_on_exit=False)
        provider.add_span_processor(Encoding())
        return Spans(provider.get_tracer("bench"), SystemClock(), "bench")

    def work(spans: Spans | None) -> list[Entry]:
        for entry, signal in zip(entries, signals, strict=True):
            entry.produced = [signal]
            if spans:  # as the publisher asks, twice per text
                spans.start(entry)
            if spans:
                spans.end(entry)
        return list(entries)

    yield "trace, off", partial(work, None)
    yield "trace, not sampled", partial(work, traced(ALWAYS_OFF))
    yield "trace, sampled", partial(work, traced(ALWAYS_ON))
