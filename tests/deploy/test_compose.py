"""The Compose file: its schema, and its commands and settings as processes of this machine."""

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
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


def test_grafana_finds_prometheus_and_the_dashboard(services: dict[str, Any]) -> None:
    """Its files of provisioning name the service, its port, and the folder into which the dashboard is mounted."""
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    files = {path.parent.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in folder.rglob("*.yaml")}
    assert {name: each["apiVersion"] for name, each in files.items()} == {"datasources": 1, "dashboards": 1}
    (source,), (provider,) = files["datasources"]["datasources"], files["dashboards"]["providers"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    host, _, port = source["url"].removeprefix("http://").partition(":")
    assert host in services and services[host]["ports"] == [f"127.0.0.1:{port}:{port}"]
    grafana = services["grafana"]
    mounted = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    assert mounted["../grafana/provisioning"] == "/etc/grafana/provisioning"
    place = Path(mounted["../grafana/earlybird.json"])
    assert str(place.parent) == provider["options"]["path"] and provider["type"] == "file"
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == str(place)
    board = json.loads((ROOT / "deploy" / "grafana" / "earlybird.json").read_text(encoding="utf-8"))
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables["source"]["query"] == source["type"]  # the dashboard takes the default one of this type
    uids = {panel["datasource"]["uid"] for panel in board["panels"] if panel.get("datasource")}
    assert uids <= {"$source", "${source}"}, uids


class Prometheus:
    """The service's command and files; only addresses and folders are this machine's."""

    def __init__(self, program: str, service: dict[str, Any], targets: list[str], home: Path) -> None:
        from kafka_node import free_port

        shutil.copytree(ROOT / "deploy" / "prometheus", home / "etc")
        config = home / "etc" / "prometheus.yml"
        services = ", ".join(f"{name}:9464" for name in WORKERS)
        text = config.read_text(encoding="utf-8")
        assert services in text
        config.write_text(text.replace(services, ", ".join(targets)), encoding="utf-8")
        places = {"/etc/prometheus": str(home / "etc"), "=/prometheus": f"={home / 'data'}"}
        words: list[str] = list(service["command"])
        for place, here in places.items():
            words = [word.replace(place, here) for word in words]
        self.address = f"127.0.0.1:{free_port()}"
        self._log = (home / "prometheus.log").open("wb")
        command = [program, *words, f"--web.listen-address={self.address}"]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._log.close()


@pytest.fixture
def prometheus(
    tool: Callable[[str], str], services: dict[str, Any], tmp_path: Path
) -> Iterator[Callable[[list[str]], str]]:
    """Starts the service on these targets; its address."""
    started: list[Prometheus] = []

    def start(targets: list[str]) -> str:
        started.append(Prometheus(tool("prometheus"), services["prometheus"], targets, tmp_path))
        return started[-1].address

    yield start
    for each in started:
        each.close()


@pytest.mark.timeout(400)
def test_the_same_commands_and_settings_serve(
    services: dict[str, Any],
    prometheus: Callable[[list[str]], str],
    rules: dict[str, Any],
    new_kafka: Callable[..., Any],
    start_stage: Callable[..., Any],
    environment: dict[str, str],
    publish: Any,
    get: Any,
    until: Any,
) -> None:
    """On a real Kafka, a real Valkey and a real Prometheus with their services' options; only addresses differ."""
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

        def cached() -> bool:
            """A busy machine's cache may be bypassed for a moment, and is asked again with the next texts."""
            publish(kafka.bootstrap_servers, 50)
            hits = sum(of(url, "earlybird_dedup_hits_total") for url in urls)
            return hits > 0 and all(of(url, "earlybird_cache_up") == 1 for url in urls)

        until(cached, "answers of the cache")
        address = prometheus([url.removeprefix("http://") for url in urls])

        def ask(path: str) -> Any:
            try:
                return json.loads(get(f"http://{address}/api/v1/{path}"))["data"]
            except OSError:  # it starts
                return {"result": [], "groups": []}

        def scraped() -> list[str]:
            found = ask("query?query=earlybird_ready%7Bjob%3D%22earlybird%22%7D")["result"]
            return [one["value"][1] for one in found]

        until(lambda: scraped() == ["1", "1"], "two targets that are ready")
        assert {rule["name"] for group in ask("rules")["groups"] for rule in group["rules"]} == set(rules)
        assert not [alert for alert in ask("alerts")["alerts"] if alert["state"] == "firing"]
        assert [stage.end() for stage in stages.values()] == [0, 0]
