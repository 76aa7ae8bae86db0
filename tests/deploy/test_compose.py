"""The Compose file: its schema, and its commands and settings as processes of this machine."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from earlybird.stream.adapters.embedded import EmbeddedRedis
from earlybird.stream.config.settings import Timing
from earlybird.stream.observability.watchdog import END_S

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "compose"
WORKERS = ("stage-1", "stage-2")

pytestmark = pytest.mark.deploy


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """As Compose reads them, anchors resolved."""
    made: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"]
    return made


def test_the_file_is_as_the_specification_wants_it() -> None:
    """Whose schema the package check-jsonschema brings."""
    jsonschema = pytest.importorskip("jsonschema")
    package = importlib.util.find_spec("check_jsonschema")
    if package is None or package.origin is None:
        pytest.skip("NO EXTRA: pip install -e '.[deploy]'")
    schema = json.loads((Path(package.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json").read_text())
    whole = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(whole, schema)
    whole["services"]["stage-1"] = whole["services"]["stage-1"] | {"misspelt": ["run"]}
    with pytest.raises(jsonschema.ValidationError, match="misspelt"):
        jsonschema.validate(whole, schema)


def test_what_is_mounted_exists_and_workers_may_drain(services: dict[str, Any]) -> None:
    """Files of this repository; Prometheus scrapes exactly the workers."""
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (FOLDER / source).exists(), source
    for name in WORKERS:
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > Timing().drain_timeout_s + END_S
        assert services[name]["read_only"] and services[name]["tmpfs"] == ["/tmp"]
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    targets = config["scrape_configs"][0]["static_configs"][0]["targets"]
    assert targets == [f"{name}:9464" for name in WORKERS]
    assert (FOLDER / services["grafana"]["volumes"][1].split(":")[0]).name == "earlybird.json"


@pytest.mark.timeout(400)
def test_the_same_commands_and_settings_serve(
    services: dict[str, Any],
    new_kafka: Callable[..., Any],
    start_stage: Callable[..., Any],
    environment: dict[str, str],
    publish: Any,
    get: Any,
    until: Any,
) -> None:
    """On a real Kafka with the service's options and a real Valkey; only addresses are this machine's."""
    from kafka_node import free_port

    options = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in services["kafka"]["environment"].items()
        if not any(word in name for word in ("LISTENER", "VOTERS", "NODE_ID", "ROLES"))
    }
    kafka = new_kafka(**options)
    valkey = services["valkey"]["command"]
    words = [word for word in valkey[1:] if word not in ("--save", "")]
    cache = {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}
    with EmbeddedRedis(options=cache) as redis:
        places = {"kafka:9092": kafka.bootstrap_servers, "redis://valkey:6379/0": redis.url, "0.0.0.0": "127.0.0.1"}

        def settings(name: str) -> dict[str, str]:
            return {key: places.get(value, value) for key, value in services[name]["environment"].items()}

        topics = [sys.executable, "-m", "earlybird.stream.cli", *services["topics"]["command"]]
        made = subprocess.run(topics, env=environment | settings("topics"), capture_output=True, text=True, cwd=ROOT)
        assert made.returncode == 0 and made.stdout.count("created") == 5, made.stdout + made.stderr
        stages = {}
        for name in WORKERS:
            stripped = {key.removeprefix("EARLYBIRD_"): value for key, value in settings(name).items()}
            command = ("-m", "earlybird.stream.cli", *services[name]["command"])
            stages[name] = start_stage("", command, **stripped | {"HTTP__PORT": str(free_port())})
        urls = [stage.wait_for("service.started", 200)["health"] for stage in stages.values()]

        def of(url: str, series: str) -> float:
            lines = get(f"{url}/metrics").splitlines()
            return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{series} ")), -1.0)

        until(lambda: [of(url, "earlybird_partitions_assigned") for url in urls] == [12, 12], "an even share for each")
        publish(kafka.bootstrap_servers, 200)
        until(lambda: sum(of(url, 'earlybird_dlq_total{reason="malformed"}') for url in urls) == 1, "a dead letter")
        until(lambda: all(of(url, "earlybird_unfinished_texts") == 0 for url in urls), "all acknowledged")
        assert all(of(url, "earlybird_cache_up") == 1 for url in urls)
        assert sum(of(url, "earlybird_dedup_hits_total") for url in urls) > 0  # 50 different headlines
        assert [stage.end() for stage in stages.values()] == [0, 0]
