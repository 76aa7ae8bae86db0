"""Invented raw items for the bench, any number of them, every text different."""

from collections.abc import Iterable, Iterator
from itertools import cycle, islice

from earlybird.schemas.raw import Action
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.config.client_options import Endpoint
from earlybird.stream.demo.items import normal_items
from earlybird.stream.ports import Outgoing, Record


def records(topic: str, count: int, partitions: int = 1) -> list[Record]:
    """Return the demo's items repeated as needed, each with its own key and text."""
    return [
        Record(topic, number % partitions, number // partitions, key, value, 1_770_000_000_000_000)
        for number, (key, value) in enumerate(islice(_items(), count))
    ]


def fill(endpoint: Endpoint, topic: str, count: int) -> int:
    """Publish `count` items, wait for all acknowledgements and return their size in bytes."""
    return publish(endpoint, topic, islice(_items(), count))


def publish(endpoint: Endpoint, topic: str, items: Iterable[tuple[bytes | None, bytes | None]]) -> int:
    """Publish these keys and values and return the size of the values in bytes.

    All are acknowledged on return. They are not compressed, because Faust's client cannot read lz4 without a further
    package.
    """
    sink = KafkaSink(endpoint, options={"linger.ms": 5, "compression.type": "none"})
    size = 0
    for key, value in items:
        sink.send(Outgoing(topic, key, value))
        sink.receipts()
        size += len(value or b"")
    while sink.unacknowledged():
        sink.receipts(10)
    sink.close()
    return size


def _items() -> Iterator[tuple[bytes, bytes]]:
    for number, item in enumerate(cycle(normal_items())):
        name = f"{item.source_item_id}-{number}"
        text = "headline" if item.item_type == "news" else "text"
        changed = {
            "source_item_id": name,
            "item_key": f"{item.source}:{name}",
            text: f"{getattr(item, text)} ({number})",
            "action": Action.CREATE,
            "revision": None,
        }
        item = item.model_copy(update=changed)
        yield item.item_key.encode(), item.model_dump_json(exclude_none=True).encode()
