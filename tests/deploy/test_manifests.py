"""Kubernetes manifests and the systemd unit agree with the stage: times, settings, permissions, partitions."""

import configparser
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from earlybird.stream.config.settings import Settings, Timing, load
from earlybird.stream.observability.watchdog import END_S

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
COMPONENTS = KUBERNETES / "components"
DRAIN_S = Timing().drain_timeout_s + END_S


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"deploy_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]


@pytest.fixture(scope="module")
def deployment() -> dict[str, Any]:
    spec: dict[str, Any] = documents(KUBERNETES / "base" / "deployment.yaml")[0]["spec"]
    return spec


def test_generated_manifests_are_up_to_date() -> None:
    """`python deploy/kubernetes/generate.py` writes them."""
    for path, make in module(KUBERNETES / "generate.py").FILES.items():
        assert path.read_text(encoding="utf-8") == make(), path.relative_to(ROOT)


def test_users_have_exactly_the_documented_permissions() -> None:
    """Those that tests/broker/commands/test_permissions.py runs every command under."""
    table = module(ROOT / "docs" / "permissions.py").PERMISSIONS
    users = {user["metadata"]["name"]: user for user in documents(COMPONENTS / "strimzi" / "users.yaml")}
    assert users.keys() == {"earlybird", "earlybird-feed", "earlybird-strategy"}
    for name, command in (
        ("earlybird", "run exactly_once"),
        ("earlybird-feed", "feed"),
        ("earlybird-strategy", "strategy"),
    ):
        granted = {
            (operation, acl["resource"]["type"], acl["resource"]["name"])
            for acl in users[name]["spec"]["authorization"]["acls"]
            for operation in acl["operations"]
        }
        assert granted == set(needed(table[command][0]))


def needed(permissions: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, str, str]]:
    for operation, names in permissions.items():
        what, _, kind = operation.partition(" on ")
        yield from ((what, kind or "topic", name.removesuffix("*")) for name in names)


def test_a_pod_may_drain_before_it_is_killed(deployment: dict[str, Any]) -> None:
    """A worker that does not end by itself writes its dump first."""
    assert deployment["template"]["spec"]["terminationGracePeriodSeconds"] > DRAIN_S


def test_a_pod_may_nothing_that_it_does_not_need(deployment: dict[str, Any]) -> None:
    """Not root, nothing writable but /tmp, no token."""
    pod = deployment["template"]["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"] and pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]
    cores = container["resources"]["limits"]["cpu"]
    assert cores == container["resources"]["requests"]["cpu"] and cores.isdigit()


def test_probes_ask_paths_that_are_served(deployment: dict[str, Any]) -> None:
    """Liveness asks no broker; only readiness may."""
    container = deployment["template"]["spec"]["containers"][0]
    paths = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert container["ports"][0]["containerPort"] == Settings().http.port


def test_the_scaler_never_starts_more_workers_than_there_are_partitions() -> None:
    """Of both raw topics, which one group shares."""
    topics = {one["metadata"]["name"]: one["spec"] for one in documents(COMPONENTS / "strimzi" / "topics.yaml")}
    raw = [topic.name for topic in Settings().topics.raw]
    scaler = documents(COMPONENTS / "autoscaling" / "scaledobject.yaml")[0]["spec"]
    assert scaler["maxReplicaCount"] == sum(topics[name]["partitions"] for name in raw)
    assert scaler["minReplicaCount"] >= 1  # the metric comes from the workers


def settings_of(folder: Path) -> dict[str, str]:
    """Variables that a base or a component sets."""
    made = documents(folder / "kustomization.yaml")[0]["configMapGenerator"][0]
    files = [(folder / name).read_text(encoding="utf-8").splitlines() for name in made.get("envs", ())]
    lines = [*made.get("literals", ()), *(line for lines in files for line in lines)]
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_settings_of_the_manifests_are_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of base and components together; secrets come from files at the paths where they are mounted."""
    variables = settings_of(KUBERNETES / "base")
    for name in ("strimzi", "cache"):
        mounted = (COMPONENTS / name / "kustomization.yaml").read_text(encoding="utf-8")
        for variable, value in settings_of(COMPONENTS / name).items():
            if value.startswith("/"):
                assert f"mountPath: {Path(value).parent}," in mounted
                secret = tmp_path / variable
                secret.write_text("redis://u:p@redis:6379/0" if "URL" in variable else "a secret of some length")
                value = str(secret)
            variables[variable] = value
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    settings = load()
    assert settings.kafka.options["sasl.password"] == settings.redis.secret == "a secret of some length"
    assert settings.http.host == "0.0.0.0" and settings.log.format == "json"


def test_the_systemd_unit_drains_and_always_starts_again() -> None:
    """Also after exit code 2, with which a worker ends whose commit is in doubt, and after any number of ends."""
    text = (ROOT / "deploy" / "systemd" / "earlybird.service").read_text(encoding="utf-8")
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text)
    service = unit["Service"]
    assert int(service["TimeoutStopSec"]) > DRAIN_S
    assert service["Restart"] == "always" and "RestartPreventExitStatus" not in service
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert service["KillSignal"] == "SIGTERM" and service["ExecStart"].endswith("/earlybird run")
    assert service["DynamicUser"] == "yes"
