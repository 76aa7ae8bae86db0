"""Playback of the demo's feed: send on time, read the outcomes, check the odd ones."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from earlybird.schemas.codec import decode
from earlybird.schemas.rejection import Rejection
from earlybird.schemas.signal import RawPosition, Signal
from earlybird.stream.demo.items import DemoRecord
from earlybird.stream.demo.promises import broken_promises, expected
from earlybird.stream.errors import StreamError
from earlybird.stream.monitor.tape import Row, headline
from earlybird.stream.ports import Outgoing, Position, Record, Sink

RAW_TOPICS = ("news.raw", "tweets.raw")
_NUMBER = "demo-record"  # header of a raw record with its index in the feed
_OTHERS_KEPT = 10_000  # records of others, and outcomes of records that were not read yet


class Tailing(Protocol):
    """Reader of the stage's topics; see stream.adapters.tail.Tail."""

    def poll(self, timeout_ms: int) -> list[Record]:
        """Return available records."""


class Playback:
    """One run of the feed.

    The latency of a text is counted from just before it is sent to when its outcome was read back from the broker, both
    by the clock of this process. What others publish to the topics meanwhile is shown, too, and judged by nobody.
    """

    def __init__(self, records: Sequence[DemoRecord], sink: Sink, tail: Tailing) -> None:
        """Prepare a run; `records` hold the times at which they are due."""
        self._records, self._sink, self._tail = records, sink, tail
        self._sent_us: list[int] = []
        self._number: dict[Position, int] = {}
        self._others: OrderedDict[Position, tuple[str, int]] = OrderedDict()  # headline and time of a record
        self._other_keys: OrderedDict[str, None] = OrderedDict()  # their items
        self._other_rows: deque[Row] = deque(maxlen=_OTHERS_KEPT)
        self._early: list[tuple[Position, Signal | Rejection, int]] = []  # outcomes read before their raw record
        self._outcomes: list[list[Signal | Rejection]] = [[] for _ in records]

    @property
    def answered(self) -> int:
        """Number of records that have all their outcomes."""
        return sum(len(seen) >= expected(record) for seen, record in zip(self._outcomes, self._records, strict=True))

    def play(self, timeout_s: float, alive: Callable[[], None]) -> Iterator[list[Row]]:
        """Yield rows as they arrive, until every record has its outcomes.

        `alive` raises if the stage has died. Raises StreamError when everything is sent and nothing has arrived for
        `timeout_s`, however slow the machine is.
        """
        heard_us = self._records[-1].at_us
        while self.answered < len(self._records):
            rows = self.turn()
            heard_us = max(heard_us, _now_us()) if rows else heard_us
            yield rows
            alive()
            if _now_us() > heard_us + timeout_s * 1e6:
                missing = [n for n, seen in enumerate(self._outcomes) if len(seen) < expected(self._records[n])]
                raise StreamError(
                    f"no outcome for {timeout_s:.0f} s, {len(missing)} of {len(self._records)} records lack one"
                )

    def turn(self) -> list[Row]:
        """Send what is due and return the feed's rows that have arrived."""
        wait_ms = self._send_due()
        rows = [row for record in self._tail.poll(wait_ms) if (row := self._seen(record, _now_us())) is not None]
        rows += self._late()
        self._sink.receipts()
        return rows

    def send(self, outgoing: Outgoing) -> None:
        """Send a record that is not of the feed."""
        self._sink.send(outgoing)

    def others(self) -> list[Row]:
        """Return the rows of records that are not of the feed, since the last call."""
        rows = list(self._other_rows)
        self._other_rows.clear()
        return rows

    def surprises(self) -> list[str]:
        """Describe every record whose outcomes differ from the expected ones."""
        return broken_promises(self._records, self._outcomes, self._other_keys)

    def _send_due(self) -> int:
        """Send due records and return the milliseconds until the next one."""
        while len(self._sent_us) < len(self._records):
            number, now_us = len(self._sent_us), _now_us()
            record = self._records[number]
            if record.at_us > now_us:
                return max(1, min(20, (record.at_us - now_us) // 1000))
            self._sent_us.append(now_us)
            headers = ((_NUMBER, str(number).encode()),)
            self._sink.send(Outgoing(record.topic, record.key, record.value, headers), receipt=number)
        return 20

    def _seen(self, record: Record, now_us: int) -> Row | None:
        if record.topic in RAW_TOPICS:
            number, position = (
                dict(record.headers).get(_NUMBER),
                Position(record.topic, record.partition, record.offset),
            )
            if number is not None and number.isdigit() and int(number) < len(self._records):
                self._number[position] = int(number)
            else:
                _put(self._others, position, (headline(record.value), record.timestamp_us or now_us))
            return None
        value = record.value or b""
        outcome: Signal | Rejection
        outcome = decode(Rejection, value) if record.topic.endswith(".dlq") else decode(Signal, value)
        return self._row(_position(outcome.raw), outcome, now_us)

    def _late(self) -> list[Row]:
        waiting, self._early = self._early[-_OTHERS_KEPT:], []
        return [row for early in waiting if (row := self._row(*early)) is not None]

    def _row(self, position: Position, outcome: Signal | Rejection, seen_us: int) -> Row | None:
        number = self._number.get(position)
        if number is None and position not in self._others:
            self._early.append((position, outcome, seen_us))
            return None
        if number is None:
            _put(self._other_keys, outcome.item_key or "", None)
            said, since_us = self._others[position]
            self._other_rows.append(_row_of(outcome, seen_us, since_us, said))
            return None
        if any(_name(outcome) == _name(before) for before in self._outcomes[number]):
            return None  # published again after a rebalance, which at-least-once allows
        self._outcomes[number].append(outcome)
        return _row_of(outcome, seen_us, self._sent_us[number], _shown(self._records[number]))


def _row_of(outcome: Signal | Rejection, seen_us: int, since_us: int, said: str) -> Row:
    age_us = max(0, seen_us - since_us)
    if isinstance(outcome, Rejection):
        return Row.of_rejection(outcome, at_us=seen_us, age_us=age_us, headline=said)
    return Row.of_signal(outcome, at_us=seen_us, age_us=age_us, headline=said)


def _put(memory: "OrderedDict[Any, Any]", key: object, value: object) -> None:
    memory[key] = value
    if len(memory) > _OTHERS_KEPT:
        memory.popitem(last=False)


def _now_us() -> int:
    return time.time_ns() // 1000


def _position(raw: RawPosition) -> Position:
    return Position(raw.topic, raw.partition, raw.offset)


def _name(outcome: Signal | Rejection) -> str:
    return outcome.digest if isinstance(outcome, Signal) else outcome.reason.value


def _shown(record: DemoRecord) -> str:
    """Return the record's headline, marked as intended if it is damaged."""
    said, odd = headline(record.value), record.odd
    return f"on purpose, {odd.name.replace('-', ' ')}: {said}" if odd is not None and odd.damaged else said
