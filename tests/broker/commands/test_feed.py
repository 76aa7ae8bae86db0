"""`earlybird feed` on a real broker: back-dated records, topics that are not there, and every line acknowledged."""

import json
import random
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from earlybird.stream import cli
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.adapters.topic_range import TopicHistory
from earlybird.stream.adapters.topics import Topic, create_topics
from earlybird.stream.ports import Record
from earlybird.stream.timeline.merge import Window
from project import ROOT

pytestmark = pytest.mark.broker

LONG_AGO_US = 1_400_000_000_000_000


@pytest.fixture
def feed(kafka: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Feeds so many items of 2014 to a topic, the last of them with a body; the exit status."""
    monkeypatch.setenv("EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("EARLYBIRD_LOG__LEVEL", "error")

    def run(topic: str, count: int, body: str = "") -> int:
        path = tmp_path / "feed.jsonl"
        with path.open("w", encoding="utf-8") as lines:
            for number in range(count):
                item = {
                    "item_type": "news",
                    "item_key": f"wire:{number}",
                    "source": "wire",
                    "headline": f"Item {number}",
                }
                stamps = {"source_item_id": str(number), "ingested_us": LONG_AGO_US + number * 1_000}
                text = {"body": body} if body and number == count - 1 else {}
                lines.write(json.dumps(item | stamps | text) + "\n")
        return cli.main(["feed", str(path), "--topic", topic])

    return run


def test_history_goes_to_a_topic_that_keeps_it_under_its_recorded_times(
    feed: Callable[[str, int], int], kafka: Any, unique: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every line is there, dated at the instant it became available."""
    topic = unique("history")
    create_topics(kafka.bootstrap_servers, [Topic(topic, 1, 1, {"retention.ms": "-1"})])
    assert feed(topic, 300) == 0
    assert capsys.readouterr().out.startswith("published 300 texts")
    tail, records = Tail(kafka.bootstrap_servers, [topic], start="beginning"), list[Record]()
    ends = tail.ends()
    while not tail.reached(ends):
        records += tail.poll(100)
    tail.close()
    assert [record.timestamp_us for record in records] == [LONG_AGO_US + number * 1_000 for number in range(300)]


def test_a_record_that_the_broker_refuses_is_a_bad_line(
    feed: Callable[..., int], kafka: Any, unique: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Too large for its topic: it is named, and all others are published although its whole batch is refused."""
    topic = unique("narrow")
    create_topics(kafka.bootstrap_servers, [Topic(topic, 1, 1, {"retention.ms": "-1", "max.message.bytes": "100000"})])
    assert feed(topic, 3_000, random.Random(1).randbytes(200_000).hex()) == 1
    out, err = capsys.readouterr()
    assert re.search(r"feed\.jsonl:3000: not delivered: \S+: MSG_SIZE_TOO_LARGE", err), err
    assert out.startswith("published 2,999 texts") and out.endswith("; 1 bad line left out\n")
    spans = TopicHistory(kafka.bootstrap_servers).spans([topic], Window())
    assert sum(span.end for span in spans.values()) == 2_999


def test_history_is_refused_where_it_would_be_deleted_for_its_age(
    feed: Callable[[str, int], int], kafka: Any, unique: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Kafka would take the records and drop them at its next cleaning."""
    topic = unique("short")
    create_topics(kafka.bootstrap_servers, [Topic(topic, 1, 1)])
    assert feed(topic, 3) == 2
    assert "set retention.ms=-1" in capsys.readouterr().err


def test_the_cure_for_our_own_raw_topics_is_a_command_that_works(
    feed: Callable[[str, int], int],
    kafka: Any,
    unique: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The topic exists already when its first history comes."""
    topic = unique("plain")
    monkeypatch.setenv("EARLYBIRD_TOPICS__RAW", json.dumps([{"name": topic}]))
    create_topics(kafka.bootstrap_servers, [Topic(topic, 1, 1)])
    assert feed(topic, 3) == 2
    (cure,) = re.findall(r"earlybird (topics create --keep-raw), or use --timestamps now", capsys.readouterr().err)
    assert cli.main(cure.split()) == 0 and feed(topic, 3) == 0


def test_the_example_works_on_plain_topics(
    kafka: Any, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its items are history, and the broker would delete them by their age."""
    topic = unique("plain")
    create_topics(kafka.bootstrap_servers, [Topic(topic, 1, 1)])
    monkeypatch.setenv("EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.chdir(ROOT / "examples")
    script = Path("foreign_feed.sh").read_text(encoding="utf-8").replace("\\\n", " ")
    _, *words = shlex.split(script, comments=True)
    assert cli.main([*words, "--topic", topic]) == 0
    assert capsys.readouterr().out.startswith("published 3 texts")


def test_a_topic_that_is_not_there_is_named(
    feed: Callable[[str, int], int], unique: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With the command that makes it."""
    topic = unique("none")
    assert feed(topic, 3) == 2
    assert f"there is no topic {topic}: earlybird topics create" in capsys.readouterr().err
