"""The demo's feed through a stage: sends each record when it is due, sees every outcome, checks the odd ones."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from schemas.codec import decode
from schemas.rejection import Rejection
from schemas.signal import RawPosition, Signal
from stream.demo.feed import DemoRecord
from stream.errors import StreamError
from stream.ports import Outgoing, Position, Record, Sink
from stream.tape.rows import Kind, Row, headline

RAW_TOPICS = ("news.raw", "tweets.raw")
_NUMBER = "demo-record"  # header of a raw record: its place in the feed


class Tailing(Protocol):
    """Reads the topics of the stage; see stream.adapters.tail.Tail."""

    def poll(self, timeout_ms: int) -> list[Record]:
        """Records there are."""


class Playback:
    """One run of the feed. Latency of a text is counted from just before it is sent to when its outcome was read back
    from the broker, both by this process's clock."""

    def __init__(self, records: Sequence[DemoRecord], sink: Sink, tail: Tailing) -> None:
        """`records` carry the instants at which they are due."""
        self._records, self._sink, self._tail = records, sink, tail
        self._sent_us: list[int] = []
        self._number: dict[Position, int] = {}
        self._early: list[tuple[Position, Signal | Rejection, int]] = []  # outcomes read before their raw record
        self._outcomes: list[list[Signal | Rejection]] = [[] for _ in records]
        self._open = sum(_expected(record) for record in records)

    @property
    def answered(self) -> int:
        """Records that have all their outcomes."""
        return sum(len(seen) >= _expected(record) for seen, record in zip(self._outcomes, self._records, strict=True))

    def play(self, timeout_s: float, alive: Callable[[], None]) -> Iterator[list[Row]]:
        """Rows as they come, until every record has its outcomes. `alive` raises if the stage has died. Raises
        StreamError when outcomes are missing `timeout_s` after the last record was due."""
        deadline_us = self._records[-1].at_us + round(timeout_s * 1e6)
        while self._open > 0:
            wait_ms = self._send_due()
            rows = [row for record in self._tail.poll(wait_ms) if (row := self._seen(record, _now_us())) is not None]
            rows += self._late()
            yield rows
            self._sink.receipts()
            alive()
            if _now_us() > deadline_us:
                missing = [n for n, seen in enumerate(self._outcomes) if len(seen) < _expected(self._records[n])]
                raise StreamError(
                    f"no outcome within {timeout_s:.0f} s for {len(missing)} of {len(self._records)} records"
                )

    def surprises(self) -> list[str]:
        """Every record whose outcome is not the one that the table of odd items names; a normal item's is a signal."""
        found = []
        for record, seen in zip(self._records, self._outcomes, strict=True):
            name = record.odd.name if record.odd else headline(record.value)
            told = sorted(map(_told, seen))
            if told != _wanted(record):
                found.append(f"{name}: {', '.join(_wanted(record))} expected, was {', '.join(told)}")
        return found

    def _send_due(self) -> int:
        """Sends what is due; milliseconds until the next is."""
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
            number = dict(record.headers).get(_NUMBER)
            assert number is not None, f"{record.topic} holds records of somebody else"
            self._number[Position(record.topic, record.partition, record.offset)] = int(number)
            return None
        value = record.value or b""
        outcome: Signal | Rejection
        outcome = decode(Rejection, value) if record.topic.endswith(".dlq") else decode(Signal, value)
        return self._row(_position(outcome.raw), outcome, now_us)

    def _late(self) -> list[Row]:
        waiting, self._early = self._early, []
        return [row for early in waiting if (row := self._row(*early)) is not None]

    def _row(self, position: Position, outcome: Signal | Rejection, seen_us: int) -> Row | None:
        number = self._number.get(position)
        if number is None:
            self._early.append((position, outcome, seen_us))
            return None
        self._outcomes[number].append(outcome)
        self._open -= 1
        age_us, said = seen_us - self._sent_us[number], headline(self._records[number].value)
        if isinstance(outcome, Rejection):
            return Row.of_rejection(outcome, at_us=seen_us, age_us=age_us, headline=said)
        return Row.of_signal(outcome, at_us=seen_us, age_us=age_us, headline=said)


def _now_us() -> int:
    return time.time_ns() // 1000


def _position(raw: RawPosition) -> Position:
    return Position(raw.topic, raw.partition, raw.offset)


def _expected(record: DemoRecord) -> int:
    return 2 if record.odd is not None and record.odd.also_retracts else 1


def _told(outcome: Signal | Rejection) -> str:
    if isinstance(outcome, Rejection):
        return f"reject ({outcome.reason.value})"
    row = Row.of_signal(outcome, at_us=0, age_us=0)
    names = {Kind.SIGNAL: "signal", Kind.DUPLICATE: "hit", Kind.CORRECTION: "correct", Kind.RETRACTION: "retract"}
    name = names[row.kind]
    if outcome.novelty is not None and outcome.novelty.dup_of is not None:
        name += f" of {outcome.novelty.dup_of}"
    return f"{name}, truncated" if outcome.input is not None and outcome.input.truncated else name


def _wanted(record: DemoRecord) -> list[str]:
    odd = record.odd
    if odd is None:
        return ["signal"]
    wanted = f"reject ({odd.reason.value})" if odd.reason is not None else odd.outcome
    wanted += f" of {odd.of}" if odd.of else ""
    wanted += ", truncated" if odd.truncated else ""
    return sorted([wanted, "retract"] if odd.also_retracts else [wanted])
