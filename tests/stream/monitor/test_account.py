"""The account of raw records: what is missing, repeated and said otherwise, in five bytes an element."""

import json
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from earlybird.schemas.codec import encode
from earlybird.schemas.rejection import Reason, Rejection
from earlybird.schemas.signal import Model, RawPosition, Signal, SignalAction, Times
from earlybird.stream import cli
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.topic_range import TopicHistory
from earlybird.stream.commands.audit import _show as show
from earlybird.stream.feeds import registry
from earlybird.stream.feeds.reader import Reader
from earlybird.stream.monitor.account import Account, Elements, report
from earlybird.stream.parsing.records import Limits
from earlybird.stream.ports import Outgoing, Partition, Position, Record
from earlybird.stream.stage.commit_map import encode as encode_map
from earlybird.stream.timeline.merge import Span, Window
from whole_audit import Audit

T0 = 1_770_000_000_000_000
RAW = Partition("news.raw", 0)


def record(topic: str, offset: int, value: bytes) -> Record:
    return Record(topic, 0, offset, b"k", value, T0 + offset)


def raw(offset: int, elements: int) -> Record:
    """A record with so many elements; one alone is no array."""
    return record("news.raw", offset, b"{}" if elements == 1 else json.dumps([{}] * elements).encode())


def rejected(offset: int, index: int = 0, reason: Reason = Reason.MALFORMED, topic: str = "news.raw") -> Record:
    place = RawPosition(topic=topic, partition=0, offset=offset, index=index)
    version: Any = "1.1" if reason is Reason.SHED else "1.0"
    letter = Rejection(schema_version=version, reason=reason, detail="", raw=place, rejected_us=T0)
    return record("raw.dlq", offset, encode(letter))


def account(sizes: list[int], start: int = 0, **options: Any) -> Account:
    """Of a partition with records of these sizes."""
    found = Account({RAW: Span(start, start + len(sizes))}, Reader(Limits()), **options)
    for number, size in enumerate(sizes):
        found.add_raw(raw(start + number, size))
    return found


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), max_size=30))
def test_elements_have_numbers_and_places_that_agree(steps: list[tuple[int, int]]) -> None:
    """Whatever the sizes and the gaps between offsets; what is not there has no number."""
    elements, offset, places = Elements(), 0, []
    for size, step in steps:
        offset += step
        elements.add(offset, size)
        places += [(offset, index) for index in range(size)]
    assert [elements.number(*place) for place in places] == list(range(elements.total))
    assert [elements.place(number) for number in range(elements.total)] == places
    there = {(offset, index) for offset in range(offset + 3) for index in range(6)}
    assert {place for place in there if elements.number(*place) is not None} == set(places)


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=30),
)
def test_it_says_what_the_account_in_memory_says(sizes: list[int], answered: list[tuple[int, int]]) -> None:
    """The slow one keeps every position; figures and places are the same."""
    ours, oracle = account(sizes), Audit()
    for number, size in enumerate(sizes):
        oracle.add_raw(raw(number, size))
    for offset, index in answered:
        ours.add_rejection(rejected(offset, index))
        if offset < len(sizes):  # behind its end nothing counts
            oracle.add_rejection(rejected(offset, index))
    known = oracle.outcomes.keys() & oracle.raw
    assert (ours.elements, ours.missing) == (len(oracle.raw), len(oracle.missing))
    assert ours.repeated == sum(oracle.outcomes[place] - 1 for place in known)
    assert set(ours.stray_positions) == set(oracle.strays)


def test_missing_elements_are_named_in_stretches() -> None:
    """All of them, in a few words."""
    found = account([1, 1, 1, 3, 1])
    for offset, index in ((0, 0), (3, 1)):
        found.add_rejection(rejected(offset, index))
    assert report(found)["missing"] == 5
    assert report(found)["missing_at"] == ["news.raw/0/1/0 to 3/0", "news.raw/0/3/2 to 4/0"]
    assert not found.balanced


