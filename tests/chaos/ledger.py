"""What became of every raw record, read on while faults are made: by raw position, and when."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from earlybird.stream.adapters.tail import Tail
from earlybird.stream.adapters.topics import create_topics, stage_topics
from earlybird.stream.ports import Position, Record
from whole_audit import Audit


def now_us() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True)
class Topics:
    """The topics of one session, on one broker or cluster."""

    bootstrap_servers: str
    raw: str
    signals: str
    control: str
    dlq: str
    group: str

    @staticmethod
    def create(bootstrap_servers: str, name: str, *, replication: int = 1) -> "Topics":
        topics = Topics(
            bootstrap_servers, *(f"{each}-{name}" for each in ("raw", "signals", "control", "dlq", "group"))
        )
        wanted = stage_topics(
            [topics.raw], topics.signals, topics.control, topics.dlq, partitions=6, replication=replication
        )
        if replication > 1:
            wanted = [replace(topic, config={**topic.config, "min.insync.replicas": "2"}) for topic in wanted]
        create_topics(bootstrap_servers, wanted)
        return topics


class Ledger:
    """The audit of one session as a `read_committed` reader sees it, with the times of the first outcomes."""

    def __init__(self, topics: Topics, since_us: int = 0, *, at_arrival: bool = False) -> None:
        """`since_us`: outcomes before are of a former topic of the same name. `at_arrival`: an outcome counts from when
        it can be read, not from when it was appended; they differ where outcomes are published in transactions."""
        self.topics, self.audit = topics, Audit()
        self.waiting: dict[Position, int] = {}  # elements without an outcome, and when they were published
        self.published: dict[Position, int] = {}
        self.first: dict[Position, int] = {}  # when the first outcome of each element came
        self.order: list[tuple[int, int]] = []  # the same, in the order read: time, raw partition
        self._since_us, self._at_arrival = since_us, at_arrival
        self._add: dict[str, Callable[[Record], None]] = {
            topics.raw: self._raw,
            topics.signals: partial(self._outcome, self.audit.add_signal),
            topics.dlq: partial(self._outcome, self.audit.add_rejection),
        }
        self._tail = Tail(
            topics.bootstrap_servers, list(self._add), start="beginning", options={"fetch.wait.max.ms": 20}
        )

    def read(self) -> int:
        """Take what there is, within 20 ms; how many records it was."""
        records = self._tail.poll(20)
        for record in records:
            self._add[record.topic](record)
        return len(records)

    def older(self, than_us: int) -> list[Position]:
        """Elements that were published by then and have no outcome."""
        return [position for position, at_us in self.waiting.items() if at_us <= than_us]

    def recovered_s(self, since_us: int) -> float:
        """From then until everything that was published by then had its outcome."""
        never = now_us()
        last = max((self.first.get(p, never) for p, at in self.published.items() if at <= since_us), default=since_us)
        return max(0.0, (last - since_us) / 1e6)

    def silence_s(self, since_us: int) -> float:
        """The longest time without an outcome in any raw partition, of those that ended after then."""
        last: dict[int, int] = {}
        longest = 0
        for at_us, partition in sorted(each for each in self.order if each[0] > since_us - 2_000_000):
            if at_us > since_us and partition in last:
                longest = max(longest, at_us - last[partition])
            last[partition] = at_us
        return longest / 1e6

    def close(self) -> None:
        self._tail.close()

    def _raw(self, record: Record) -> None:
        before = len(self.audit.raw)
        self.audit.add_raw(record)
        at_us = record.timestamp_us or 0
        for index in range(len(self.audit.raw) - before):
            position = Position(record.topic, record.partition, record.offset, index)
            self.published[position] = at_us
            if position not in self.first:
                self.waiting[position] = at_us

    def _outcome(self, add: Callable[[Record], None], record: Record) -> None:
        at_us = record.timestamp_us or 0
        if at_us < self._since_us:
            return
        before = len(self.audit.outcomes)
        add(record)
        if len(self.audit.outcomes) == before:
            return
        position = next(reversed(self.audit.outcomes))
        at_us = now_us() if self._at_arrival else at_us
        self.first[position] = at_us
        self.order.append((at_us, position.partition))
        self.waiting.pop(position, None)
