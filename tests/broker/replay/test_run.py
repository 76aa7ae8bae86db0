"""Ranges of topics, replay and archive on a broker: right records, right times, and nothing live is touched."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from archived_signals import read_signals
from earlybird.schemas.codec import encode
from earlybird.schemas.control import CONTROL, ReplayComplete
from earlybird.stream import cli
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.topic_range import TopicHistory
from earlybird.stream.adapters.topics import Topic, admin_client, create_topics
from earlybird.stream.archive.reader import ArchiveHistory
from earlybird.stream.archive.writer import Archiver
from earlybird.stream.client import Signals, TopicRange
from earlybird.stream.errors import SourceError
from earlybird.stream.ports import Outgoing, Partition, Record
from earlybird.stream.strategies.invented import invented
from earlybird.stream.timeline.availability import StampedRecord
from earlybird.stream.timeline.merge import Span, Window
from project import ROOT

pytest.importorskip("pyarrow")

BEGIN_US = 1_770_000_000_000_000
MS_US = 1_000


def dated(broker: Any, topic: str, times_us: list[int]) -> None:
    """Records of one key, so of one partition, with these create times; the n-th has the value n."""
    sink = KafkaSink(broker.bootstrap_servers, options=broker.options)
    for number, at_us in enumerate(times_us):
        sink.send(Outgoing(topic, b"k", str(number).encode(), timestamp_us=at_us))
    broker.settle(sink)
    sink.close()


def found(broker: Any, topic: str, window: Window) -> list[int]:
    """What a read of this window brings, by its number."""
    history = TopicHistory(broker.endpoint)
    return [int(s.record.value or b"") for rows in history.read(history.spans([topic], window), window) for s in rows]


def test_range_by_time_reads_what_it_needs(broker: Any) -> None:
    """From offsets of the broker, or by bisection where it knows none: everything inside, not all that is outside."""
    topic = broker.topic()
    dated(broker, topic, [BEGIN_US + number * MS_US for number in range(400)])
    window = Window(BEGIN_US + 100 * MS_US, BEGIN_US + 200 * MS_US, slack_us=10 * MS_US)
    assert found(broker, topic, window) == list(range(90, 210))
    assert found(broker, topic, Window()) == list(range(400))
    assert found(broker, topic, Window(start_us=BEGIN_US + 900 * MS_US, slack_us=0)) == []


def test_range_is_whole_when_times_are_out_of_order(broker: Any) -> None:
    """Within the slack nothing that belongs to the window is missed."""
    topic = broker.topic()
    times = [BEGIN_US + (number + (25 if number % 2 else -25)) * MS_US for number in range(400)]
    dated(broker, topic, times)
    window = Window(BEGIN_US + 100 * MS_US, BEGIN_US + 200 * MS_US, slack_us=60 * MS_US)
    inside = {number for number, at_us in enumerate(times) if window.holds(at_us)}
    assert inside <= set(found(broker, topic, window))


def test_end_is_frozen_and_offsets_are_exact(broker: Any) -> None:
    """What comes after the plan is no part of it; start and end offsets are kept."""
    topic = broker.topic()
    dated(broker, topic, [BEGIN_US] * 50)
    history = TopicHistory(broker.endpoint)
    spans = {place: span for place, span in history.spans([topic], Window()).items() if span.end > span.start}
    dated(broker, topic, [BEGIN_US] * 50)
    assert sum(len(list(rows)) for rows in history.read(spans, Window())) == 50
    (place,) = spans
    narrow = history.spans([topic], Window(first={place: 10}, last={None: 13}))[place]
    assert narrow == Span(10, 13)
    (rows,) = history.read({place: narrow}, Window())
    assert [stamped.record.offset for stamped in rows] == [10, 11, 12]


@pytest.mark.broker
def test_open_transaction_is_not_waited_for(real_broker: Any) -> None:
    """The range ends before what is not committed, and skips what was aborted."""
    topic = real_broker.topic()
    producer = Producer(
        {"bootstrap.servers": real_broker.bootstrap_servers, "transactional.id": real_broker.unique("replay")}
    )
    producer.init_transactions()
    for values, end in ((["0", "1"], "commit"), (["7", "8"], "abort"), (["2"], "commit"), (["9"], "open")):
        producer.begin_transaction()
        for value in values:
            producer.produce(topic, value, "k")
        producer.flush()
        if end != "open":
            (producer.commit_transaction if end == "commit" else producer.abort_transaction)()
    assert found(real_broker, topic, Window()) == [0, 1, 2]
    assert found(real_broker, topic, Window(last={None: 3})) == [0, 1]  # the last offset of the range is no record
    producer.abort_transaction()


@pytest.fixture
def live(kafka: Any, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Topics and a group of one's own, named in the environment."""
    names = {name: unique(name) for name in ("raw", "signals", "control", "dlq", "group")}
    create_topics(
        kafka.bootstrap_servers,
        [
            Topic(names["raw"], 2, 1, {"retention.ms": "-1"}),
            Topic(names["signals"], 2, 1, {"message.timestamp.type": "LogAppendTime"}),
            Topic(names["control"]),
            Topic(names["dlq"]),
        ],
    )
    for name, value in {
        "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TOPICS__RAW": json.dumps([{"name": names["raw"]}]),
        "TOPICS__SIGNALS": names["signals"],
        "TOPICS__CONTROL": names["control"],
        "TOPICS__DLQ": names["dlq"],
        "GROUP": names["group"],
        "ENGINE__THREADS": "1",
        "LOG__LEVEL": "error",
    }.items():
        monkeypatch.setenv(f"EARLYBIRD_{name}", value)
    return names


