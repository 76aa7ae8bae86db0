"""KafkaSource and KafkaSink on the embedded broker and on a real one."""

import ctypes
import socket
import threading
import time
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from structlog.testing import capture_logs

from earlybird.stream.adapters.kafka import KafkaSource
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.options import OWNED, kafka_options
from earlybird.stream.config.client_options import KafkaEndpoint
from earlybird.stream.errors import RecordTooLarge, SettingsError
from earlybird.stream.ports import Commit, Outgoing, Partition

# By then a new group has given its first member its share; the client shows that only to a call that also takes it.
JOINED_S = 1.5
PATIENCE_S = 150.0
VALUES = [b"%d" % number for number in range(20)]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_new_group_reads_from_the_beginning(broker: Any, protocol: str) -> None:
    """Records that were there before the group are read; librdkafka's default would lose them."""
    topic = broker.topic()
    broker.publish(topic, VALUES)
    member = broker.join(topic, broker.unique("group"), protocol=protocol)
    member.poll_until(lambda: len(member.records) >= len(VALUES))
    assert member.values() == VALUES
    assert set(member.owned.values()) == {None}


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_the_next_member_starts_at_the_commit_and_reads_its_note(broker: Any, protocol: str) -> None:
    """Offset and metadata of a commit come back at the next assignment, and reading starts there."""
    topic, group = broker.topic(), broker.unique("group")
    broker.publish(topic, VALUES)
    member = broker.join(topic, group, protocol=protocol)
    member.poll_until(lambda: len(member.records) >= len(VALUES))
    place = Partition(topic, member.records[0].partition)
    note = "\u4e00" * (4095 - 29)  # the most a broker takes beside the topic's id, counted in UTF-16 units
    assert member.source.commit({place: Commit(12, note, 0)}, wait=True)
    member.source.close()
    successor = broker.join(topic, group, protocol=protocol)
    successor.poll_until(lambda: len(successor.records) >= 8)
    assert successor.owned[place] == Commit(12, note, 0)
    assert successor.values() == VALUES[12:]


def test_a_commit_without_waiting_is_stored_too(broker: Any) -> None:
    """The broker's word comes with a later poll; the same commit offered again is then known to be stored."""
    topic, group = broker.topic(), broker.unique("group")
    broker.publish(topic, VALUES)
    member = broker.join(topic, group)
    member.poll_until(lambda: len(member.records) >= len(VALUES))
    place = Partition(topic, member.records[0].partition)
    commit = {place: Commit(7, "seven", 0)}
    member.poll_until(lambda: member.source.commit(commit, wait=False))
    member.source.close()
    successor = broker.join(topic, group)
    successor.poll_until(lambda: successor.owned)
    assert successor.owned[place] == Commit(7, "seven", 0)


def test_a_commit_inside_revoked_reaches_the_next_member(broker: Any) -> None:
    """What is finished until the last moment is not done twice."""
    topic, group = broker.topic(), broker.unique("group")
    broker.publish(topic, VALUES)
    member = broker.join(topic, group)
    member.poll_until(lambda: len(member.records) >= len(VALUES))
    place = Partition(topic, member.records[0].partition)
    member.at_revocation = lambda: accepted.append(member.source.commit({place: Commit(19, "last", 0)}, wait=True))
    accepted: list[bool] = []
    member.source.close()
    assert accepted == [True]
    successor = broker.join(topic, group)
    successor.poll_until(lambda: successor.owned)
    assert successor.owned[place] == Commit(19, "last", 0)


def test_a_record_arrives_as_it_was_sent(broker: Any) -> None:
    """Key, value, headers, null value, and the create time in microseconds."""
    topic = broker.topic()
    sink = KafkaSink(broker.bootstrap_servers)
    stamp_us = 1_700_000_000_123_000
    sink.send(Outgoing(topic, b"k", None, (("a", b"1"), ("a", b""), ("b", b"\xff")), stamp_us), "receipt")
    assert broker.settle(sink) == ["receipt"]
    sink.close()
    member = broker.join(topic, broker.unique("group"))
    member.poll_until(lambda: member.records)
    record = member.records[0]
    assert (record.key, record.value, record.timestamp_us) == (b"k", None, stamp_us)
    assert record.headers == (("a", b"1"), ("a", b""), ("b", b"\xff"))


def test_a_batch_is_bounded_and_in_offset_order(broker: Any) -> None:
    """Poll gives at most what was asked for, and nothing is skipped between two polls."""
    topic = broker.topic()
    # One batch, which the client fetches as a whole: the first poll finds more than it may give.
    broker.publish(topic, VALUES, **{"batch.num.messages": len(VALUES), "linger.ms": 60_000})
    member = broker.join(topic, broker.unique("group"))
    sizes = []
    while len(member.records) < len(VALUES):
        sizes.append(len(member.poll(limit=7)))
    assert max(sizes) == 7
    assert [record.offset for record in member.records] == list(range(len(VALUES)))


