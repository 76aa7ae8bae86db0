"""One span per text, made from recorded instants on the publisher's thread.

A span starts when its outcome is produced, because the outcome's records carry its context, and ends when the broker
has acknowledged them. Names are those of OpenTelemetry's semantic conventions for Kafka; `earlybird.*` are our own. No
span holds a word of a text.
"""

from collections.abc import Iterator

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from earlybird.schemas.rejection import Reason, Rejection
from earlybird.stream.ports import Clock
from earlybird.stream.stage.messages import Entry, Fields
from earlybird.stream.stage.trace_context import carried

Attributes = dict[str, str | int | bool]
Event = tuple[str, int, Attributes]
"""Name, instant in us, attributes."""

_CONTEXT = TraceContextTextMapPropagator()
_LONGEST_KEY = 512  # bytes


class Spans:
    """The spans of the texts that are being published. Not thread-safe: publisher thread only."""

    def __init__(self, tracer: Tracer, clock: Clock, group: str) -> None:
        self._tracer, self._clock = tracer, clock
        self._common: Attributes = {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": group,
        }

    def start(self, entry: Entry) -> None:
        """Start the span under the raw record's context; the entry's records will carry its own."""
        record = entry.record
        parent = _CONTEXT.extract({name: value.decode() for name, value in carried(record.headers)}, Context())
        span = self._tracer.start_span(
            f"process {record.topic}",
            parent,
            SpanKind.CONSUMER,
            self._common | _position(entry),
            start_time=entry.consumed_us * 1000,
        )
        headers: dict[str, str] = {}
        _CONTEXT.inject(headers, set_span_in_context(span, parent))
        entry.span, entry.trace = span, tuple((name, value.encode()) for name, value in headers.items())

    def end(self, entry: Entry) -> None:
        """Tell what happened to an entry that is acknowledged, and end its span."""
        span, now_us = entry.span, self._clock.now_us()
        if span is None or not span.is_recording():
            return
        events: list[Event] = [("read", entry.consumed_us, {})]
        for outcome in entry.produced:
            if isinstance(outcome, Rejection):
                span.set_attribute("earlybird.reason", outcome.reason.value)
                if outcome.reason is Reason.POISON:  # any other refusal is what the stage is meant to do
                    span.set_status(StatusCode.ERROR)
                    span.set_attribute("error.type", outcome.reason.value)
                events.append(("produced", outcome.rejected_us, {"earlybird.outcome": "rejection"}))
            else:
                span.set_attributes(_signal(outcome))
                events += _life(outcome)
        for name, at_us, attributes in [*events, ("acknowledged", now_us, {})]:
            span.add_event(name, attributes, at_us * 1000)
        span.end(now_us * 1000)


def _position(entry: Entry) -> Attributes:
    record, item_key = entry.record, entry.element.item_key
    attributes: Attributes = {
        "messaging.destination.name": record.topic,
        "messaging.destination.partition.id": str(record.partition),
        "messaging.kafka.offset": record.offset,
        "earlybird.raw": str(entry.element.position),
    }
    if record.key is not None:
        attributes["messaging.kafka.message.key"] = record.key[:_LONGEST_KEY].decode(errors="replace")
    if item_key is not None:
        attributes["earlybird.item_key"] = item_key
    return attributes


def _signal(fields: Fields) -> Attributes:
    attributes: Attributes = {
        "earlybird.signal_id": fields["signal_id"],
        "earlybird.action": fields["action"],
        "earlybird.item_key": fields["item_key"],
    }
    if fields["label"] is not None:
        attributes["earlybird.label"] = fields["label"]
        attributes["earlybird.cache_hit"] = fields["novelty"]["cache_hit"]
    return attributes


def _life(fields: Fields) -> Iterator[Event]:
    """Yield what a signal tells of its text; a duplicate was not computed itself."""
    times, left = fields["ts"], fields["exit"]
    if times["engine_in_us"] is not None:
        yield "admitted", times["engine_in_us"], {}
    if times["exited_us"] is not None:
        attributes: Attributes = {"earlybird.exit.layer": left["layer"], "earlybird.exit.reason": left["reason"]}
        yield "exit", times["exited_us"], attributes
    yield "produced", times["emitted_us"], {"earlybird.outcome": "signal"}