def test_a_person_reads_words(capsys: pytest.CaptureFixture[str]) -> None:
    """Dead letters and duplicates as everywhere; no dict, no None, no underscore."""
    found = account([1, 1, 1])
    for offset, reason in enumerate((Reason.MALFORMED, Reason.STALE)):
        found.add_rejection(rejected(offset, reason=reason))
    show(report(found), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert "dead letters   malformed: 1, stale: 1" in lines
    assert "duplicates     0" in lines and "exit layers    0" in lines and "balanced       no" in lines
    assert lines[-1] == "no outcome: news.raw/0/2/0"
    assert not any(char in line for line in lines[:-1] for char in "_{}") and "None" not in "".join(lines)


def test_outcomes_outside_a_chosen_range_are_not_strays() -> None:
    """Before its beginning, behind its end, and of topics that were not asked for; retention's losses are."""
    for bounded, strays in ((True, 0), (False, 1)):
        found = account([1, 1], start=10, bounded=bounded, aside=["tweets.raw"])
        for offset, topic in ((9, "news.raw"), (10, "news.raw"), (11, "news.raw"), (12, "news.raw"), (5, "tweets.raw")):
            found.add_rejection(rejected(offset, topic=topic))
        assert (found.missing, found.strays, found.balanced) == (0, strays, True)


def said(offset: int, digest: str) -> Record:
    """A signal, of the kind with the fewest fields."""
    names = ("id", "sha256", "profile", "policy", "config_hash", "numerics", "dtype", "device", "code_version")
    model: dict[str, Any] = dict.fromkeys(names, "x")
    signal = Signal(
        signal_id="s", item_key="k", revision=0, action=SignalAction.RETRACT, source="wire",
        model=Model(**model), digest=digest,
        raw=RawPosition(topic="news.raw", partition=0, offset=offset),
        ts=Times(ingested_us=T0, consumed_us=T0, emitted_us=T0),
    )  # fmt: skip
    return record("signals", offset, encode(signal))


def test_repeats_that_agree_are_counted_and_those_that_differ_are_named() -> None:
    """At-least-once at work, and a fault. Where the clock had a say, they may differ."""
    found = account([1, 1, 1])
    for offset, digest in ((0, "a" * 64), (0, "a" * 64), (1, "a" * 64), (1, "b" * 64), (2, "a" * 64), (2, "b" * 64)):
        found.add_signal(said(offset, digest))
    found.add_rejection(rejected(2, reason=Reason.SHED))
    assert (found.repeated, found.disagreeing) == (3, [Position("news.raw", 0, 1)])
    assert report(found)["disagreeing_at"] == ["news.raw/0/1/0"]


def test_what_is_not_committed_waits_and_what_is_committed_is_missing() -> None:
    """The offset to read next, and the finished ones above it; an outcome is what it is, committed or not."""
    found = account([1, 1, 2, 1, 1])
    for offset, index in ((0, 0), (2, 1), (4, 0)):
        found.add_rejection(rejected(offset, index))
    assert (found.missing, found.waiting) == (3, None)
    found.note_committed({RAW: (2, {3})})
    assert (found.missing, found.waiting, found.repeated, found.balanced) == (2, 1, 0, False)
    assert report(found)["missing_at"] == ["news.raw/0/1/0", "news.raw/0/3/0"]
    fresh = account([1, 2])
    fresh.note_committed({RAW: (0, ())})
    assert (report(fresh)["missing"], report(fresh)["waiting"], fresh.balanced) == (0, 3, True)


def test_the_groups_commit_and_its_map_say_what_waits(
    ground: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of five records without an outcome the first and, by the map, the third are committed. Another group: none."""
    monkeypatch.setenv("EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS", ground.bootstrap_servers)
    sink = KafkaSink(ground.bootstrap_servers)
    for offset in range(5):
        sink.send(Outgoing("news.raw", b"k", b"{}"), offset)
    while sink.unacknowledged():
        sink.receipts(50)
    (number,) = (place.number for place, span in spans(ground).items() if span.end)
    commit(ground, number, 1, encode_map(1, [2]) or "")

    def audit() -> tuple[int, dict[str, Any]]:
        status = cli.main(["audit", "--json"])
        return status, json.loads(capsys.readouterr().out)

    status, told = audit()
    assert (status, told["missing"], told["waiting"], told["balanced"]) == (1, 2, 3, False)
    assert told["missing_at"] == [f"news.raw/{number}/0/0", f"news.raw/{number}/2/0"]
    monkeypatch.setenv("EARLYBIRD_GROUP", "other")
    status, told = audit()
    assert (status, told["missing"], told["waiting"], told["balanced"]) == (0, 0, 5, True)


def spans(ground: Any) -> dict[Partition, Span]:
    return TopicHistory(ground.bootstrap_servers).spans(["news.raw"], Window())


def commit(ground: Any, number: int, offset: int, metadata: str = "") -> None:
    """What a worker of the default group commits."""
    client = Consumer({"bootstrap.servers": ground.bootstrap_servers, "group.id": "earlybird"})
    client.commit(offsets=[TopicPartition("news.raw", number, offset, metadata)], asynchronous=False)
    client.close()


def test_elements_that_concern_no_item_need_no_outcome() -> None:
    """They are counted, keep their places, and are no repeats of what was answered."""
    read = Reader(Limits(), {"news.raw": registry.parser("alpaca")})
    found = Account({RAW: Span(0, 2)}, read)
    control: dict[str, Any] = {"T": "success"}
    for offset, value in enumerate(([control, {"T": "n", "id": 1}, control], [control])):
        found.add_raw(record("news.raw", offset, json.dumps(value).encode()))
    assert (report(found)["records"], report(found)["skipped"], found.missing, found.balanced) == (4, 3, 1, False)
    assert list(found.missing_stretches()) == ["news.raw/0/0/1"]
    found.add_rejection(rejected(0, 1))
    assert (found.missing, found.repeated, found.balanced) == (0, 0, True)
    found.add_rejection(rejected(0, 1))
    assert found.repeated == 1


def test_records_are_read_as_the_stage_reads_them(
    ground: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under max_record_bytes a large array is one dead letter, and nothing is missing. --topic and bounds narrow it."""
    monkeypatch.setenv("EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS", ground.bootstrap_servers)
    sink, value = KafkaSink(ground.bootstrap_servers), json.dumps([{"pad": "x" * 300}] * 7).encode()
    sink.send(Outgoing("news.raw", b"k", value, timestamp_us=T0), 1)
    sink.send(Outgoing("news.raw", b"k", b"{}", timestamp_us=T0 + 60_000_000), 1)
    while sink.unacknowledged():
        sink.receipts(50)
    for place, span in spans(ground).items():
        commit(ground, place.number, span.end)

    def audit(*words: str) -> tuple[int, dict[str, Any]]:
        status = cli.main(["audit", "--json", *words])
        return status, json.loads(capsys.readouterr().out)

    assert audit()[1]["records"] == 8
    monkeypatch.setenv("EARLYBIRD_LIMITS__MAX_RECORD_BYTES", "1500")
    assert (audit()[0], audit()[1]["records"], audit()[1]["missing"]) == (1, 2, 2)
    assert audit("--to", str(T0 + 1_000_000))[1]["records"] == 1
    assert audit("--from", str(T0 + 1_000_000))[1]["records"] == 1
    assert audit("--topic", "tweets.raw")[1]["records"] == 0
    assert cli.main(["audit", "--topic", "other"]) == 2
    assert "--topic: one of news.raw, tweets.raw" in capsys.readouterr().err
