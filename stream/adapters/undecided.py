"""Records and offsets that a broker left undecided when it ended a transaction.

A coordinator that ends a transaction while one of its partitions has no leader, as when the only broker starts again,
leaves that partition out (Kafka 4.3.1 logs "likely deleted already"). The records there stay undecided, and the next
transaction of the same transactional id decides them: aborted outcomes would be committed with its own, and offsets
wait until then. So a worker first aborts a transaction of its own in each partition where something is undecided.

Only where its last record is of a transaction that was committed, aborting would lose it: there the next transaction
must decide. A worker knows its own transactions by their marks (the header `committed-us`). One that has just started
takes the outcomes of the first undecided transaction for committed, if the group has committed one of their offsets and
no other transaction has an outcome of it. Offsets that are undecided themselves do not count: they are aborted with the
outcomes, and whoever reads next begins before both. Waiting for them would never end: only this worker can decide them.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from typing import NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from earlybird.stream.adapters.clients import ClientLog, close_consumer, headers_of
from earlybird.stream.adapters.ends import REQUEST_TIMEOUT_S, ask_ends
from earlybird.stream.adapters.group import commit_of, named_topic
from earlybird.stream.adapters.options import client_options
from earlybird.stream.adapters.own_transactions import OwnTransactions
from earlybird.stream.config.client_options import Endpoint
from earlybird.stream.ports import Commit, Partition
from earlybird.stream.timeline.availability import COMMITTED


class Last(Enum):
    """What became of our last commit, which the broker once accepted."""

    DONE = auto()
    OUTCOMES_ALONE = auto()  # they are committed, and their offsets are not
    HIDDEN = auto()  # the offsets are not committed; the outcomes lie behind what others left undecided
    LOST = auto()  # neither is, or a part of the outcomes alone


class State(NamedTuple):
    """Where something is undecided, and what a transaction must reach, to be aborted."""

    aborted: list[TopicPartition]  # where records are undecided, and ours are of no committed transaction
    committed: list[TopicPartition]  # where the last of ours are of a committed one, perhaps before what is undecided
    last: Last
    offsets: list[TopicPartition]  # some that the group may commit
    group: object  # group metadata of no member: the broker then asks for no standing in the group


class _Outcome(NamedTuple):
    offset: int
    mark: bytes  # of its transaction; b"" if it has none
    source: tuple[Partition, int] | None  # raw offset whose outcome this is


class Undecided:
    """Finder of what is undecided in the topics of outcomes. Not thread-safe: publisher thread only."""

    def __init__(
        self,
        endpoint: Endpoint,
        outcomes: Sequence[str],
        raw_topics: Sequence[str],
        group: str,
        finished_above: Callable[[Commit], frozenset[int]],
    ) -> None:
        """Connect at each `state`. The group commits offsets of `raw_topics`; `finished_above` reads a commit's map."""
        self._outcomes, self._raw_topics, self._finished_above = frozenset(outcomes), raw_topics, finished_above
        settings = {"group.id": group, "enable.auto.commit": False, "enable.partition.eof": True}
        self._settings = client_options(endpoint) | settings
        self._settings.pop("group.instance.id", None)
        self._log = ClientLog("undecided", endpoint)

    def state(self, own: OwnTransactions) -> State:
        """Return where something is undecided. Raises KafkaException, then to be repeated."""
        admin = AdminClient(self._settings, logger=self._log)
        known = admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        places = [
            Partition(topic, number) for topic in self._outcomes & known.keys() for number in known[topic].partitions
        ]
        stable, ends = (
            {place: answer.result().offset for place, answer in ask_ends(admin, places, level).items()}
            for level in _LEVELS
        )
        aborted, committed, halved = list[TopicPartition](), list[TopicPartition](), False
        with self._consumer() as reader:
            for place in places:
                if stable[place] < ends[place]:
                    records = self._records(reader, place, stable[place], ends[place])
                    ours = [own.marks[each.mark] for each in records if each.mark in own.marks]
                    last = ours[-1] if ours else self._committed(reader, records)
                    (committed if last else aborted).append(TopicPartition(*place))
                    halved |= last and records[0].mark in own.marks  # the first record there is undecided for certain
            became = self._became(reader, own, stable, halved=halved)
            anchor = [TopicPartition(self._raw_topics[0], 0, 0)]
            return State(aborted, committed, became, anchor, reader.consumer_group_metadata())

    def _became(self, reader: Consumer, own: OwnTransactions, stable: Mapping[Partition, int], *, halved: bool) -> Last:
        if not own.offsets or not self._undone(reader, own.offsets):
            return Last.DONE
        if halved:
            return Last.LOST
        if any(stable.get(place, 0) <= max(offsets) for place, offsets in own.records.items()):
            return Last.HIDDEN
        with self._consumer("read_committed") as strict:
            for place, offsets in own.records.items():
                seen = self._records(strict, place, min(offsets), max(offsets) + 1)
                if not {each.offset for each in seen} >= set(offsets):
                    return Last.LOST
        return Last.OUTCOMES_ALONE

    def _undone(self, reader: Consumer, commits: Sequence[TopicPartition]) -> bool:
        """Return whether the group has less than these commits."""
        stored = reader.committed([TopicPartition(tp.topic, tp.partition) for tp in commits], REQUEST_TIMEOUT_S)
        return any(now.error is None and self._less(now, tp) for now, tp in zip(stored, commits, strict=True))

    def _less(self, stored: TopicPartition, offsets: TopicPartition) -> bool:
        ours, now = (commit_of(tp, named_topic(tp)) for tp in (offsets, stored))
        if now is None or ours is None or now.offset != ours.offset:
            return ours is not None and (now is None or now.offset < ours.offset)
        return not self._finished_above(ours) <= self._finished_above(now)

    @contextmanager
    def _consumer(self, level: str = "read_uncommitted") -> Iterator[Consumer]:
        """Open a member of nothing; by default it sees everything, undecided or not."""
        consumer = Consumer(self._settings | {"isolation.level": level}, logger=self._log)
        try:
            yield consumer
        finally:
            close_consumer(consumer, "undecided")

    def _committed(self, reader: Consumer, records: Sequence[_Outcome]) -> bool:
        """Return whether the first transaction here was committed, by the group's offsets.

        Offsets that have outcomes of another transaction, too, may be that one's, and do not count.
        """
        mark = records[0].mark if records else b""
        first, others = (
            {each.source for each in records if (each.mark == mark) is wanted and each.source}
            for wanted in (True, False)
        )
        sources = first - others
        wanted = [TopicPartition(*partition) for partition in {partition for partition, _ in sources}]
        for tp in reader.committed(wanted, timeout=REQUEST_TIMEOUT_S) if wanted else ():
            commit = None if tp.error is not None else commit_of(tp, named_topic(tp))  # an error: undecided, too
            offsets = {offset for partition, offset in sources if partition == (tp.topic, tp.partition)}
            if commit is not None and (min(offsets) < commit.offset or offsets & self._finished_above(commit)):
                return True
        return False

    def _records(self, reader: Consumer, place: Partition, start: int, end: int) -> list[_Outcome]:
        """Return what this reader sees there."""
        found = list[_Outcome]()
        reader.assign([TopicPartition(*place, start)])
        while (message := reader.poll(REQUEST_TIMEOUT_S)) is not None:
            error, offset = message.error(), message.offset() or 0
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            if error is not None or offset >= end:
                return found
            source = _source(message.value())
            known = source is not None and source[0].topic in self._raw_topics
            found.append(_Outcome(offset, dict(headers_of(message)).get(COMMITTED) or b"", source if known else None))
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


def _source(value: bytes | None) -> tuple[Partition, int] | None:
    """Return the raw offset whose outcome this is, if it is one."""
    try:
        raw = json.loads(value or b"")["raw"]
        return Partition(str(raw["topic"]), int(raw["partition"])), int(raw["offset"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


_LEVELS = (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED)


def names(partitions: Sequence[TopicPartition]) -> list[str]:
    """Return partitions as the log names them."""
    return [f"{tp.topic}/{tp.partition}" for tp in partitions]
