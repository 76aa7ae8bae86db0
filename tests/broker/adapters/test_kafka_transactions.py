"""Outcomes and offsets in one transaction, on a real Kafka."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from earlybird.stream.adapters.kafka_transactions import KafkaTransactions
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.config.client_options import KafkaEndpoint
from earlybird.stream.errors import RecordTooLarge, SinkError
from earlybird.stream.ports import Commit, Outgoing, Partition
from earlybird.stream.timeline.availability import COMMITTED

pytestmark = pytest.mark.broker

MAP = "eb2" + chr(0x4E00 + 500) * 2_000
Open = Callable[..., KafkaTransactions]


@pytest.fixture
def open_sink(real_broker: Any) -> Iterator[Open]:
    """open_sink(transactional_id, ...) on the broker; all are closed at the end."""
    opened: list[KafkaTransactions] = []

    def make(transactional_id: str, **options: Any) -> KafkaTransactions:
        endpoint = KafkaEndpoint(real_broker.bootstrap_servers, options)
        opened.append(KafkaTransactions(endpoint, transactional_id, interval_ms=0))
        return opened[-1]

    yield make
    for sink in opened:
        sink.close()


def settled(broker: Any, sink: KafkaTransactions) -> list[object]:
    """The receipts of all that was sent, once the transaction is prepared."""
    receipts: list[object] = []

    def done() -> bool:
        receipts.extend(sink.receipts())
        if not sink._later:
            sink.hold()
        return sink.settled

    broker.until(done)
    return receipts + sink.receipts()


def values(broker: Any, topic: str, count: int, *, read_committed: bool = True) -> list[bytes | None]:
    """What such a reader finds, when it has read to the end; `count` at least."""
    tail = Tail(broker.bootstrap_servers, [topic], start="beginning", read_committed=read_committed)
    found: list[bytes | None] = []
    ends = tail.ends()

    def done() -> bool:
        found.extend(record.value for record in tail.poll(50))
        return len(found) >= count and (not read_committed or tail.reached(ends))

    broker.until(done)
    tail.close()
    return found


def test_map_is_there_after_a_commit_and_the_former_one_after_an_abort(real_broker: Any, open_sink: Open) -> None:
    """Offset, map and leader epoch, as the next owner reads them; with them the outcomes, or none."""
    raw, signals, group = real_broker.topic(), real_broker.topic(), real_broker.unique("group")
    real_broker.publish(raw, [b"1", b"2", b"3"])
    member = real_broker.join(raw, group)
    member.poll_until(lambda: len(member.records) == 3)
    (partition,) = member.owned
    sink = open_sink(f"{group}-one")
    sink.send(Outgoing(signals, b"k", b"committed"), "receipt")
    assert settled(real_broker, sink) == ["receipt"]
    assert sink.commit(member.source.offsets_for({partition: Commit(1, MAP, 0)}))
    sink.send(Outgoing(signals, b"k", b"aborted"), "dropped")
    settled(real_broker, sink)
    assert sink.drop(lambda receipt: receipt == "dropped") == []  # its receipt was returned before
    assert sink.transactions_aborted == 1
    member.source.close()
    successor = real_broker.join(raw, group)
    successor.poll_until(lambda: successor.owned)
    assert successor.owned == {partition: Commit(1, MAP, 0)}
    assert values(real_broker, signals, 1) == [b"committed"]
    assert values(real_broker, signals, 2, read_committed=False) == [b"committed", b"aborted"]


def test_outcomes_of_a_former_owner_are_refused_and_produced_again(real_broker: Any, open_sink: Open) -> None:
    """Its offsets name a generation that is over: the transaction is aborted, and nobody sees it twice."""
    raw, signals, group = real_broker.topic(2), real_broker.topic(), real_broker.unique("group")
    member = real_broker.join(raw, group)
    member.poll_until(lambda: len(member.owned) == 2)
    stale = member.source.offsets_for({Partition(raw, 0): Commit(0, "", -1)})
    second = real_broker.join(raw, group)
    second.poll_until(lambda: member.poll() or second.owned)
    sink = open_sink(f"{group}-one")
    sink.send(Outgoing(signals, b"k", b"once"), 1)
    assert settled(real_broker, sink) == [1]
    assert not sink.commit(stale)
    assert settled(real_broker, sink) == []  # produced again; its receipt was returned
    assert sink.commit(([], None))
    assert values(real_broker, signals, 1) == [b"once"]


def test_newer_worker_of_the_same_name_ends_the_older(real_broker: Any, open_sink: Open) -> None:
    """What the older left open is aborted at once, and the older can do nothing more."""
    signals, name = real_broker.topic(), real_broker.unique("worker")
    older = open_sink(name)
    older.send(Outgoing(signals, b"k", b"old"), 1)
    settled(real_broker, older)
    newer = open_sink(name)
    newer.send(Outgoing(signals, b"k", b"new"), 1)
    settled(real_broker, newer)
    assert newer.commit(([], None))
    assert values(real_broker, signals, 1) == [b"new"]
    with pytest.raises(SinkError, match=r"in doubt|ended this process"):
        older.commit(([], None))


def test_record_too_large_for_its_topic_is_found_alone(real_broker: Any, open_sink: Open) -> None:
    """The broker refuses the batch and the transaction with it; all but that record are there once."""
    signals = real_broker.topic(**{"max.message.bytes": "2000"})
    sink = open_sink(real_broker.unique("worker"), **{"linger.ms": 50, "compression.type": "none"})
    for number in range(6):
        value = b"%d" % number if number != 3 else b"x" * 4000
        sink.send(Outgoing(signals, b"k", value), number)
    refused: list[RecordTooLarge] = []
    receipts: list[object] = []

    def done() -> bool:
        try:
            receipts.extend(sink.receipts())
        except RecordTooLarge as error:
            refused.append(error)
            sink.send(Outgoing(signals, b"k", b"instead"), 6)
        return len(receipts) == 6

    real_broker.until(done)
    settled(real_broker, sink)
    assert sink.commit(([], None))
    assert [error.receipt for error in refused] == [3]
    assert sorted(receipts) == [0, 1, 2, 4, 5, 6]  # type: ignore[type-var]
    assert values(real_broker, signals, 6) == [b"0", b"1", b"2", b"4", b"5", b"instead"]


def test_heartbeats_are_seen_while_a_transaction_is_open(real_broker: Any, open_sink: Open) -> None:
    """A worker that hangs in a transaction must not silence the others."""
    signals, control = real_broker.topic(), real_broker.topic()
    sink = open_sink(real_broker.unique("worker"))
    sink.send(Outgoing(signals, b"k", b"open"), 1)
    settled(real_broker, sink)
    sink.send(Outgoing(control, b"k", b"heartbeat"))
    real_broker.until(lambda: sink.receipts() == [] and sink._plain.unacknowledged() == 0)
    assert values(real_broker, control, 1) == [b"heartbeat"]


def test_transaction_that_is_too_old_is_produced_again(real_broker: Any, open_sink: Open) -> None:
    """The broker has ended it, and the worker goes on under a new epoch."""
    signals = real_broker.topic()
    sink = open_sink(real_broker.unique("worker"), **{"transaction.timeout.ms": 1500})
    sink.send(Outgoing(signals, b"k", b"1"), 1)
    assert settled(real_broker, sink) == [1]
    tail = Tail(real_broker.bootstrap_servers, [signals], start="beginning")
    ends = tail.ends()
    real_broker.until(lambda: bool(tail.poll(100)) or tail.reached(ends))  # past its abort
    sink.send(Outgoing(signals, b"k", b"2"), 2)  # for the next transaction
    time.sleep(0.1)
    sink._held = False
    assert settled(real_broker, sink) == [2]
    assert sink.commit(([], None))
    tail.close()
    assert values(real_broker, signals, 2) == [b"1", b"2"]


def test_records_tell_when_their_transaction_is_due(real_broker: Any, open_sink: Open) -> None:
    """Readers of committed records date signals by it."""
    signals = real_broker.topic()
    sink = open_sink(real_broker.unique("worker"))
    before_us = time.time_ns() // 1000
    sink.send(Outgoing(signals, b"k", b"1", (("label", b"positive"),)), 1)
    settled(real_broker, sink)
    assert sink.commit(([], None))
    tail = Tail(real_broker.bootstrap_servers, [signals], start="beginning")
    found: list[Any] = []
    real_broker.until(lambda: found.extend(tail.poll(50)) or bool(found))  # type: ignore[func-returns-value]
    tail.close()
    headers = dict(found[0].headers)
    assert headers["label"] == b"positive"
    assert before_us <= int(headers[COMMITTED]) <= time.time_ns() // 1000
