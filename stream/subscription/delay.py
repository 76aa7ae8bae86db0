"""A recording as somebody sees it whom each signal reaches later than the broker had it."""

import heapq
from collections import OrderedDict
from collections.abc import Generator, Iterable
from typing import Protocol

from schemas.signal import Signal
from stream.errors import StreamError

_KEYS = 100_000


class Latency(Protocol):
    """What a strategy's own path adds; see stream.history.availability for two."""

    def of(self, signal_id: str) -> int:
        """Microseconds, 0 or more. Depends on nothing but the id: so a replay can be repeated, and what comes later
        cannot change what came before."""


class OutOfOrder(StreamError):
    """A recording that is not in the order of availability: read like this, it would show the future."""


def delayed(recorded: Iterable[tuple[Signal, int]], latency: Latency) -> Generator[tuple[Signal, int], None, None]:
    """The recording as somebody with this latency sees it, in the order in which he does. A signal never overtakes an
    earlier one of its item_key, as it cannot in Kafka. Raises OutOfOrder.

    Holds no more than what the longest latency holds back: the order needs nothing from further ahead.
    """
    waiting: list[tuple[int, int, Signal]] = []
    last_of_key: OrderedDict[str, int] = OrderedDict()
    before_us = 0
    for number, (signal, available_us) in enumerate(recorded):
        if available_us < before_us:
            raise OutOfOrder(f"{signal.item_key}: available at {before_us} or later required, was {available_us}")
        before_us = available_us
        while waiting and waiting[0][0] <= available_us:
            yield _next(waiting)
        delay_us = latency.of(signal.signal_id)
        if delay_us < 0:
            raise ValueError(f"latency of {signal.signal_id}: 0 or more required, was {delay_us}")
        seen_us = max(available_us + delay_us, last_of_key.get(signal.item_key, 0))
        last_of_key[signal.item_key] = seen_us
        last_of_key.move_to_end(signal.item_key)
        if len(last_of_key) > _KEYS:
            last_of_key.popitem(last=False)
        heapq.heappush(waiting, (seen_us, number, signal))
    while waiting:
        yield _next(waiting)


def _next(waiting: list[tuple[int, int, Signal]]) -> tuple[Signal, int]:
    seen_us, _, signal = heapq.heappop(waiting)
    return signal, seen_us
