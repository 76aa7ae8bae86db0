"""A topic of a vendor's own records on a real Kafka: live, audited, archived and played again."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from earlybird.schemas.codec import decode
from earlybird.schemas.order import standing
from earlybird.schemas.rejection import Rejection
from earlybird.schemas.signal import Signal
from earlybird.stream import cli
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.topic_range import TopicHistory
from earlybird.stream.adapters.topics import Topic, create_topics
from earlybird.stream.ports import Outgoing, Record
from earlybird.stream.timeline.merge import Window

pytestmark = pytest.mark.broker

MINUTE_US = 60_000_000


def alpaca(item_id: int, headline: str, updated: str = "14:30:01", **more: Any) -> dict[str, Any]:
    times = {"created_at": "2026-01-05T14:30:00Z", "updated_at": f"2026-01-05T{updated}Z"}
    return {
        "T": "n",
        "id": item_id,
        "headline": headline,
        "content": "<p>More.</p>",
        "symbols": ["BTCUSD"],
        **times,
        **more,
    }


def benzinga(action: str, title: str, updated: str) -> dict[str, Any]:
    content = {"id": 5, "title": title, "updated": f"Mon, 05 Jan 2026 {updated} -0500", "stocks": [{"name": "BRK/A"}]}
    return {"kind": "news", "data": {"action": action, "id": 5, "content": content}}


FRAMES: list[Any] = [
    [{"T": "success", "msg": "authenticated"}],
    [alpaca(1, "Norvex lifts full-year outlook"), alpaca(2, "Orbane cuts 400 jobs"), alpaca(3, "", content="")],
    b"\x00garbage",
    [alpaca(1, "Norvex cuts full-year outlook", "14:41:00")],
    [alpaca(2, "Orbane ...", "when?")],
    b"\r\n",
]
MESSAGES: list[Any] = [
    benzinga("created", "Calder recalls pumps", "09:30:00"),
    benzinga("updated", "Calder recalls no pumps", "09:40:00"),
    b"pong",
    benzinga("removed", "", "09:50:00"),
]


@pytest.mark.parametrize("stamps", ["LogAppendTime", "CreateTime"])
def test_vendors_records_from_kafka_to_replay(
    kafka: Any,
    start_stage: Callable[..., Any],
    unique: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    stamps: str,
) -> None:
    """Signals, corrections, retractions and dead letters; the audit is clean, and a replay says the same digests."""
    names = {name: unique(name) for name in ("alpaca", "benzinga", "signals", "control", "dlq", "group")}
    raw = [Topic(names[name], 1, 1, {"message.timestamp.type": stamps}) for name in ("alpaca", "benzinga")]
    signals = Topic(names["signals"], 2, 1, {"message.timestamp.type": "LogAppendTime"})
    create_topics(kafka.bootstrap_servers, [*raw, signals, Topic(names["control"]), Topic(names["dlq"])])
    for name, value in {
        "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TOPICS__RAW": json.dumps([{"name": names[name], "format": name} for name in ("alpaca", "benzinga")]),
        **{f"TOPICS__{name.upper()}": names[name] for name in ("signals", "control", "dlq")},
        "GROUP": names["group"],
        "ENGINE__THREADS": "1",
        "LOG__LEVEL": "error",
    }.items():
        monkeypatch.setenv(f"EARLYBIRD_{name}", value)
    sink, began_us = KafkaSink(kafka.bootstrap_servers), time.time_ns() // 1_000
    created_us = began_us - MINUTE_US  # by a producer that read the vendor's socket a minute ago
    for topic, values in ((names["alpaca"], FRAMES), (names["benzinga"], MESSAGES)):
        for value in values:
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
            sink.send(Outgoing(topic, None, content, timestamp_us=created_us))
    while sink.unacknowledged():
        sink.receipts(100)
    sink.close()
    history = TopicHistory(kafka.bootstrap_servers)

    def there(topic: str) -> list[Record]:
        return [s.record for rows in history.read(history.spans([topic], Window()), Window()) for s in rows]

    stage, deadline = start_stage(kafka.bootstrap_servers), time.monotonic() + 150
    while len(there(names["signals"])) < 8 or len(there(names["dlq"])) < 3:
        assert time.monotonic() < deadline, stage.log.read_text()[-2000:]
        time.sleep(0.2)
    assert stage.end() == 0

    said = [decode(Signal, record.value or b"") for record in there(names["signals"])]
    actions = sorted((s.raw.topic == names["benzinga"], s.raw.offset, s.raw.index, str(s.action)) for s in said)
    assert actions == [
        (False, 1, 0, "new"), (False, 1, 1, "new"), (False, 1, 2, "retract"), (False, 3, 0, "new"),
        (False, 4, 0, "retract"), (True, 0, 0, "new"), (True, 1, 0, "correct"), (True, 3, 0, "retract"),
    ]  # fmt: skip
    stands = {key: standing([s for s in said if s.item_key == key]) for key in {s.item_key for s in said}}
    assert {key: signal and signal.raw.offset for key, signal in stands.items()} == {
        "alpaca:1": 3, "alpaca:2": None, "alpaca:3": None, "benzinga:5": None,
    }  # fmt: skip
    appended = stamps == "LogAppendTime"
    assert all((s.ts.ingested_us >= began_us - 2_000) is appended for s in said)
    assert appended or {s.ts.ingested_us for s in said} == {created_us // 1_000 * 1_000}
    assert {symbol.symbol for s in said for symbol in s.symbols} == {"BTC/USD", "BRK.A"}
    letters = [decode(Rejection, record.value or b"") for record in there(names["dlq"])]
    assert sorted((str(letter.reason), letter.raw.offset, letter.raw.index) for letter in letters) == [
        ("bad_time", 4, 0), ("empty_text", 1, 2), ("malformed", 2, 0),
    ]  # fmt: skip

    capsys.readouterr()
    assert cli.main(["audit", "--json"]) == 0
    account = json.loads(capsys.readouterr().out)
    assert (account["records"], account["skipped"], account["missing"], account["strays"]) == (12, 3, 0, 0)

    assert cli.main(["signals", "--raw", "--from", "beginning", "--limit", "11"]) == 0
    shown = capsys.readouterr().out
    assert all(title in shown for title in ("Orbane cuts 400 jobs", "Calder recalls no pumps", "BRK.A")), shown

    archive = tmp_path / "archive"
    assert cli.main(["archive", "--once", str(archive)]) == 0
    for name, more in (("topics", ()), ("files", ("--archive", str(archive)))):
        assert (
            cli.main(["replay", "recompute", "--compare", "--output", str(tmp_path / name), "--run-id", "x", *more])
            == 0
        )
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        assert manifest["comparison"]["equal_digests"] == len(said), manifest["comparison"]
        assert manifest["counts"]["actions"] == {"correct": 1, "new": 4, "retract": 3}
        assert manifest["counts"]["rejections"] == {"bad_time": 1, "empty_text": 1, "malformed": 1}

    capsys.readouterr()
    assert cli.main(["dlq", "redrive", "--reason", "empty_text"]) == 0
    (again,) = there(names["alpaca"])[len(FRAMES) :]
    assert json.loads(again.value or b"") == FRAMES[1][2]  # the article alone, which its parser reads
