"""Spans of a stage stepped by hand: parents, events, attributes, and what the published records carry."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, ParentBasedTraceIdRatio, Sampler
from opentelemetry.semconv._incubating.attributes import messaging_attributes as semconv
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from earlybird.schemas.codec import decode
from earlybird.schemas.rejection import Rejection
from earlybird.schemas.signal import Signal
from earlybird.stream.ports import Outgoing, Partition, Record
from earlybird.stream.stage.messages import Fence

Worlds = Callable[..., Any]
News = Callable[..., dict[str, Any]]
MakeRecord = Callable[..., Record]

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STATE = ("tracestate", b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
SAMPLED = ("traceparent", f"00-{TRACE}-{PARENT}-01".encode())
UNSAMPLED = ("traceparent", f"00-{TRACE}-{PARENT}-00".encode())


class Traced:
    """A tracer, and the spans that have ended."""

    def __init__(self, sampler: Sampler = DEFAULT_ON) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("test")

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())


@pytest.fixture
def traced() -> Traced:
    return Traced()


def parent_of(sent: Outgoing) -> str:
    """The traceparent that a record carries."""
    (value,) = [value for name, value in sent.headers if name == "traceparent"]
    return value.decode()


def events(span: ReadableSpan) -> list[tuple[str, int, dict[str, Any]]]:
    """Name, us, attributes."""
    return [(event.name, event.timestamp // 1000, dict(event.attributes or {})) for event in span.events]


def run(worlds: Worlds, traced: Traced, *records: Record) -> Any:
    """A world that has done these records."""
    world = worlds(tracer=traced.tracer)
    world.source.append(list(records))
    world.finish()
    return world


def test_a_span_tells_the_life_of_a_text(
    worlds: Worlds, traced: Traced, make_news: News, make_record: MakeRecord
) -> None:
    """Under the raw record's span, from reading to acknowledgement, at the instants of the signal."""
    world = worlds(tracer=traced.tracer)
    world.sink.hold = True
    world.source.append([replace(make_record(0, make_news("0", "Acme wins")), headers=(SAMPLED, STATE))])
    world.turn()
    world.clock.advance(7_000)
    world.model.exit()
    world.clock.advance(2_000)
    world.turn()
    world.clock.advance(3_000)
    assert traced.spans == []
    world.sink.acknowledge()
    world.turn()
    (sent,), (span,) = world.sink.sent, traced.spans
    signal, times = decode(Signal, sent.value or b""), decode(Signal, sent.value or b"").ts
    assert span.parent is not None and span.context is not None
    assert (format_trace_id(span.context.trace_id), format_span_id(span.parent.span_id)) == (TRACE, PARENT)
    assert parent_of(sent) == f"00-{TRACE}-{format_span_id(span.context.span_id)}-01" and STATE in sent.headers
    assert (span.name, span.kind, span.status.status_code) == ("process news.raw", SpanKind.CONSUMER, StatusCode.UNSET)
    exit_ = (
        {"earlybird.exit.layer": signal.exit.layer, "earlybird.exit.reason": signal.exit.reason} if signal.exit else {}
    )
    assert events(span) == [
        ("read", times.consumed_us, {}),
        ("admitted", times.engine_in_us, {}),
        ("exit", times.exited_us, exit_),
        ("produced", times.emitted_us, {"earlybird.outcome": "signal"}),
        ("acknowledged", times.emitted_us + 3_000, {}),
    ]
    assert times.emitted_us == (times.exited_us or 0) + 2_000 == times.consumed_us + 9_000
    assert (span.start_time, span.end_time) == (times.consumed_us * 1000, (times.emitted_us + 3_000) * 1000)
    assert dict(span.attributes or {}) == {
        semconv.MESSAGING_SYSTEM: semconv.MessagingSystemValues.KAFKA.value,
        semconv.MESSAGING_OPERATION_NAME: "process",
        semconv.MESSAGING_OPERATION_TYPE: semconv.MessagingOperationTypeValues.PROCESS.value,
        semconv.MESSAGING_CONSUMER_GROUP_NAME: "earlybird",
        semconv.MESSAGING_DESTINATION_NAME: "news.raw",
        semconv.MESSAGING_DESTINATION_PARTITION_ID: "0",
        semconv.MESSAGING_KAFKA_OFFSET: 0,
        semconv.MESSAGING_KAFKA_MESSAGE_KEY: "wire:0",
        "earlybird.raw": "news.raw/0/0/0",
        "earlybird.item_key": "wire:0",
        "earlybird.signal_id": signal.signal_id,
        "earlybird.action": "new",
        "earlybird.label": signal.label.value if signal.label else None,
        "earlybird.cache_hit": False,
    }


def test_each_element_has_a_span_of_its_own(
    worlds: Worlds, traced: Traced, make_news: News, make_record: MakeRecord
) -> None:
    """All under the record's parent; a duplicate was not in the model itself."""
    pair = [make_news("1", "Acme wins"), make_news("2", "Acme wins")]
    world = run(worlds, traced, replace(make_record(0, json.dumps(pair).encode()), headers=(SAMPLED,)))
    first, second = traced.spans
    assert {span.parent.span_id for span in traced.spans if span.parent} == {int(PARENT, 16)}
    assert {parent_of(sent) for sent in world.sink.sent} == {
        f"00-{TRACE}-{format_span_id(span.context.span_id)}-01" for span in traced.spans if span.context
    }
    assert [(span.attributes or {})["earlybird.raw"] for span in (first, second)] == [
        "news.raw/0/0/0",
        "news.raw/0/0/1",
    ]
    assert (second.attributes or {})["earlybird.cache_hit"] is True
    assert [name for name, _, _ in events(second)] == ["read", "produced", "acknowledged"]


