"""Records that stopped, starved or flooded a worker, on a real Kafka: each has its outcomes, and the next is read."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from earlybird.schemas.codec import decode
from earlybird.schemas.rejection import Rejection
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.adapters.topics import Topic, create_topics
from earlybird.stream.ports import Outgoing, Record

pytestmark = [pytest.mark.broker, pytest.mark.faults]

PADDING = 900_000
PARENT = ("traceparent", b"\xc3\x28\xff")


def hostile(
    make_item: Callable[..., dict[str, Any]],
) -> list[tuple[bytes | None, bytes, tuple[tuple[str, bytes], ...]]]:
    """Key, value and headers of records that each had a way of its own."""
    item = make_item(0)
    tweet = {name: value for name, value in item.items() if name != "headline"} | {"item_type": "tweet", "text": "Acme"}
    refused = [item | {"lang": "de", "body": "x" * 200} for _ in range(500)]
    values: list[Any] = [
        item | {"lang": "de-" + "x" * PADDING},
        item | {"item_type": "x" * PADDING},
        item | {"revision": 2**63},
        tweet | {"metrics": {"x" * PADDING: "a"}},
        [0] * 330_000,
        refused,
    ]
    written = [(b"k", json.dumps(value).encode(), ()) for value in values]
    return [
        *written,
        (b"k" * 300_000, b"\x00" * 600_000, ()),
        (b"k", b"\x00" * 520_000, (("tracestate", b"x" * 400_000),)),
        (b"k", b"[" * PADDING, (PARENT,)),
        (b"k", b'{"headline":' + b"1" * PADDING + b"}", ()),
        (b"k", json.dumps(item).encode(), (PARENT, ("tracestate", b"x" * PADDING))),
    ]


def letters(ground: Any, count: int) -> list[Record]:
    """The dead letters, once there are so many."""
    tail = Tail(ground.bootstrap_servers, [ground.dlq], start="beginning", options={"fetch.wait.max.ms": 10})
    found: list[Record] = []
    while len(found) < count:
        found += tail.poll(100)
    tail.close()
    return found


@pytest.mark.parametrize("largest", [None, 100_000, 2_000])
def test_hostile_records_have_their_outcomes(
    ground: Any, join: Callable[..., Any], make_item: Callable[..., dict[str, Any]], largest: int | None
) -> None:
    """Whatever the dead-letter topic takes; a good record behind them has its signal, and the worker goes on."""
    if largest is not None:
        ground.dlq += f"-{largest}"
        create_topics(ground.bootstrap_servers, [Topic(ground.dlq, 1, 1, {"max.message.bytes": str(largest)})])
    records = hostile(make_item)
    sink = KafkaSink(ground.bootstrap_servers)
    for key, value, headers in records:
        sink.send(Outgoing(ground.news, key, value, headers))
    while sink.unacknowledged():
        sink.receipts(50)
    sink.close()
    worker = join(ground)
    ground.publish([make_item(7)])
    elements = len(records) + 499 + 1
    with ground.watch() as watch:
        audit = watch.until_answered(elements)
        watch.until_read()
        assert audit.balanced and not audit.repeated and len(audit.raw) == elements, audit.report()
        assert audit.actions["new"] == 2
    found = [decode(Rejection, record.value or b"") for record in letters(ground, elements - 2)]
    assert all(letter.original_sha256 for letter in found)
    assert sum(len(letter.original_value() or b"") for letter in found) < 6_000_000
    worker.leave()