def test_a_paused_partition_rests_and_goes_on_where_it_stopped(broker: Any) -> None:
    """Pause gives nothing, resume gives everything, once."""
    topic = broker.topic()
    broker.publish(topic, VALUES[:10])
    member = broker.join(topic, broker.unique("group"))
    member.poll_until(lambda: member.records)
    partitions = list(member.owned)
    member.source.pause(partitions)
    broker.publish(topic, VALUES[10:])
    before = len(member.records)
    for _ in range(20):
        assert member.poll(20) == []
    assert len(member.records) == before
    member.source.resume(partitions)
    member.poll_until(lambda: len(member.records) >= len(VALUES))
    assert member.values() == VALUES


def test_pausing_at_the_moment_of_assignment_holds(broker: Any) -> None:
    """A listener may pause what it is just being given: not one record comes through."""
    topic = broker.topic()
    broker.publish(topic, VALUES)
    member = broker.join(topic, broker.unique("group"))
    member.at_assignment = lambda: member.source.pause(list(member.owned))
    member.poll_until(lambda: member.owned)
    for _ in range(20):
        assert member.poll(20) == []
    member.source.resume(list(member.owned))
    member.poll_until(lambda: len(member.records) >= len(VALUES))
    assert member.values() == VALUES


def test_a_partition_gone_and_back_within_one_wait_skips_nothing(broker: Any) -> None:
    """Handed over, given back and read from, all in one call: the record that ends the wait is ours."""
    topic, group = broker.topic(partitions=4), broker.unique("group")
    sink = KafkaSink(broker.bootstrap_servers, options=broker.options)
    for number in range(40):
        sink.send(Outgoing(topic, b"key-%d" % number, b"before"))
    broker.settle(sink)
    member = broker.join(topic, group)
    member.poll_until(lambda: len(member.records) == 40)
    key_of = {Partition(record.topic, record.partition): record.key for record in member.records}
    ends = {Partition(record.topic, record.partition): record.offset + 1 for record in member.records}
    assert member.source.commit({place: Commit(end, "") for place, end in ends.items()}, wait=True)
    waiting = threading.Thread(target=member.poll, args=(150_000,))
    waiting.start()
    guest = broker.join(topic, group)
    guest.poll_until(lambda: len(guest.owned) == 2)
    moved = min(guest.owned)
    guest.source.close()
    while waiting.is_alive() and len(member.owned) < 4:
        time.sleep(0.05)
    sink.send(Outgoing(topic, key_of[moved], b"after"))
    broker.settle(sink)
    sink.close()
    waiting.join()
    assert ("revoked", [moved]) in [(what, places[:1]) for what, places in member.events]
    assert member.values()[40:] == [b"after"]


def test_a_member_that_ends_serves_its_group_and_takes_nothing(broker: Any) -> None:
    """While it finishes its work a newcomer gets its share; what is published meanwhile is not read."""
    topic, group = broker.topic(partitions=4), broker.unique("group")
    broker.publish(topic, [b"before"])
    ending = broker.join(topic, group)
    ending.poll_until(lambda: len(ending.records) == 1)
    broker.publish(topic, VALUES)
    newcomer = broker.join(topic, group)

    def attended() -> bool:
        ending.source.serve_group(20)
        return len(newcomer.owned) == 2

    newcomer.poll_until(attended)
    assert len(ending.owned) == 2
    ending.source.close()
    newcomer.poll_until(lambda: len(newcomer.records) == 1 + len(VALUES))  # nothing was committed


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_member_leaves_in_the_middle_of_a_rebalance(broker: Any, protocol: str) -> None:
    """Its share waits in the client; a client that is closing answers no requests about it, or hangs for ever."""
    topic, group = broker.topic(), broker.unique("group")
    broker.publish(topic, VALUES)
    member = broker.join(topic, group, protocol=protocol)
    time.sleep(JOINED_S)
    with capture_logs() as logs:
        member.source.close()
    assert not [line for line in logs if line["event"] == "client.not_left"] and not member.owned
    successor = broker.join(topic, group, protocol=protocol)
    successor.poll_until(lambda: len(successor.records) >= len(VALUES))
    assert successor.values() == VALUES


def test_lag_counts_what_is_still_to_read(broker: Any) -> None:
    """Lag falls to zero as records are handed over."""
    topic = broker.topic()
    broker.publish(topic, VALUES)
    member = broker.join(topic, broker.unique("group"))
    while not member.records:
        member.poll(limit=1)
    assert sum(member.source.lag().values()) == len(VALUES) - 1
    member.poll_until(lambda: len(member.records) >= len(VALUES))
    assert sum(member.source.lag().values()) == 0


