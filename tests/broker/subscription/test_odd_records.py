"""Signals with odd keys, headers and numbers: live, replayed and archived, nobody loses one, and nothing stops."""

import ctypes
from itertools import islice
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import Producer

from earlybird.schemas.codec import encode
from earlybird.schemas.rejection import Reason
from earlybird.schemas.signal import Signal
from earlybird.stream.adapters.options import client_options
from earlybird.stream.adapters.topic_range import TopicHistory
from earlybird.stream.archive.writer import Archiver, archive_all, starts
from earlybird.stream.client import Signals, TopicRange
from earlybird.stream.parsing.records import Refusal
from earlybird.stream.ports import Position, Record
from earlybird.stream.stage.messages import Entry
from earlybird.stream.stage.outcome import signal_record
from earlybird.stream.strategies.invented import invented
from earlybird.stream.timeline.merge import Window

T0 = 1_700_000_000_000_000
_TOPIC, _VALUE, _FLAGS, _HEADER, _END = 1, 4, 7, 9, 0  # of rd_kafka_vtype_t
_COPY = 2


def headers_of(signal: Signal) -> list[tuple[str, bytes]]:
    entry = Entry(
        Refusal(Position("news.raw", 0, 0), Reason.STALE, "", None), Record("news.raw", 0, 0, None, None), 0, 0
    )
    return list(signal_record(signal, entry, "signals").headers)


def odd_signals() -> list[tuple[bytes | None, Signal, list[tuple[str, Any]]]]:
    """Keys, signals, headers."""
    signals = [invented(str(n), T0 + n, symbols=["NVDA"], revision=2**63 if n % 4 == 3 else 0) for n in range(12)]
    extra: list[list[tuple[str, Any]]] = [
        [],
        [("traceparent", b"\xc3\x28\xff")],
        [("source", b"\xff")],
        [("label", None)],
        [("available-us", b"\xff\xff")],
        [("available-us", b"9" * 400)],
        [("\u00e9", b"\0" * 50_000)],
        [("symbols", b"OTHER")],
    ]
    keys = [None, b"\xff\x00", b""]
    return [
        (
            signal.item_key.encode() if n < 8 else keys[n % 3],
            signal,
            [*extra[n % 8], *headers_of(signal), *extra[n % 8]] if n < 10 else extra[n % 8],
        )
        for n, signal in enumerate(signals)
    ]


def send_header_name(bootstrap_servers: str, topic: str, value: bytes, name: bytes) -> None:
    """One record with a header whose name may be any bytes: Python's client takes text only, librdkafka anything."""
    folder = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs")
    client = ctypes.CDLL(str(next(folder.glob("librdkafka*"))))
    client.rd_kafka_conf_new.restype = client.rd_kafka_new.restype = ctypes.c_void_p
    conf, fault = ctypes.c_void_p(client.rd_kafka_conf_new()), ctypes.create_string_buffer(512)
    client.rd_kafka_conf_set(conf, b"bootstrap.servers", bootstrap_servers.encode(), fault, 512)
    producer = ctypes.c_void_p(client.rd_kafka_new(0, conf, fault, 512))
    number, text, size = ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t
    sent = client.rd_kafka_producev(
        producer, number(_TOPIC), text(topic.encode()), number(_VALUE), text(value), size(len(value)),
        number(_FLAGS), number(_COPY), number(_HEADER), text(name), text(b"x"), ctypes.c_ssize_t(1), number(_END),
    )  # fmt: skip
    assert sent == 0 and client.rd_kafka_flush(producer, 30_000) == 0
    client.rd_kafka_destroy(producer)


@pytest.mark.parametrize("filters", [{}, {"symbols": ["NVDA"], "min_confidence": 0.5}], ids=["all", "filtered"])
def test_live_and_replay_deliver_the_same_signals(broker: Any, tmp_path: Path, filters: dict[str, Any]) -> None:
    """From the topic as they come, from the topic again, and from its archive."""
    topic, sent = broker.topic(), odd_signals()
    producer = Producer(client_options(broker.endpoint))
    for key, signal, headers in sent:
        producer.produce(topic, key=key, value=encode(signal), headers=headers, partition=0)
    assert producer.flush(30) == 0
    send_header_name(
        broker.bootstrap_servers, topic, encode(last := invented("last", T0, symbols=["NVDA"])), b"\xff\xfe"
    )
    expected = [*sorted(signal.signal_id for _, signal, _ in sent), last.signal_id]

    with Signals.live(
        broker.bootstrap_servers, topic=topic, control_topic=None, start="beginning", options=broker.options, **filters
    ) as signals:
        live = [signal.signal_id for signal in islice(signals, len(expected))]
        assert signals.counts.unreadable == signals.counts.filtered == 0
    assert sorted(live) == sorted(expected)
    history = TopicRange(broker.bootstrap_servers, topic, options=broker.options)
    assert sorted(signal.signal_id for signal in Signals.replay(history, **filters)) == sorted(expected)
    there = TopicHistory(broker.endpoint)
    for _ in range(2):  # the second goes on where the first ended
        with Archiver(tmp_path, [topic]) as archiver:
            spans = starts(archiver.next_offsets(), there.spans([topic], Window()))
            archive_all(archiver, there.read(spans, Window()))
    assert sorted(signal.signal_id for signal in Signals.replay(tmp_path, **filters)) == sorted(expected)


def test_a_header_name_that_is_not_text_stops_no_worker(broker: Any) -> None:
    """confluent-kafka raises a SystemError for it, at each attempt to read the record."""
    topic = broker.topic()
    send_header_name(broker.bootstrap_servers, topic, b"odd", b"\xff\xfe")
    member = broker.join(topic, "group")
    member.poll_until(lambda: member.records)
    assert [(record.value, record.headers) for record in member.records] == [(b"odd", ())]
