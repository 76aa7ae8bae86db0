"""Invented raw records at a steady pace, each with a text of its own; arrays, copies and unreadable ones among them."""

import json
import threading
import time
from collections import deque
from typing import Any

from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.ports import Outgoing

NOW_US = 1_770_000_000_000_000
TICK_S = 0.02
PATIENCE_S = 90.0
OPTIONS = {"topic.metadata.refresh.interval.ms": 500}


def item(number: int, words: str = "") -> dict[str, Any]:
    """A news item; every tenth has the text of an earlier one, every hundredth is in a language nobody reads."""
    of = number - 7 if number % 10 == 9 else number
    return {
        "item_key": f"wire:{number}",
        "source": "wire",
        "source_item_id": str(number),
        "item_type": "news",
        "ingested_us": NOW_US + number,
        "headline": f"Acme wins order {of} worth {of % 97} million {words}".rstrip(),
    } | ({"lang": "de"} if number % 100 == 50 else {})


class Feed:
    """Publishes from a thread of its own; every tenth record is an array of three items."""

    def __init__(self, bootstrap_servers: str, topic: str, rate: float) -> None:
        self.acknowledged = 0  # elements that the broker has
        self.rate = rate
        self._topic, self._number = topic, 0
        self._sink = KafkaSink(bootstrap_servers, options=OPTIONS)
        self._extra: deque[str] = deque()
        self._burst = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()

    def burst(self, records: int) -> None:
        """As many more at once."""
        self._burst += records

    def slip_in(self, words: str) -> None:
        """One item with these words."""
        self._extra.append(words)

    def close(self) -> None:
        """Returns when everything that was sent is acknowledged."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        due = 0.0
        while not self._stop.is_set():
            due += self.rate * TICK_S + self._burst
            self._burst = 0
            while due >= 1:
                self._send(self._next(3 if self._number % 10 == 5 else 1))
                due -= 1
            while self._extra:
                self._send([item(self._number, self._extra.popleft())])
                self._number += 1
            self._count()
            self._stop.wait(TICK_S)
        deadline = time.monotonic() + PATIENCE_S
        while self._sink.unacknowledged() and time.monotonic() < deadline:
            self._count(50)
        self._sink.close()

    def _count(self, timeout_ms: int = 0) -> None:
        self.acknowledged += sum(count for count in self._sink.receipts(timeout_ms) if isinstance(count, int))

    def _next(self, count: int) -> list[dict[str, Any]]:
        first, self._number = self._number, self._number + count
        return [item(number) for number in range(first, first + count)]

    def _send(self, items: list[dict[str, Any]]) -> None:
        value = json.dumps(items[0] if len(items) == 1 else items).encode()
        self._sink.send(Outgoing(self._topic, items[0]["item_key"].encode(), value), len(items))