def test_lag_grows_while_the_stage_does_not_read(broker: Any) -> None:
    """A partition is paused when the engine cannot follow: just then the lag must be seen."""
    topic = broker.topic()
    broker.publish(topic, VALUES)
    member = broker.join(topic, broker.unique("group"))
    member.poll_until(lambda: len(member.records) >= len(VALUES))
    member.source.pause(list(member.owned))
    broker.publish(topic, VALUES + VALUES)
    member.poll_until(lambda: sum(member.source.lag().values()) == 2 * len(VALUES))
    assert len(member.records) == len(VALUES)


def test_each_record_has_its_receipt_and_keys_keep_their_order(broker: Any) -> None:
    """Receipts come once each, and a key's records lie in the topic as they were sent."""
    topic = broker.topic(partitions=4)
    sink = KafkaSink(broker.bootstrap_servers)
    sent = [(b"key-%d" % (number % 7), b"%d" % number) for number in range(2000)]
    for number, (key, value) in enumerate(sent):
        sink.send(Outgoing(topic, key, value), number)
    assert sorted(broker.settle(sink), key=int) == list(range(len(sent)))
    assert sink.unacknowledged() == 0
    sink.close()
    member = broker.join(topic, broker.unique("group"))
    member.poll_until(lambda: len(member.records) >= len(sent))
    for key in {key for key, _ in sent}:
        assert [r.value for r in member.records if r.key == key] == [v for k, v in sent if k == key]


def test_a_full_buffer_is_back_pressure(broker: Any) -> None:
    """Ten times what the client's buffer holds is sent without an error and without a loss."""
    topic = broker.topic()
    sink = KafkaSink(broker.bootstrap_servers, options={"queue.buffering.max.messages": 10})
    for number in range(100):
        sink.send(Outgoing(topic, b"k", b"v"), number)
    assert broker.settle(sink) == list(range(100))
    sink.close()


def test_the_largest_dead_letter_passes(broker: Any) -> None:
    """512 KiB in base64 inside JSON stays below what client and broker take."""
    topic = broker.topic()
    sink = KafkaSink(broker.bootstrap_servers)
    sink.send(Outgoing(topic, b"k", b"x" * 720_000), "large")
    assert broker.settle(sink) == ["large"]
    sink.close()


def test_a_record_that_is_too_large_is_refused_alone(broker: Any) -> None:
    """It was never under way, and those around it arrive: whoever may leave it out can go on."""
    topic = broker.topic()
    sink = KafkaSink(broker.bootstrap_servers)
    sink.send(Outgoing(topic, b"k", b"before"), "before")
    with pytest.raises(RecordTooLarge, match=r"MSG_SIZE_TOO_LARGE: 1,100,001 bytes do not fit") as refused:
        sink.send(Outgoing(topic, b"k", b"x" * 1_100_000), "large")
    assert refused.value.receipt == "large"
    sink.send(Outgoing(topic, b"k", b"after"), "after")
    assert broker.settle(sink) == ["before", "after"]
    sink.close()