def publish(bootstrap_servers: str, topic: str, count: int) -> None:
    sink = KafkaSink(bootstrap_servers)
    for number in range(count):
        item: dict[str, Any] = {
            "item_key": f"wire:{number}",
            "source": "wire",
            "source_item_id": str(number),
            "item_type": "news",
            "ingested_us": BEGIN_US + number * 1_000_000,
            "headline": f"Acme wins order number {number % 50} worth {number % 50} million",
        }
        sink.send(
            Outgoing(topic, item["item_key"].encode(), json.dumps(item).encode(), timestamp_us=item["ingested_us"])
        )
    while sink.unacknowledged():
        sink.receipts(100)
    sink.close()


def state(kafka: Any, live: dict[str, str]) -> tuple[dict[str, int], set[str], list[tuple[int, str]]]:
    """The end of every live topic, all groups there are, and what the live one has committed."""
    history = TopicHistory(kafka.bootstrap_servers)
    names = [live[name] for name in ("raw", "signals", "control", "dlq")]
    ends = {f"{p.topic}/{p.number}": span.end for p, span in history.spans(names, Window()).items()}
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": live["group"]})
    places = consumer.committed([TopicPartition(live["raw"], number) for number in range(2)], timeout=10)
    consumer.close()
    admin = admin_client(kafka.bootstrap_servers)  # must outlive its answer
    groups = {each.group_id for each in admin.list_consumer_groups().result().valid}
    return ends, groups, [(place.offset, place.metadata or "") for place in places]


@pytest.mark.broker
def test_feed_run_archive_replay(
    kafka: Any, live: dict[str, str], start_stage: Callable[..., Any], tmp_path: Path, unique: Callable[[str], str]
) -> None:
    """The whole way on a real broker. Recomputed digests equal the live ones, from topics and from the archive, and the
    live group and topics are as they were."""
    count = 300
    publish(kafka.bootstrap_servers, live["raw"], count)
    stage = start_stage(kafka.bootstrap_servers)
    history = TopicHistory(kafka.bootstrap_servers)
    deadline = time.monotonic() + 150
    while sum(span.end for span in history.spans([live["signals"]], Window()).values()) < count:
        assert time.monotonic() < deadline, stage.log.read_text()[-2000:]
        time.sleep(0.2)
    assert stage.end() == 0
    before = state(kafka, live)
    archive, topic = tmp_path / "archive", unique("again")
    assert cli.main(["archive", "--once", str(archive)]) == 0
    ran = ["replay", "recompute", "--compare", "--output"]
    assert cli.main([*ran, str(tmp_path / "topics"), "--run-id", "x"]) == 0
    assert cli.main([*ran, str(tmp_path / "files"), "--run-id", "x", "--archive", str(archive)]) == 0
    assert cli.main(["replay", "--output", str(tmp_path / "recorded"), "--format", "topic", "--topic", topic]) == 0
    assert state(kafka, live) == before
    topics, files = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("topics", "files"))
    assert topics["comparison"]["equal_digests"] == files["comparison"]["equal_digests"] == count
    assert topics["counts"] == files["counts"]
    assert list(read_signals(tmp_path / "topics" / "signals.parquet")) == list(
        read_signals(tmp_path / "files" / "signals.parquet")
    )
    again = [s.record for rows in history.read(history.spans([topic], Window()), Window()) for s in rows]
    assert len(again) == count and all((dict(r.headers)["run"] or b"").startswith(b"replay-") for r in again)
    assert [r.timestamp_us for r in again] == sorted(r.timestamp_us or 0 for r in again)
    assert len(list(read_signals(archive))) == count


