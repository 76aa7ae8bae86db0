"""The service as a process on the embedded broker: what an operator does to it, and what goes wrong around it."""

import json
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stream.adapters.embedded import EmbeddedBroker, EmbeddedRedis
from stream.adapters.kafka_sink import KafkaSink
from stream.adapters.tail import Tail
from stream.audit import Audit
from stream.ports import Outgoing

TOPICS = {"news.raw": 4, "tweets.raw": 2, "signals": 4, "signals.control": 1, "raw.dlq": 1}
NOW_US = 1_770_000_000_000_000

StartStage = Callable[..., Any]


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    """A broker of one's own."""
    with EmbeddedBroker(TOPICS) as running:
        yield running


def publish(bootstrap_servers: str, count: int, start: int = 0) -> None:
    """So many different news items, and one record that is none."""
    sink = KafkaSink(bootstrap_servers)
    for number in range(start, start + count):
        item = {
            "item_key": f"wire:{number}",
            "source": "wire",
            "source_item_id": str(number),
            "item_type": "news",
            "ingested_us": NOW_US + number,
            "headline": f"Acme wins order number {number} worth {number} million",
        }
        sink.send(Outgoing("news.raw", item["item_key"].encode(), json.dumps(item).encode()))
    sink.send(Outgoing("news.raw", b"x", b"\x00garbage"))
    while sink.unacknowledged():
        sink.receipts(100)
    sink.close()


def audit(bootstrap_servers: str, outcomes: int, timeout_s: float = 60.0) -> Audit:
    """Reads until so many outcomes are there."""
    result = Audit()
    add = {"news.raw": result.add_raw, "signals": result.add_signal, "raw.dlq": result.add_rejection}
    tail = Tail(bootstrap_servers, list(add), start="beginning", options={"fetch.wait.max.ms": 5})
    deadline = time.monotonic() + timeout_s
    while sum(result.outcomes.values()) < outcomes or len(result.raw) < outcomes:
        assert time.monotonic() < deadline, result.report()
        for record in tail.poll(100):
            add[record.topic](record)
    tail.close()
    return result


def ask(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_sigterm_drains_commits_and_exits_0(broker: EmbeddedBroker, start_stage: StartStage) -> None:
    """Everything that was read has its outcome, the next worker repeats nothing."""
    publish(broker.bootstrap_servers, 300)
    stage = start_stage(broker.bootstrap_servers)
    stage.wait_for("partitions.assigned")
    assert stage.end(signal.SIGTERM) == 0
    stopped = stage.events("service.stopped")[0]
    second = start_stage(broker.bootstrap_servers)
    second.wait_for("partitions.assigned")
    found = audit(broker.bootstrap_servers, 301)
    assert second.end() == 0
    assert second.events("service.stopped")[0]["finished"] + stopped["finished"] == 301
    assert found.balanced and found.repeated == 0
    assert found.rejections == {"malformed": 1}


def test_health_readiness_and_metrics(broker: EmbeddedBroker, start_stage: StartStage) -> None:
    """What an orchestrator and a dashboard ask for."""
    stage = start_stage(broker.bootstrap_servers)
    url = stage.wait_for("service.started")["health"]
    stage.wait_for("partitions.assigned")
    publish(broker.bootstrap_servers, 20)
    audit(broker.bootstrap_servers, 21)
    assert ask(f"{url}/healthz")[0] == 200
    assert ask(f"{url}/readyz")[0] == 200
    metrics = ask(f"{url}/metrics")[1].decode()
    assert 'earlybird_texts_consumed_total{item_type="news",topic="news.raw"} 20.0' in metrics
    assert 'earlybird_dlq_total{reason="malformed"} 1.0' in metrics
    assert 'policy="cwb:delta=0.3,window=2"' in metrics


def test_broker_that_is_not_there_yet_is_waited_for(start_stage: StartStage) -> None:
    """A clear line once in a while, not twenty a second; healthy, not ready."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    stage = start_stage(f"127.0.0.1:{port}")
    url = stage.wait_for("service.started")["health"]
    stage.wait_for("broker.awaited")
    assert ask(f"{url}/healthz")[0] == 200
    assert ask(f"{url}/readyz")[0] == 503
    lines = len(stage.log.read_text().splitlines())
    time.sleep(2)  # the silence is what is looked at
    assert len(stage.log.read_text().splitlines()) <= lines + 2
    assert stage.end() == 0


def test_model_folder_that_is_none_is_refused(start_stage: StartStage, tmp_path: Path) -> None:
    """At once, in one line, with the reason."""
    stage = start_stage("127.0.0.1:1", MODEL=str(tmp_path / "nothing"))
    assert stage.process.wait(60) == 2
    (line,) = stage.log.read_text().strip().splitlines()
    assert "nothing" in line


def test_unknown_topic_format_is_refused(start_stage: StartStage) -> None:
    """Before anything is read."""
    stage = start_stage("127.0.0.1:1", TOPICS__RAW='[{"name": "x.raw", "format": "telex"}]')
    assert stage.process.wait(60) == 2
    assert "telex" in stage.log.read_text() or "earlybird" in stage.log.read_text()


def test_redis_that_dies_changes_nothing_but_speed(broker: EmbeddedBroker, start_stage: StartStage) -> None:
    """No stall and no loss with the cache killed under way; it is used again when it is back."""
    with EmbeddedRedis() as redis:
        stage = start_stage(broker.bootstrap_servers, REDIS__URL=redis.url)
        stage.wait_for("partitions.assigned")
        publish(broker.bootstrap_servers, 50)
        audit(broker.bootstrap_servers, 51)
        redis.kill()
        publish(broker.bootstrap_servers, 50, start=50)
        audit(broker.bootstrap_servers, 102)
        stage.wait_for("cache.lost")
        redis.restart()
        publish(broker.bootstrap_servers, 50, start=100)
        found = audit(broker.bootstrap_servers, 153)
        assert stage.end() == 0
    assert found.balanced and found.repeated == 0
