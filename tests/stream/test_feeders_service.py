"""`earlybird run` with feeders, as processes on the embedded broker: the same signals, and no end that loses any."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import decode
from schemas.signal import Signal
from stream.adapters.embedded import EmbeddedBroker
from stream.adapters.kafka_sink import KafkaSink
from stream.adapters.tail import Tail
from stream.audit import Audit
from stream.ports import Outgoing

TOPICS = {"news.raw": 4, "tweets.raw": 2, "signals": 4, "signals.control": 1, "raw.dlq": 1, "signals.again": 4}
NOW_US = 1_770_000_000_000_000
PATIENCE_S = 60.0

StartStage = Callable[..., Any]
Place = tuple[str, int, int, int]


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    """A broker of one's own."""
    with EmbeddedBroker(TOPICS) as running:
        yield running


def publish(bootstrap_servers: str, count: int, start: int = 0) -> None:
    """So many different news items."""
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
    while sink.unacknowledged():
        sink.receipts(100)
    sink.close()


def digests(bootstrap_servers: str, topic: str, count: int) -> dict[Place, str]:
    """Of so many signals, by raw position."""
    found: dict[Place, str] = {}
    tail = Tail(bootstrap_servers, [topic], start="beginning", options={"fetch.wait.max.ms": 5})
    deadline = time.monotonic() + PATIENCE_S
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} signals came"
        for record in tail.poll(100):
            one = decode(Signal, record.value or b"")
            found[one.raw.topic, one.raw.partition, one.raw.offset, one.raw.index] = one.digest
    tail.close()
    return found


def audit(bootstrap_servers: str, records: int) -> Audit:
    """Reads until each of so many records has an outcome."""
    result = Audit()
    add = {"news.raw": result.add_raw, "signals": result.add_signal, "raw.dlq": result.add_rejection}
    tail = Tail(bootstrap_servers, list(add), start="beginning", options={"fetch.wait.max.ms": 5})
    deadline = time.monotonic() + PATIENCE_S
    while len(result.raw) < records or result.raw - result.outcomes.keys():
        assert time.monotonic() < deadline, result.report()
        for record in tail.poll(100):
            add[record.topic](record)
    tail.close()
    return result


def feeders(stage: Any, count: int) -> list[int]:
    """Process ids of the feeders, once so many have started."""
    stage.wait_for("feeder.started", count=count)
    return [int(event["worker"].rpartition("-")[2]) for event in stage.events("feeder.started")]


def ended(pid: int) -> bool:
    """Whether the process is gone, or only waits for whoever adopted it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def test_feeders_say_what_one_process_says(broker: EmbeddedBroker, start_stage: StartStage) -> None:
    """Signal for signal the same digest. One port answers for all: ready when every feeder is, each series with its
    feeder's number. SIGTERM drains them and exits 0."""
    publish(broker.bootstrap_servers, 300)
    alone = start_stage(broker.bootstrap_servers, GROUP="alone", TOPICS__SIGNALS="signals.again")
    stage = start_stage(broker.bootstrap_servers, ENGINE__FEEDERS="2")
    url = stage.wait_for("service.started")["health"]
    pids = feeders(stage, 2)
    until(lambda: ready(url))
    found = digests(broker.bootstrap_servers, "signals", 300)
    assert found == digests(broker.bootstrap_servers, "signals.again", 300)
    until(lambda: sum(values(url, "earlybird_texts_consumed_total{")) >= 300)
    read = [line for line in series(url) if line.startswith("earlybird_texts_consumed_total{")]
    assert all('feeder="' in line for line in read)
    assert len([line for line in series(url) if line.startswith("# TYPE earlybird_signal_latency_seconds ")]) == 1
    assert values(url, "earlybird_slots_capacity ") == [16.0]
    assert values(url, "earlybird_model_info{") == [1.0]
    assert stage.end(signal.SIGTERM) == 0
    assert alone.end(signal.SIGTERM) == 0
    assert all(map(ended, pids))
    assert [event["feeders"] for event in stage.events("service.stopped")] == [2]
    assert sum(event["finished"] for event in stage.events("feeder.stopped")) >= 300


def test_a_feeder_that_is_killed_ends_the_service_after_the_others_drained(
    broker: EmbeddedBroker, start_stage: StartStage
) -> None:
    """It says whom it lost, exits 2 for its supervisor, and nothing is lost."""
    publish(broker.bootstrap_servers, 300)
    stage = start_stage(broker.bootstrap_servers, ENGINE__FEEDERS="2", KAFKA__OPTIONS__SESSION_TIMEOUT_MS="1500")
    pids = feeders(stage, 2)
    digests(broker.bootstrap_servers, "signals", 20)
    os.kill(pids[0], signal.SIGKILL)
    assert stage.process.wait(PATIENCE_S) == 2
    number = stage.events("feeder.started")[0]["feeder"]
    assert f"earlybird: feeder {number} ended with status -9" in stage.log.read_text()
    (stopped,) = stage.events("feeder.stopped")
    assert stopped["feeder"] == 1 - number
    start_stage(broker.bootstrap_servers, KAFKA__OPTIONS__SESSION_TIMEOUT_MS="1500")
    assert audit(broker.bootstrap_servers, 300).missing == []


def test_the_engines_process_takes_its_feeders_with_it(broker: EmbeddedBroker, start_stage: StartStage) -> None:
    """Killed without a word: no feeder stays behind, and the next service does the rest."""
    publish(broker.bootstrap_servers, 300)
    stage = start_stage(broker.bootstrap_servers, ENGINE__FEEDERS="2", KAFKA__OPTIONS__SESSION_TIMEOUT_MS="1500")
    pids = feeders(stage, 2)
    digests(broker.bootstrap_servers, "signals", 20)
    stage.end(signal.SIGKILL)
    until(lambda: all(map(ended, pids)))
    start_stage(broker.bootstrap_servers, KAFKA__OPTIONS__SESSION_TIMEOUT_MS="1500")
    assert audit(broker.bootstrap_servers, 300).missing == []


def test_a_crew_that_is_stopped_before_it_has_begun_exits_0(start_stage: StartStage) -> None:
    """No feeder listens to signals yet, and none has read anything."""
    stage = start_stage("127.0.0.1:1", ENGINE__FEEDERS="2")
    stage.wait_for("service.started")
    assert stage.end(signal.SIGTERM) == 0


def series(url: str) -> list[str]:
    """The lines of the exposition."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        return str(answer.read().decode()).splitlines()


def values(url: str, beginning: str) -> list[float]:
    """Of the series that begin so."""
    return [float(line.rpartition(" ")[2]) for line in series(url) if line.startswith(beginning)]


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