def produce_with_header(bootstrap_servers: str, topic: str, name: bytes) -> None:
    """As a producer in C does it: a header's name is bytes to librdkafka, and a str to confluent_kafka."""
    (path,) = (Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs").glob("librdkafka-*")
    client = ctypes.CDLL(str(path))
    for makes in (client.rd_kafka_conf_new, client.rd_kafka_new, client.rd_kafka_headers_new):
        makes.restype = ctypes.c_void_p
    conf, error = ctypes.c_void_p(client.rd_kafka_conf_new()), ctypes.create_string_buffer(512)
    client.rd_kafka_conf_set(conf, b"bootstrap.servers", bootstrap_servers.encode(), error, 512)
    producer = ctypes.c_void_p(client.rd_kafka_new(0, conf, error, 512))
    headers = ctypes.c_void_p(client.rd_kafka_headers_new(1))
    client.rd_kafka_header_add(headers, name, ctypes.c_ssize_t(len(name)), b"x", ctypes.c_ssize_t(1))
    # Tags of its variadic call: 1 topic, 4 value, 7 flags (2: copy), 10 headers, 0 end.
    call = (1, ctypes.c_char_p(topic.encode()), 4, ctypes.c_char_p(b"v"), ctypes.c_size_t(1), 7, 2, 10, headers, 0)
    assert client.rd_kafka_producev(producer, *call) == 0
    assert client.rd_kafka_flush(producer, 10_000) == 0
    client.rd_kafka_destroy(producer)


def test_a_record_whose_header_has_no_readable_name_is_read(broker: Any) -> None:
    """confluent_kafka raises for all of its headers: the record comes without them, and those around it, too. Many
    come first, since a call that was made often takes another way through the interpreter."""
    topic = broker.topic()
    broker.publish(topic, [b"before"] * 200)
    produce_with_header(broker.bootstrap_servers, topic, b"\xff\xfe")
    broker.publish(topic, [b"after"])
    member = broker.join(topic, broker.unique("group"))
    member.poll_until(lambda: len(member.records) == 202)
    assert {(record.value, record.headers) for record in member.records} == {
        (b"before", ()),
        (b"v", ()),
        (b"after", ()),
    }


def receipts_and_refusals(broker: Any, sink: KafkaSink) -> tuple[list[object], list[RecordTooLarge]]:
    """Everything that the sink says of what it was given."""
    receipts: list[object] = []
    refused: list[RecordTooLarge] = []

    def over() -> bool:
        try:
            receipts.extend(sink.receipts(50))
        except RecordTooLarge as error:
            refused.append(error)
        return not sink.unacknowledged()

    broker.until(over)
    return receipts + sink.receipts(), refused


@pytest.mark.broker
def test_a_batch_that_the_topic_does_not_take_is_sent_record_by_record(real_broker: Any) -> None:
    """A broker refuses a batch as a whole: what would fit alone must neither end the process nor change its place."""
    topic = real_broker.topic(**{"max.message.bytes": "10000"})
    sink = KafkaSink(real_broker.bootstrap_servers, options={"linger.ms": 200, "compression.type": "none"})
    for number in range(40):
        sink.send(Outgoing(topic, b"k", b"%04d" % number + b"x" * 3_000), number)
    receipts, refused = receipts_and_refusals(real_broker, sink)
    assert receipts == list(range(40)) and not refused
    sink.close()
    member = real_broker.join(topic, "g")
    member.poll_until(lambda: len(member.records) >= 40)
    assert [int((record.value or b"")[:4]) for record in member.records] == list(range(40))


@pytest.mark.broker
def test_a_record_that_the_topic_does_not_take_is_given_back_alone(real_broker: Any) -> None:
    """Whatever stands in its batch, those around it arrive in order and the sink goes on."""
    topic = real_broker.topic(**{"max.message.bytes": "10000"})
    sink = KafkaSink(real_broker.bootstrap_servers, options={"linger.ms": 200, "compression.type": "none"})
    for number in range(9):
        sink.send(Outgoing(topic, b"k", b"%d" % number + b"x" * (20_000 if number % 3 == 1 else 10)), number)
    receipts, refused = receipts_and_refusals(real_broker, sink)
    assert receipts == [0, 2, 3, 5, 6, 8]
    assert [(error.receipt, error.size, error.topic) for error in refused] == [(n, 20_002, topic) for n in (1, 4, 7)]
    sink.send(Outgoing(topic, b"k", b"after"), "after")
    assert real_broker.settle(sink) == ["after"]
    sink.close()


@pytest.mark.parametrize("name", sorted(OWNED))
def test_an_owned_option_is_refused_with_its_reason(name: str) -> None:
    """What decides over loss, doubling or placement is not passed through."""
    with pytest.raises(SettingsError, match=OWNED[name]):
        kafka_options({"linger.ms": 1, name: "x"})


@pytest.mark.parametrize("options", [{"no.such.option": 1}, {"fetch.wait.max.ms": "soon"}])
def test_an_option_that_librdkafka_does_not_know_is_a_setting_error(options: dict[str, Any]) -> None:
    """A misspelt option is found at start."""
    with pytest.raises(SettingsError, match=next(iter(options))):
        KafkaSource(KafkaEndpoint("127.0.0.1:1", options), ["t"], "g")
    with pytest.raises(SettingsError, match=next(iter(options))):
        KafkaSink("127.0.0.1:1", options=options)


def test_a_note_too_long_for_any_broker_is_refused_here() -> None:
    """The embedded broker would take it and a real one would refuse it for ever."""
    source = KafkaSource("127.0.0.1:1", ["t"], "g")
    with pytest.raises(ValueError, match="4095 characters, was 4096"):
        source.commit({Partition("t", 0): Commit(1, "x" * 4096)}, wait=True)
    source.close()


def test_nobody_at_the_address_is_waited_for_with_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    """While no broker answers there is one line of ours, and none of librdkafka's on stderr."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
        address = f"127.0.0.1:{held.getsockname()[1]}"
        with capture_logs() as lines:
            source = KafkaSource(KafkaEndpoint(address, {"reconnect.backoff.ms": 50}), ["t"], "g")
            deadline = time.monotonic() + PATIENCE_S
            while not lines:
                assert time.monotonic() < deadline, "nothing was said"
                assert source.poll(50, 10) == []
            for _ in range(20):
                assert source.poll(50, 10) == []
            source.close()
    awaited = [line for line in lines if line["event"] == "broker.awaited"]
    assert len(awaited) == 1 and awaited[0]["brokers"] == address
    assert capfd.readouterr().err == ""
