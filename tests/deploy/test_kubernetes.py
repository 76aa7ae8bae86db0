"""Built manifests against the schemas of Kubernetes, KEDA and the Prometheus operator, and a stage as they run it."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
TOOLS = ROOT / "var" / "tools"
OVERLAYS = ("plain", "strimzi")
CUSTOM = {"ScaledObject": "scaledobject", "ServiceMonitor": "servicemonitor", "PrometheusRule": "prometheusrule"}
NO_EXTRA = "NO EXTRA: pip install -e '.[deploy]'"

pytestmark = pytest.mark.deploy

# Strimzi's resource definitions are in no package; these are the fields that we use, as its documentation has them.
OPERATIONS = "Read Write Create Delete Alter Describe ClusterAction AlterConfigs DescribeConfigs IdempotentWrite All"
STRIMZI: dict[str, dict[str, Any]] = {
    "KafkaTopic": {
        "properties": {
            "partitions": {"type": "integer", "minimum": 1},
            "replicas": {"type": "integer", "minimum": 1, "maximum": 32767},
            "config": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "topicName": {"type": "string"},
        },
    },
    "KafkaUser": {
        "properties": {
            "authentication": {
                "properties": {"type": {"enum": ["tls", "tls-external", "scram-sha-512"]}},
                "required": ["type"],
            },
            "authorization": {
                "properties": {
                    "type": {"enum": ["simple"]},
                    "acls": {
                        "type": "array",
                        "items": {
                            "properties": {
                                "type": {"enum": ["allow", "deny"]},
                                "host": {"type": "string"},
                                "operations": {"type": "array", "items": {"enum": OPERATIONS.split()}},
                                "resource": {
                                    "properties": {
                                        "type": {"enum": ["topic", "group", "cluster", "transactionalId"]},
                                        "name": {"type": "string"},
                                        "patternType": {"enum": ["literal", "prefix"]},
                                    },
                                    "required": ["type"],
                                },
                            },
                            "required": ["resource", "operations"],
                        },
                    },
                },
                "required": ["acls", "type"],
            },
        },
    },
}


def strict(schema: Any) -> Any:
    """A resource definition's schema that also refuses fields which it does not name, as `kubectl` warns of them."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(value) for name, value in schema.items()}
    if isinstance(made.get("pattern"), str):  # Go allows a flag anywhere, Python at the start only
        made["pattern"] = made["pattern"].replace("^(?i)", "(?i)^")
    closed = "properties" in made and not made.get("x-kubernetes-preserve-unknown-fields")
    return {"additionalProperties": False, **made} if closed and isinstance(made["properties"], dict) else made


def definition(kind: str) -> dict[str, Any]:
    """JSON Schema of a custom resource's spec."""
    if kind in STRIMZI:
        made: dict[str, Any] = strict(STRIMZI[kind])
        return made
    file = TOOLS / f"{CUSTOM[kind]}.yaml"
    if not file.exists():
        pytest.skip(f"NO {file.name}: make deploy-tools")
    crd = next(one for one in yaml.safe_load_all(file.read_text(encoding="utf-8")) if one)
    whole: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return dict(strict(whole))


