"""The strategies' reader where only the client's order of events matters, so that a scripted client will do."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
from confluent_kafka import Message, TopicPartition

from earlybird.stream.adapters import subscriber
from earlybird.stream.adapters.clock import ManualClock
from earlybird.stream.adapters.subscriber import Subscriber
from earlybird.stream.ports import Partition, Record
from earlybird.stream.subscription.buffer import Buffer
from earlybird.stream.subscription.reader import Reader
from earlybird.stream.subscription.selection import SignalFilter
from earlybird.stream.subscription.stage_monitor import HealthTimeouts, StageMonitor

PLACE = TopicPartition("signals", 0)


class Scripted:
    """A consumer whose calls of poll and consume follow a script."""

    def __init__(self, _settings: object) -> None:
        self.polls: list[Callable[[], Message | None]] = []
        self.consumes: list[Callable[[], list[Message]]] = []
        self.callbacks: dict[str, Callable[..., None]] = {}

    def poll(self, _timeout_s: float) -> Message | None:
        return self.polls.pop(0)() if self.polls else None

    def consume(self, _number: int, _timeout_s: float) -> list[Message]:
        return self.consumes.pop(0)() if self.consumes else []

    def subscribe(self, _topics: list[str], **callbacks: Callable[..., None]) -> None:
        self.callbacks = callbacks

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition(place.topic, place.partition, 5) for place in places]

    def assignment(self) -> list[TopicPartition]:
        return [PLACE]

    def __getattr__(self, _name: str) -> Any:
        return lambda *_args, **_named: None

    def lose(self) -> None:
        """The group gives our partition to another member."""
        self.callbacks["on_lost"](self, [PLACE])

    def get(self) -> None:
        """The group gives it to us."""
        self.callbacks["on_assign"](self, [PLACE])


def record(offset: int) -> Message:
    return Message(topic=PLACE.topic, partition=PLACE.partition, offset=offset, value=b"{}", headers=[])


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> tuple[Scripted, Subscriber, list[Any]]:
    """A scripted client, its subscriber in a group, and the partitions that were taken from it."""
    client, gone = Scripted({}), list[Any]()
    monkeypatch.setattr(subscriber, "open_consumer", lambda *_: client)
    monkeypatch.setattr(subscriber, "partitions_of", lambda *_args, **_named: [0])
    reading = Subscriber(
        "localhost:1", ["signals"], start="beginning", group="g", revoked=lambda places, _: gone.extend(places)
    )
    client.get()
    return client, reading, gone


def test_a_record_of_a_partition_that_is_back_within_one_wait_is_kept(reader: Any) -> None:
    """The client delivers it once: who drops it loses it, and the next commit skips it for the whole group."""
    client, reading, gone = reader

    def lost_and_back() -> Message:
        client.lose()
        client.get()
        return record(5)

    client.polls = [lost_and_back]
    client.consumes = [lambda: [record(6)]]
    assert [each.offset for each in reading.poll(50)] == [5, 6]
    assert gone == [Partition("signals", 0)]


def test_a_record_whose_partition_leaves_in_the_same_poll_is_its_next_owners(reader: Any) -> None:
    client, reading, _ = reader

    def lost() -> list[Message]:
        client.lose()
        return []

    client.polls, client.consumes = [lambda: record(5)], [lost]
    assert reading.poll(50) == []


def test_a_record_read_while_idle_goes_with_its_partition(reader: Any) -> None:
    """Handed over later, it would make us commit for a partition that another member owns."""
    client, reading, _ = reader
    client.polls = [lambda: record(5), client.lose]
    reading.keep_alive()
    client.lose()
    assert reading.poll(50) == []


class Group:
    """A subscription in a group that refuses every commit but the last."""

    out_of_range = 0

    def __init__(self, records: list[Record]) -> None:
        self.records = records
        self.ends: dict[Partition, int] = {}
        self.commits: list[tuple[dict[Partition, int], bool]] = []

    def poll(self, _timeout_ms: int) -> list[Record]:
        taken, self.records = self.records, []
        return taken

    def at_end(self) -> set[Partition]:
        return set()

    def commit(self, offsets: Mapping[Partition, int], *, wait: bool = False) -> None:
        self.commits.append((dict(offsets), wait))

    def keep_alive(self) -> None: ...
    def close(self) -> None: ...


def test_the_last_commit_names_all_that_was_handled() -> None:
    """The one before may have been refused in a rebalance, which nobody hears of: it would all come again."""
    group, buffer = Group([Record("signals", 0, 7, None, b"{}")]), Buffer(10, "block")
    reader = Reader(
        lambda _: cast(Any, group),
        None,
        SignalFilter.of(),
        buffer,
        StageMonitor(HealthTimeouts(), 0),
        ManualClock(0),
        group=True,
    )
    reader._buffer_records(reader._open().poll(0))
    assert buffer.take() is not None
    buffer.done()
    reader._commit(wait=False)
    reader.stop(settle=False)
    reader._run()
    assert group.commits == [({Partition("signals", 0): 8}, False), ({Partition("signals", 0): 8}, True)]
