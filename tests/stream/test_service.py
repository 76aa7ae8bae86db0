"""The service as a process on the embedded broker: what an operator does to it, and what goes wrong around it."""

import json
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from earlybird.stream import cli
from earlybird.stream.adapters.embedded import EmbeddedBroker, EmbeddedRedis
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.ports import Outgoing
from earlybird.stream.run_worker import RunSummary

StartStage = Callable[..., Any]
Until = Callable[[Callable[[], bool]], None]


def ask(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def figures(url: str) -> dict[str, float]:
    """Every series as it is written, and its value."""
    lines = ask(f"{url}/metrics")[1].decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def waiting(url: str) -> list[str]:
    """What keeps it from being ready."""
    status, said = ask(f"{url}/readyz")
    found: list[str] = json.loads(said)["waiting"]
    assert status == (503 if found else 200)
    return found


def test_sigterm_drains_commits_and_exits_0(ground: Any, start_stage: StartStage) -> None:
    """Everything that was read has its outcome, the next worker repeats nothing."""
    ground.publish(300, garbage=True)
    stage = start_stage(ground.bootstrap_servers)
    stage.wait_for("partitions.assigned")
    assert stage.end(signal.SIGTERM) == 0
    stopped = stage.events("service.stopped")[0]
    second = start_stage(ground.bootstrap_servers)
    second.wait_for("partitions.assigned")
    found = ground.audit(301)
    assert second.end() == 0
    assert second.events("service.stopped")[0]["finished"] + stopped["finished"] == 301
    assert found.balanced and found.repeated == 0
    assert found.rejections == {"malformed": 1}
    lines = [json.loads(line) for line in stage.log.read_text().splitlines()]
    assert {(line["worker"].rpartition("-")[2], line["group"]) for line in lines} == {
        (str(stage.process.pid), "earlybird")
    }


def test_the_account_is_a_command(
    ground: Any, start_stage: StartStage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`earlybird audit`, in eight bits for once: what came, what became of it, how fast, and what waits."""
    monkeypatch.setenv("EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS", ground.bootstrap_servers)
    ground.publish(30, garbage=True)
    assert cli.main(["audit", "--json"]) == 0
    before = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (before["waiting"], before["missing"], before["balanced"]) == (31, 0, True)
    stage = start_stage(ground.bootstrap_servers, ENGINE__DTYPE="int8")
    ground.audit(31)
    assert stage.end() == 0
    assert stage.events("service.stopped")[0]["cpu_ms_per_text"] > 0
    assert cli.main(["audit", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {name: report[name] for name in ("records", "signals", "waiting", "missing", "repeated", "balanced")} == {
        "records": 31, "signals": 30, "waiting": 0, "missing": 0, "repeated": 0, "balanced": True
    }  # fmt: skip
    assert report["span_s"] > 0
    assert report["outcomes_per_s"] == pytest.approx(31 / report["span_s"], abs=0.1)


def test_a_worker_that_finished_nothing_names_no_cost_a_text() -> None:
    """Its whole CPU time is not that of a text."""
    assert RunSummary(0, 0.8).log_fields() == {"finished": 0}
    assert RunSummary(4, 0.8).log_fields() == {"finished": 4, "cpu_ms_per_text": 200.0}


def test_health_readiness_and_metrics(ground: Any, start_stage: StartStage, until: Until) -> None:
    """What an orchestrator and a dashboard ask for."""
    stage = start_stage(ground.bootstrap_servers)
    started = stage.wait_for("service.started")
    url = started["health"]
    assert "this machine only; http.host=0.0.0.0" in started["reach"]
    stage.wait_for("partitions.assigned")
    ground.publish(20, garbage=True)
    ground.audit(21)
    assert ask(f"{url}/healthz")[0] == 200
    assert ask(f"{url}/readyz")[0] == 200
    assert json.loads(ask(f"{url}/readyz")[1]) == {"ready": True, "waiting": [], "degraded": []}
    metrics = ask(f"{url}/metrics")[1].decode()
    assert 'earlybird_texts_consumed_total{item_type="news",topic="news.raw"} 20.0' in metrics
    assert 'earlybird_dlq_total{reason="malformed"} 1.0' in metrics
    assert 'policy="cwb:delta=0.5,window=2"' in metrics and 'earlybird_build_info{config_hash="' in metrics
    for name in ("partitions_assigned", "engine_busy_seconds_total", "engine_tokens_total", "ready"):
        assert figures(url)[f"earlybird_{name}"] > 0
    until(lambda: all(figures(url).get(f'earlybird_brokers_connected{{client="{one}"}}') for one in ("source", "sink")))
    until(lambda: figures(url)['earlybird_commits_total{result="accepted"}'] > 0)
    assert figures(url)["earlybird_rebalances_total"] > 0
    assert figures(url)["earlybird_in_flight_limit_texts"] == 1024
    assert figures(url)["process_resident_memory_bytes"] > 1e6
    assert not [name for name in figures(url) if name.startswith("earlybird_cache")]
    assert len(figures(url)) < 400


def test_a_broker_that_stops_answering_is_not_ready(ground: Any, start_stage: StartStage, until: Until) -> None:
    """Nothing gets out, so no text is served; the process is well all the same, and ready again with the broker."""
    stage = start_stage(ground.bootstrap_servers)
    url = stage.wait_for("service.started")["health"]
    until(lambda: ask(f"{url}/readyz")[0] == 200)
    ground.pause()
    until(lambda: ask(f"{url}/readyz")[0] == 503)
    assert waiting(url) == ["acknowledgements"]
    assert ask(f"{url}/healthz")[0] == 200
    ground.resume()
    until(lambda: ask(f"{url}/readyz")[0] == 200)
    assert stage.end() == 0


def test_a_topic_that_is_missing_is_not_ready(ground: Any, start_stage: StartStage, until: Until) -> None:
    """By name, until somebody has made it; the stage looks for it and makes nothing."""
    stage = start_stage(ground.bootstrap_servers, TOPICS__DLQ="later.dlq")
    url = stage.wait_for("service.started")["health"]
    until(lambda: waiting(url) == ["later.dlq"])
    assert stage.wait_for("topic.awaited")["topic"] == "later.dlq"
    sink = KafkaSink(ground.bootstrap_servers)
    sink.send(Outgoing("later.dlq", b"k", b"v"))  # this broker makes a topic that is written to
    until(lambda: not sink.receipts() and not sink.unacknowledged())
    sink.close()
    until(lambda: not waiting(url))
    assert stage.end() == 0


def test_a_worker_that_its_group_has_lost_is_not_ready(ground: Any, start_stage: StartStage, until: Until) -> None:
    """Whatever it had is another's; once it is back it is ready again."""
    stage = start_stage(ground.bootstrap_servers, KAFKA__OPTIONS__SESSION_TIMEOUT_MS="1500")
    url = stage.wait_for("service.started")["health"]
    until(lambda: not waiting(url))
    ground.pause()
    until(lambda: "assignment" in waiting(url))
    stage.wait_for("partitions.lost")
    ground.resume()
    until(lambda: not waiting(url))
    assert stage.end() == 0


def test_a_worker_without_partitions_is_ready(start_stage: StartStage, until: Until) -> None:
    """A spare serves when it is needed: a rolling update must not wait for it."""
    settings = {"TOPICS__RAW": '[{"name": "news.raw"}]', "KAFKA__GROUP_PROTOCOL": "consumer"}
    with EmbeddedBroker({"news.raw": 1, "signals": 1, "signals.control": 1, "raw.dlq": 1}) as broker:
        owner = start_stage(broker.bootstrap_servers, **settings)
        owner.wait_for("partitions.assigned")
        spare = start_stage(broker.bootstrap_servers, **settings)
        url = spare.wait_for("service.started")["health"]
        until(lambda: not waiting(url))
        assert not spare.events("partitions.assigned")
        assert (owner.end(), spare.end()) == (0, 0)


def test_broker_that_is_not_there_yet_is_waited_for(start_stage: StartStage, until: Until) -> None:
    """A clear line once in a while, not twenty a second; healthy, not ready."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and does not listen: every connection is refused
        stage = start_stage(f"127.0.0.1:{held.getsockname()[1]}")
        url = stage.wait_for("service.started")["health"]
        stage.wait_for("broker.awaited")
        assert ask(f"{url}/healthz")[0] == 200
        until(lambda: "broker" in waiting(url))
        lines = len(stage.log.read_text().splitlines())
        time.sleep(2)  # the silence is what is looked at
        assert len(stage.log.read_text().splitlines()) <= lines + 2
        assert stage.end() == 0


def test_model_folder_that_is_none_is_refused(start_stage: StartStage, tmp_path: Path) -> None:
    """At once, in one line, with the reason."""
    stage = start_stage("127.0.0.1:1", MODEL=str(tmp_path / "nothing"))
    assert stage.process.wait(150) == 2
    (line,) = stage.log.read_text().strip().splitlines()
    assert "nothing" in line


def test_unknown_topic_format_is_refused(start_stage: StartStage) -> None:
    """Before anything is read."""
    stage = start_stage("127.0.0.1:1", TOPICS__RAW='[{"name": "x.raw", "format": "telex"}]')
    assert stage.process.wait(150) == 2
    assert "telex" in stage.log.read_text() or "earlybird" in stage.log.read_text()


def test_redis_that_dies_changes_nothing_but_speed(ground: Any, start_stage: StartStage, until: Until) -> None:
    """No stall and no loss with the cache killed under way, and it can be seen; it is used again when it is back."""
    with EmbeddedRedis() as redis:
        stage = start_stage(ground.bootstrap_servers, REDIS__URL=redis.url, REDIS__BUDGET_MS="10000")
        url = stage.wait_for("service.started")["health"]
        stage.wait_for("partitions.assigned")
        ground.publish(50, garbage=True)
        ground.audit(51)
        assert figures(url)['earlybird_cache_lookups_total{result="miss"}'] > 0
        assert figures(url)["earlybird_cache_up"] == 1
        redis.kill()
        ground.publish(50, start=50, garbage=True)
        ground.audit(102)
        stage.wait_for("cache.lost")
        until(lambda: figures(url)["earlybird_cache_up"] == 0)
        assert json.loads(ask(f"{url}/readyz")[1])["degraded"] == ["redis"]
        assert figures(url)['earlybird_cache_calls_total{result="failed"}'] >= 3
        redis.restart()
        ground.publish(50, start=100, garbage=True)
        found = ground.audit(153)
        assert stage.end() == 0
    assert found.balanced and found.repeated == 0