@pytest.fixture(scope="module")
def built(tool: Callable[[str], str]) -> Callable[[str], list[dict[str, Any]]]:
    """Resources of an overlay."""

    def build(overlay: str) -> list[dict[str, Any]]:
        command = [tool("kustomize"), "build", str(KUBERNETES / "overlays" / overlay)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0 and not ran.stderr, ran.stderr
        return [one for one in yaml.safe_load_all(ran.stdout) if one]

    return build


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_takes_what_is_built(built: Callable[[str], list[dict[str, Any]]], overlay: str) -> None:
    """Strictly: an unknown field is a fault."""
    kubernetes = pytest.importorskip("kubernetes_validate", reason=NO_EXTRA)
    jsonschema = pytest.importorskip("jsonschema")
    kinds = set()
    for resource in built(overlay):
        kinds.add(resource["kind"])
        if resource["kind"] in CUSTOM or resource["kind"] in STRIMZI:
            jsonschema.validate(resource["spec"], definition(resource["kind"]))
        else:
            kubernetes.validate(resource, kubernetes.latest_version(), strict=True)
    assert {"Deployment", "PodDisruptionBudget", "NetworkPolicy", "Service", "ConfigMap"} <= kinds
    assert (overlay == "strimzi") == ({"KafkaUser", "KafkaTopic", *CUSTOM} <= kinds)


@pytest.mark.parametrize("kind", [*CUSTOM, *STRIMZI])
def test_a_misspelt_field_is_noticed(built: Callable[[str], list[dict[str, Any]]], kind: str) -> None:
    """So that the test above can fail."""
    jsonschema = pytest.importorskip("jsonschema")
    resource = next(one for one in built("strimzi") if one["kind"] == kind)
    with pytest.raises(jsonschema.ValidationError, match="misspelt"):
        jsonschema.validate(resource["spec"] | {"misspelt": 1}, definition(kind))


def test_the_scaler_knows_every_parameter(built: Callable[[str], list[dict[str, Any]]]) -> None:
    """Parameters are free text to Kubernetes; their names are in KEDA's source. All values are strings."""
    source = TOOLS / "prometheus_scaler.go"
    if not source.exists():
        pytest.skip("NO KEDA SOURCE: make deploy-tools")
    fields = re.findall(r'keda:"name=(\w+),\s+order=triggerMetadata(.*?)"', source.read_text(encoding="utf-8"))
    known = {name for name, _ in fields}
    required = {name for name, rest in fields if "optional" not in rest and "default" not in rest}
    scaler = next(one for one in built("strimzi") if one["kind"] == "ScaledObject")
    for trigger in scaler["spec"]["triggers"]:
        assert trigger["type"] == "prometheus"
        assert required <= trigger["metadata"].keys() <= known
        assert all(isinstance(value, str) for value in trigger["metadata"].values())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_meet_the_pods(built: Callable[[str], list[dict[str, Any]]], overlay: str) -> None:
    """Of service, budget, policy, spread and monitor; and the scaler owns the number of workers."""
    resources = {one["kind"]: one for one in built(overlay)}
    template = resources["Deployment"]["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert labels == {"app.kubernetes.io/name": "earlybird"}
    spread = {one["topologyKey"]: one["labelSelector"] for one in template["spec"]["topologySpreadConstraints"]}
    same = {"matchLabels": labels}
    assert spread == {"kubernetes.io/hostname": same, "topology.kubernetes.io/zone": same}
    assert resources["Service"]["spec"]["selector"] == labels
    assert resources["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert resources["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert ("replicas" in resources["Deployment"]["spec"]) == ("ScaledObject" not in resources)
    if "ServiceMonitor" in resources:
        assert (
            resources["ServiceMonitor"]["spec"]["selector"]["matchLabels"] == resources["Service"]["metadata"]["labels"]
        )


def test_systemd_takes_the_unit(tool: Callable[[str], str], tmp_path: Path) -> None:
    """All but the program's path, which is not on this machine."""
    unit = (ROOT / "deploy" / "systemd" / "earlybird.service").read_text(encoding="utf-8")
    (tmp_path / "earlybird.service").write_text(unit.replace("/opt/earlybird/bin/earlybird", "/bin/true"))
    command = [tool("systemd-analyze"), "verify", "--man=no", str(tmp_path / "earlybird.service")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and not ran.stderr, ran.stderr


def _constant(name: str) -> str:
    """transactionalId -> TRANSACTIONAL_ID."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper()


class Cluster:
    """A real Kafka with the topics and users of the manifests, which refuses all else."""

    def __init__(self, kafka: Any, port: int, resources: list[dict[str, Any]]) -> None:
        from confluent_kafka.admin import (
            AdminClient,
            NewTopic,
            ScramCredentialInfo,
            ScramMechanism,
            UserScramCredentialAlteration,
            UserScramCredentialUpsertion,
        )

        self.address, self.resources = f"127.0.0.1:{port}", resources
        self.plain = kafka.bootstrap_servers
        self.admin = AdminClient({"bootstrap.servers": self.plain})
        topics = [
            NewTopic(
                one["metadata"]["name"],
                one["spec"]["partitions"],
                1,
                config={name: str(value) for name, value in one["spec"]["config"].items() if "insync" not in name},
            )
            for one in self.of("KafkaTopic")
        ]
        scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        users: list[UserScramCredentialAlteration] = [
            UserScramCredentialUpsertion(user["metadata"]["name"], scram, b"secret") for user in self.of("KafkaUser")
        ]
        for answers in (self.admin.create_topics(topics), self.admin.alter_user_scram_credentials(users)):
            for answer in answers.values():
                answer.result()
        self.give([acl for user in self.of("KafkaUser") for acl in self.acls(user)])

    def give(self, acls: list[Any]) -> None:
        for answer in self.admin.create_acls(acls).values():
            answer.result()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.resources if one["kind"] == kind]

    def acls(self, user: dict[str, Any]) -> Iterator[Any]:
        from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

        for acl in user["spec"]["authorization"]["acls"]:
            for operation in acl["operations"]:
                yield AclBinding(
                    ResourceType[_constant(acl["resource"]["type"])],
                    acl["resource"]["name"],
                    ResourcePatternType[{"literal": "LITERAL", "prefix": "PREFIXED"}[acl["resource"]["patternType"]]],
                    f"User:{user['metadata']['name']}",
                    "*",
                    AclOperation[_constant(operation)],
                    AclPermissionType.ALLOW,
                )

    def settings(self, password: Path) -> dict[str, str]:
        """The pods' settings; only the address, TLS and the places of the secrets are this machine's."""
        data: dict[str, str] = self.of("ConfigMap")[0]["data"]
        kept = {
            name.removeprefix("EARLYBIRD_"): value
            for name, value in data.items()
            if "REDIS" not in name and "CA_LOCATION" not in name
        }
        assert kept["KAFKA__OPTIONS__SASL_MECHANISM"] == "SCRAM-SHA-512"
        return kept | {
            "KAFKA__BOOTSTRAP_SERVERS": self.address,
            "KAFKA__OPTIONS__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA__OPTIONS__SASL_PASSWORD_FILE": str(password),
            "HTTP__HOST": "127.0.0.1",
        }


@pytest.fixture
def cluster(
    new_kafka: Callable[..., Any], built: Callable[[str], list[dict[str, Any]]], tmp_path: Path
) -> Iterator[Cluster]:
    from kafka_node import free_port

    (tmp_path / "password").write_text("secret\n")
    port, resources = free_port(), built("strimzi")
    kafka = new_kafka(
        **{
            "listeners": f"PLAINTEXT://127.0.0.1:${{port}},CONTROLLER://127.0.0.1:${{controller_port}},GUARDED://127.0.0.1:{port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:${{port}},GUARDED://127.0.0.1:{port}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,GUARDED:SASL_PLAINTEXT",
            "listener.name.guarded.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.guarded.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }
    )
    yield Cluster(kafka, port, resources)
    kafka.stop()


@pytest.mark.timeout(300)
def test_a_stage_runs_under_the_manifests(
    cluster: Cluster, start_stage: Callable[..., Any], publish: Any, get: Any, until: Any, tmp_path: Path
) -> None:
    """With their topics, their settings and their user, on a Kafka that refuses all else."""
    settings = cluster.settings(tmp_path / "password")
    publish(cluster.plain, 3)
    stage = start_stage("", **settings)
    url = stage.wait_for("service.started", 200)["health"]
    until(lambda: 'earlybird_dlq_total{reason="malformed"} 1.0' in get(f"{url}/metrics"), "a dead letter")
    until(lambda: "earlybird_unfinished_texts 0.0" in get(f"{url}/metrics"), "all acknowledged")
    assert '"ready": true' in get(f"{url}/readyz")
    assert stage.end() == 0 and "AUTHORIZATION" not in stage.log.read_text()