@pytest.mark.broker
def test_odd_texts_are_archived_and_played_again(
    kafka: Any, live: dict[str, str], start_stage: Callable[..., Any], tmp_path: Path
) -> None:
    """From raw records with a revision beyond 64 bits and headers of any bytes, by the stage, to files and frames."""
    pytest.importorskip("pandas", reason="NO PANDAS: pip install -e '.[strategies]'")
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for number, revision in enumerate((0, 2**63, 10**30, 2**63 - 1)):
        item = {
            "item_key": f"wire:{number}", "source": "wire", "source_item_id": str(number), "item_type": "news",
            "revision": revision, "ingested_us": BEGIN_US + number, "headline": f"Acme wins order {number}",
        }  # fmt: skip
        headers: list[tuple[str, str | bytes | None]] = [
            ("traceparent", b"\xc3\x28\xff"),
            ("tracestate", None),
            ("x", b"\xff"),
        ]
        producer.produce(live["raw"], json.dumps(item), f"wire:{number}", headers=headers)
    assert producer.flush(30) == 0
    stage = start_stage(kafka.bootstrap_servers)
    history = TopicHistory(kafka.bootstrap_servers)
    deadline = time.monotonic() + 150
    while sum(span.end for span in history.spans([live["signals"]], Window()).values()) < 4:
        assert time.monotonic() < deadline, stage.log.read_text()[-2000:]
        time.sleep(0.2)
    assert stage.end() == 0
    for _ in range(2):
        assert cli.main(["archive", "--once", str(tmp_path)]) == 0
    assert cli.main(["archive", "--compact", str(tmp_path)]) == 0
    revisions = sorted(signal.revision for signal in Signals.replay(tmp_path))
    # A counter beyond 64 bits is refused, and what is refused takes its item back.
    assert revisions == [0, 0, 0, 2**63 - 1]
    topic = Signals.replay(TopicRange(kafka.bootstrap_servers, live["signals"]))
    assert sorted(signal.revision for signal in topic) == revisions
    frame = Signals.replay(tmp_path).to_pandas(10)
    assert sorted(frame["revision"]) == revisions and len(frame) == 4


@pytest.mark.broker
def test_what_retention_has_deleted_of_a_range_is_said(
    kafka: Any, live: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """600 of 1,200 signals are no replay of all: strict refuses, the client likewise; what begins later is whole."""
    sink, topic = KafkaSink(kafka.bootstrap_servers), live["signals"]
    for number in range(1_200):
        signal = invented(str(number), BEGIN_US + number)
        model = signal.model.model_copy(update={"knowledge_until_us": BEGIN_US - 1})
        sink.send(Outgoing(topic, b"one partition", encode(signal.model_copy(update={"model": model}))))
    while sink.unacknowledged():
        sink.receipts(100)
    sink.close()
    history = TopicHistory(kafka.bootstrap_servers)
    place = next(part for part, span in history.spans([topic], Window()).items() if span.end)
    admin = admin_client(kafka.bootstrap_servers)
    for deleted in admin.delete_records([TopicPartition(*place, 600)]).values():
        deleted.result()
    first_us = history.cut([topic], Window())[place].at_us
    assert first_us is not None

    def replay(name: str, *arguments: str) -> int:
        return cli.main(["replay", "--output", str(tmp_path / name), *arguments])

    assert replay("loose") == 0 and f"CUT: {topic}/{place.number} begins at offset 600" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "loose" / "manifest.json").read_text())
    assert manifest["cut"] == {f"{topic}/{place.number}": [600, first_us]} and manifest["counts"]["signals"] == 600
    assert replay("strict", "--strict") == 2 and "begins at offset 600" in capsys.readouterr().err
    assert replay("whole", "--strict", "--from", str(first_us)) == 0
    recorded = TopicRange(kafka.bootstrap_servers, topic)
    with pytest.raises(SourceError, match="begins at offset 600"):
        Signals.replay(recorded, strict=True)
    assert len(list(Signals.replay(recorded, start=first_us, strict=True))) == 600


