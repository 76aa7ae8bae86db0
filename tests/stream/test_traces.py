"""Traces of a stage as a process: from the producer of a raw record over the stage to whoever reads its signal."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from collector import Collector, collecting, values
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.ports import Outgoing

TEXTS = 40
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """The variables name it."""
    with collecting() as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.endpoint)
        yield running


def publish(bootstrap_servers: str, make_news: Callable[..., dict[str, Any]]) -> None:
    """Texts of one trace, and garbage."""
    sink = KafkaSink(bootstrap_servers)
    headers = (("traceparent", f"00-{TRACE}-{PARENT}-01".encode()),)
    for number in range(TEXTS):
        value = json.dumps(make_news(str(number), f"Acme wins order {number}")).encode()
        sink.send(Outgoing("news.raw", b"%d" % number, value if number else b"\x00", headers))
    while sink.unacknowledged():
        sink.receipts(100)
    sink.close()


def outcomes(bootstrap_servers: str) -> dict[str, str]:
    """Span that a record carries -> its topic."""
    found: dict[str, str] = {}
    tail = Tail(bootstrap_servers, ["signals", "raw.dlq"], start="beginning", options={"fetch.wait.max.ms": 5})
    deadline = time.monotonic() + 150
    while len(found) < TEXTS and time.monotonic() < deadline:
        for record in tail.poll(100):
            version, trace, span, _ = (dict(record.headers)["traceparent"] or b"").decode().split("-")
            assert (version, trace) == ("00", TRACE)
            found[span] = record.topic
    tail.close()
    return found


@pytest.mark.parametrize("processes", ["0", "2"])
def test_every_outcome_hangs_under_a_span_that_arrived(
    ground: Any,
    start_stage: Callable[..., Any],
    make_news: Callable[..., dict[str, Any]],
    collector: Collector,
    processes: str,
) -> None:
    """Those of consumer processes, too; the last ones are flushed when the stage ends."""
    publish(ground.bootstrap_servers, make_news)
    stage = start_stage(ground.bootstrap_servers, ENGINE__CONSUMER_PROCESSES=processes)
    carried = outcomes(ground.bootstrap_servers)
    assert stage.end() == 0
    assert Counter(carried.values()) == {"signals": TEXTS - 1, "raw.dlq": 1}
    assert {span.span_id.hex() for span in collector.spans} == carried.keys()
    assert {(span.trace_id.hex(), span.parent_span_id.hex()) for span in collector.spans} == {(TRACE, PARENT)}
    assert len(collector.spans) == TEXTS
    instances = {resource["service.instance.id"] for resource in collector.resources}
    workers = {event["worker"] for event in stage.events("traces.on")}
    assert instances <= workers and len(workers) == max(1, int(processes))
    offsets = {values(span.attributes)["messaging.kafka.offset"] for span in collector.spans}
    assert len(offsets) > 1


def test_a_worker_without_the_variables_makes_no_spans(
    ground: Any, start_stage: Callable[..., Any], make_news: Callable[..., dict[str, Any]]
) -> None:
    """Records carry the producer's context, as it came."""
    publish(ground.bootstrap_servers, make_news)
    stage = start_stage(ground.bootstrap_servers)
    stage.wait_for("partitions.assigned")
    tail = Tail(ground.bootstrap_servers, ["signals"], start="beginning", options={"fetch.wait.max.ms": 5})
    found: list[Any] = []
    deadline = time.monotonic() + 150
    while len(found) < TEXTS - 1 and time.monotonic() < deadline:
        found += tail.poll(100)
    tail.close()
    assert stage.end() == 0 and not stage.events("traces.on")
    assert {dict(record.headers)["traceparent"] for record in found} == {f"00-{TRACE}-{PARENT}-01".encode()}
