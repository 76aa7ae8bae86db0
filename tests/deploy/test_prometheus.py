"""A real Prometheus: unit tests of the rules, alerts that fire and clear, and every panel's query answered."""

import json
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"
UNTIL = Callable[[Callable[[], object], str], None]

pytestmark = pytest.mark.deploy

# Panels that stay empty on a healthy stage.
EMPTY = {"Records behind an open transaction: {{topic}}/{{partition}}"}


def test_unit_tests_of_the_rules_pass(tool: Callable[[str], str]) -> None:
    """Syntax, and when each alert fires."""
    for command in (["check", "rules", "earlybird.rules.yml"], ["test", "rules", "earlybird.rules.test.yml"]):
        ran = subprocess.run([tool("promtool"), *command], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_unit_test_notices_a_wrong_threshold(tool: Callable[[str], str], tmp_path: Path) -> None:
    """So that the test above can fail."""
    rules = (PROMETHEUS / "earlybird.rules.yml").read_text(encoding="utf-8")
    (tmp_path / "earlybird.rules.yml").write_text(rules.replace("_seconds > 30", "_seconds > 3000"))
    (tmp_path / "tests.yml").write_text((PROMETHEUS / "earlybird.rules.test.yml").read_text(encoding="utf-8"))
    command = [tool("promtool"), "test", "rules", "tests.yml"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 1 and "EarlybirdTextsWait" in ran.stdout + ran.stderr


class Prometheus:
    """The server with our configuration in a hurry: one scrape per second, alerts fire after two."""

    def __init__(self, program: str, home: Path, targets: list[str]) -> None:
        from kafka_node import free_port

        self.url = f"http://127.0.0.1:{free_port()}"
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"][0]["static_configs"] = [{"targets": targets}]
        (home / "prometheus.yml").write_text(yaml.safe_dump(config))
        rules = yaml.safe_load((PROMETHEUS / "earlybird.rules.yml").read_text(encoding="utf-8"))
        for rule in rules["groups"][0]["rules"]:
            rule["for"] = "2s"
        (home / "earlybird.rules.yml").write_text(yaml.safe_dump(rules))
        address = self.url.removeprefix("http://")
        command = [program, f"--config.file={home / 'prometheus.yml'}", f"--storage.tsdb.path={home / 'data'}"]
        self.log = (home / "prometheus.log").open("wb")
        self.process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=self.log, stderr=self.log)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


@pytest.fixture
def prometheus(tool: Callable[[str], str], tmp_path: Path) -> Iterator[Callable[[list[str]], Prometheus]]:
    started: list[Prometheus] = []

    def start(targets: list[str]) -> Prometheus:
        started.append(Prometheus(tool("prometheus"), tmp_path, targets))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.mark.timeout(600)
def test_alerts_fire_when_the_worker_is_stopped_and_clear_again(
    servers: Any,
    start_stage: Callable[..., Any],
    prometheus: Callable[[list[str]], Prometheus],
    queries: dict[str, str],
    get: Any,
    publish: Any,
    until: UNTIL,
) -> None:
    """Also when the cache goes away; and on the way every panel of the dashboard has something to draw."""
    from kafka_node import free_port

    broker, redis = servers
    port = free_port()

    def start() -> Any:
        return start_stage(broker.bootstrap_servers, REDIS__URL=redis.url, HTTP__PORT=str(port))

    stage = start()
    stage.wait_for("partitions.assigned", 200)
    server = prometheus([f"127.0.0.1:{port}"])

    def ask(path: str) -> Any:
        try:
            return json.loads(get(f"{server.url}/api/v1/{path}"))["data"]
        except OSError:  # it starts
            return {}

    def firing() -> set[str]:
        alerts = ask("alerts").get("alerts", ())
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def answer(expression: str) -> list[Any]:
        expression = expression.replace("$__rate_interval", "30s").replace("$job", ".+").replace("$instance", ".+")
        found: list[Any] = ask(f"query?{urllib.parse.urlencode({'query': expression})}").get("result", [])
        return found

    sent = 0

    def drawn() -> bool:
        nonlocal sent
        publish(broker.bootstrap_servers, 20, sent)
        sent += 20
        return all(answer(query) for panel, query in queries.items() if panel not in EMPTY)

    until(drawn, "an answer to every query of the dashboard")
    assert not firing()

    redis.kill()
    until(lambda: publish(broker.bootstrap_servers, 20, 1000) or "EarlybirdCacheDown" in firing(), "EarlybirdCacheDown")
    redis.restart()
    until(lambda: publish(broker.bootstrap_servers, 20, 2000) or "EarlybirdCacheDown" not in firing(), "a cache again")

    assert stage.end() == 0
    until(lambda: {"EarlybirdNoWorker", "EarlybirdWorkerDown"} <= firing(), "alerts of a stopped worker")
    start().wait_for("partitions.assigned", 200)
    until(lambda: not {"EarlybirdNoWorker", "EarlybirdWorkerDown", "EarlybirdNotReady"} & firing(), "silence")
