"""Applies a strategy's own latency to a recording."""

import heapq
from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator
from typing import Protocol

from earlybird.stream.errors import StreamError
from earlybird.stream.subscription.recorded_items import Item
from earlybird.stream.timeline.availability import Constant

_KEYS = 100_000


class Latency(Protocol):
    """Latency of a strategy's own path; see stream.timeline.availability for two."""

    def of(self, signal_id: str) -> int:
        """Return this signal's latency in microseconds, 0 or more.

        It depends on the id alone. So a replay can be repeated, and later signals cannot change earlier ones.
        """


class OutOfOrder(StreamError):
    """A recording that is not in the order of availability.

    Read like this, it would show the future.
    """


def in_order(recorded: Iterable[Item]) -> Iterator[Item]:
    """Yield the recording; raise OutOfOrder at the first item available before its predecessor."""
    before_us = 0
    for item in recorded:
        if item.available_us < before_us:
            raise OutOfOrder(f"{item.item_key}: available at {before_us} or later required, was {item.available_us}")
        before_us = item.available_us
        yield item


def delayed(recorded: Iterable[Item], latency: Latency) -> Generator[tuple[Item, int], None, None]:
    """Yield each item with the instant at which this latency delivers it.

    Items come in the order of those instants. A signal never overtakes an earlier one of its item_key, as it cannot in
    Kafka. Memory holds no more than the longest latency holds back, since the order needs nothing from further ahead.
    """
    if isinstance(latency, Constant):
        for item in recorded:
            yield item, item.available_us + latency.us
        return
    waiting: list[tuple[int, int, Item]] = []
    last_of_key: OrderedDict[str, int] = OrderedDict()
    for number, item in enumerate(recorded):
        while waiting and waiting[0][0] <= item.available_us:
            yield _next(waiting)
        delay_us = latency.of(item.signal_id)
        if delay_us < 0:
            raise ValueError(f"latency of {item.signal_id}: 0 or more required, was {delay_us}")
        seen_us = max(item.available_us + delay_us, last_of_key.get(item.item_key, 0))
        last_of_key[item.item_key] = seen_us
        last_of_key.move_to_end(item.item_key)
        if len(last_of_key) > _KEYS:
            last_of_key.popitem(last=False)
        heapq.heappush(waiting, (seen_us, number, item.read()))
    while waiting:
        yield _next(waiting)


def _next(waiting: list[tuple[int, int, Item]]) -> tuple[Item, int]:
    seen_us, _, item = heapq.heappop(waiting)
    return item, seen_us