@pytest.mark.broker
def test_a_strategy_reads_a_replay_to_its_end(
    kafka: Any, live: dict[str, str], tmp_path: Path, unique: Callable[[str], str]
) -> None:
    """The same loop over a replay's topic: every signal at its own instant, to the microsecond, and then it ends; what
    the control topic says of the run is what the manifest says."""
    topic = unique("again")
    create_topics(kafka.bootstrap_servers, [Topic(topic, 1, 1, {"retention.ms": "-1"}), Topic(f"{topic}.control")])
    recorded = [(invented(str(n), BEGIN_US + n), BEGIN_US + n * 1_001) for n in range(50)]
    with Archiver(tmp_path / "archive", [live["signals"]]) as archiver:
        for offset, (each, at_us) in enumerate(recorded):
            record = Record(live["signals"], 0, offset, each.item_key.encode(), encode(each), at_us)
            archiver.add(StampedRecord(record, True))
    to = ["--output", str(tmp_path / "out"), "--format", "topic", "--topic", topic, "--run-id", "again"]
    about: dict[str, Any] = {"topic": topic, "control_topic": f"{topic}.control", "max_age_us": None}
    with Signals.live(kafka.bootstrap_servers, start="beginning", **about) as signals:
        assert cli.main(["replay", "--archive", str(tmp_path / "archive"), *to]) == 0
        played = list(signals)
    assert [(signal.item_key, signal.available_us) for signal in played] == [(s.item_key, at) for s, at in recorded]
    assert {signal.run_id for signal in played} == {"again"}
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (said,) = [
        CONTROL.validate_json(stamped.record.value or b"")
        for rows in TopicHistory(kafka.bootstrap_servers).read({Partition(f"{topic}.control", 0): Span(0, 1)}, Window())
        for stamped in rows
    ]
    assert isinstance(said, ReplayComplete) and [end.offset for end in said.ends] == [50]
    assert (said.run_id, said.signals, said.content_sha256) == ("again", 50, manifest["counts"]["content_sha256"])


@pytest.mark.broker
@pytest.mark.faults
def test_an_archive_that_is_killed_goes_on_where_its_files_end(
    kafka: Any, live: dict[str, str], tmp_path: Path
) -> None:
    """Killed again and again while records come, then run to the end: each record once, none missing."""
    command = [
        sys.executable,
        "-m",
        "earlybird.stream.cli",
        "archive",
        str(tmp_path),
        "--topic",
        live["raw"],
        "--flush",
        "0.05",
    ]
    published = 0
    for _ in range(3):
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
            files = len(list(tmp_path.glob("*/date=*/T*.parquet")))
            deadline = time.monotonic() + 150
            while len(list(tmp_path.glob("*/date=*/T*.parquet"))) < files + 2:
                assert time.monotonic() < deadline and process.poll() is None
                publish(kafka.bootstrap_servers, live["raw"], 50)
                published += 50
            os.kill(process.pid, signal.SIGKILL)
    assert cli.main([*command[3:5], "--topic", live["raw"], "--once"]) == 0
    archive, places = ArchiveHistory(tmp_path), list[tuple[int, int]]()
    spans = archive.spans([live["raw"]], Window())
    for rows in archive.read(spans, Window()):
        places += [(stamped.record.partition, stamped.record.offset) for stamped in rows]
    assert len(places) == published and sorted(places) == [
        (place.number, offset) for place, span in spans.items() for offset in range(span.end)
    ]


@pytest.mark.broker
@pytest.mark.faults
def test_replay_to_a_topic_that_is_killed_goes_on_where_it_was(
    kafka: Any, live: dict[str, str], tmp_path: Path, unique: Callable[[str], str]
) -> None:
    """Killed while it publishes and resumed: every signal once, in the order of an unbroken run."""
    publish(kafka.bootstrap_servers, live["raw"], 400)
    topic = unique("again")
    command = [
        sys.executable,
        "-m",
        "earlybird.stream.cli",
        "replay",
        "recompute",
        "--slack",
        "1s",
        "--output",
        str(tmp_path),
    ]
    command += ["--format", "topic", "--topic", topic]
    history = TopicHistory(kafka.bootstrap_servers)
    process = subprocess.Popen([*command, "--speed", "20"], cwd=ROOT, stderr=subprocess.DEVNULL)

    def published() -> list[Any]:
        try:
            spans = history.spans([topic], Window())
        except Exception:
            return []
        return [s.record for rows in history.read(spans, Window()) for s in rows]

    deadline = time.monotonic() + 150
    while len(published()) < 20:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    seen = len(published())
    assert 20 <= seen < 400
    assert subprocess.run([*command, "--resume"], cwd=ROOT, stderr=subprocess.DEVNULL, check=False).returncode == 0
    keys = [json.loads(record.value)["item_key"] for record in published()]
    assert keys == [f"wire:{number}" for number in range(400)]