@pytest.mark.parametrize("headers", [(), (("traceparent", b"\xc3\x28\xff"),), (SAMPLED, SAMPLED)])
def test_without_a_usable_parent_a_trace_begins(
    worlds: Worlds, traced: Traced, make_news: News, make_record: MakeRecord, headers: tuple[tuple[str, bytes], ...]
) -> None:
    """As for a record whose producer knows nothing of traces."""
    world = run(worlds, traced, replace(make_record(0, make_news("0", "Acme wins")), headers=headers))
    (span,) = traced.spans
    assert span.parent is None and span.context is not None and format_trace_id(span.context.trace_id) != TRACE
    assert parent_of(world.sink.sent[0]).split("-")[1:3] == [
        format_trace_id(span.context.trace_id),
        format_span_id(span.context.span_id),
    ]


def test_the_parent_decides_whether_a_text_is_sampled(worlds: Worlds, make_news: News, make_record: MakeRecord) -> None:
    """And a ratio where there is none; the decision goes on with the signal."""
    headers: list[tuple[tuple[str, bytes], ...]] = [(UNSAMPLED,), (SAMPLED,), ()]
    records = [
        replace(make_record(number, make_news(str(number), f"Acme wins {number}")), headers=each)
        for number, each in enumerate(headers)
    ]
    traced = Traced(ParentBasedTraceIdRatio(0.0))
    world = run(worlds, traced, *records)
    assert [(span.attributes or {})["earlybird.item_key"] for span in traced.spans] == ["wire:1"]
    parents = [parent_of(sent) for sent in world.sink.sent]
    assert [int(parent[-2:], 16) & 1 for parent in parents] == [0, 1, 0]
    assert [TRACE in parent for parent in parents] == [True, True, False]
    assert Traced(ParentBasedTraceIdRatio(1.0)).tracer.start_span("x").is_recording()


def test_dead_letters_and_retractions_are_traced(
    worlds: Worlds, traced: Traced, make_news: News, make_record: MakeRecord
) -> None:
    """One span for both records of a refused item; what is refused as it should be is no error."""
    records = [
        make_record(0, make_news("0", "Gewinn steigt", lang="de")),
        make_record(1, None, key="wire:9"),
        make_record(2, b"\xff garbage"),
    ]
    world = run(worlds, traced, *[replace(record, headers=(SAMPLED,)) for record in records])
    sent: dict[str, list[str]] = {parent_of(each): [] for each in world.sink.sent}
    for each in world.sink.sent:
        sent[parent_of(each)].append(each.topic)
    assert sorted(sent.values()) == [["raw.dlq"], ["raw.dlq", "signals"], ["signals"]]
    refused, deleted, garbage = traced.spans
    assert {span.status.status_code for span in traced.spans} == {StatusCode.UNSET}
    about = refused.attributes or {}
    assert (about["earlybird.reason"], about["earlybird.action"]) == ("language", "retract")
    assert [(name, attributes) for name, _, attributes in events(refused)] == [
        ("read", {}),
        ("produced", {"earlybird.outcome": "rejection"}),
        ("produced", {"earlybird.outcome": "signal"}),
        ("acknowledged", {}),
    ]
    assert (deleted.attributes or {})["earlybird.action"] == "retract"
    assert "earlybird.label" not in (deleted.attributes or {})
    assert (garbage.attributes or {})["earlybird.reason"] == "malformed"


def test_a_text_that_breaks_the_engine_is_an_error(
    worlds: Worlds, traced: Traced, make_news: News, make_record: MakeRecord
) -> None:
    """To be found by its status."""
    world = worlds(tracer=traced.tracer)
    world.source.append([make_record(0, make_news("0", "Acme wins"))])
    world.turn()
    world.model.fail()
    world.turn(3)
    (span,) = traced.spans
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})[ERROR_TYPE] == "poison"


def test_a_signal_that_is_too_large_ends_one_span(
    worlds: Worlds, traced: Traced, make_news: News, make_record: MakeRecord
) -> None:
    """Whose context its dead letter and retraction carry."""
    symbols = [{"symbol": f"S{number:05d}", "origin": "provider"} for number in range(400)]
    world = worlds(tracer=traced.tracer)
    world.sink.limits["signals"] = 20_000
    world.source.append([make_record(0, make_news("0", "Acme wins", symbols=symbols))])
    world.finish()
    world.turn(3)
    (span,) = traced.spans
    assert [decode(Rejection, sent.value or b"").reason.value for sent in world.sink.sent if sent.topic == "raw.dlq"]
    assert span.context is not None
    assert {parent_of(sent).split("-")[2] for sent in world.sink.sent} == {format_span_id(span.context.span_id)}
    assert (span.attributes or {})["earlybird.reason"] == "too_large"


def test_what_another_worker_computes_again_has_no_span_here(
    worlds: Worlds, traced: Traced, make_news: News, make_record: MakeRecord
) -> None:
    """Its outcome is the other worker's."""
    world = worlds(tracer=traced.tracer)
    world.source.append([make_record(0, make_news("0", "Acme wins"))])
    world.turn()
    world.publisher.inbox.put(Fence({Partition("news.raw", 0): 99}))
    world.finish()
    assert (world.signals, traced.spans) == ([], [])


def test_spans_hold_no_word_of_a_text(worlds: Worlds, traced: Traced, make_news: News, make_record: MakeRecord) -> None:
    """A news licence need not cover a collector."""
    records = [make_record(0, make_news("0", "Zanzibar wins")), make_record(1, b'{"headline": "Zanzibar')]
    run(worlds, traced, *records)
    assert len(traced.spans) == 2
    assert not any("Zanzibar" in span.to_json() for span in traced.spans)
