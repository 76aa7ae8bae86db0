"""Write the manifests that other files of this repository decide: python deploy/kubernetes/generate.py

components/strimzi/users.yaml from the permissions of docs/permissions.py, topics.yaml from what `earlybird topics
create` makes, components/monitoring/prometheusrule.yaml from deploy/prometheus/earlybird.rules.yml.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from earlybird.stream.adapters.topics import Topic, stage_topics
from earlybird.stream.config.topics import Topics

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COMPONENTS = HERE / "components"
WRITTEN = "# Written by deploy/kubernetes/generate.py.\n"

PARTITIONS, REPLICATION = 12, 3
CLUSTER = {"strimzi.io/cluster": "kafka"}
USERS = {
    "earlybird": ("run exactly_once", "The stage, with either delivery."),
    "earlybird-feed": ("feed", "Whatever publishes raw items."),
    "earlybird-strategy": ("strategy", "A strategy without a group of its own."),
}
"""User -> command whose permissions it has, and what it is."""


def permissions() -> Mapping[str, tuple[Mapping[str, Sequence[str]], str]]:
    spec = importlib.util.spec_from_file_location("permissions", ROOT / "docs" / "permissions.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table: Mapping[str, tuple[Mapping[str, Sequence[str]], str]] = module.PERMISSIONS
    return table


def users() -> str:
    """One KafkaUser per kind of client, with the permissions that it needs and no more."""
    table = permissions()
    return WRITTEN + "".join(
        f"---\n# {about}\n{written(_user(name, table[command][0]))}" for name, (command, about) in USERS.items()
    )


def _user(name: str, needed: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    operations: dict[tuple[str, str], list[str]] = {}
    for operation, resources in needed.items():
        verb, _, kind = operation.partition(" on ")
        for resource in resources:
            operations.setdefault((kind or "topic", resource), []).append(verb)
    acls = [
        {"resource": {"type": kind, **_pattern(resource)}, "operations": verbs}
        for (kind, resource), verbs in operations.items()
    ]
    return {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaUser",
        "metadata": {"name": name, "labels": CLUSTER},
        "spec": {
            "authentication": {"type": "scram-sha-512"},
            "authorization": {"type": "simple", "acls": acls},
        },
    }


def _pattern(name: str) -> dict[str, str]:
    """A name, or with `*` at its end all names that begin so."""
    return {"name": name.removesuffix("*"), "patternType": "prefix" if name.endswith("*") else "literal"}


def topics() -> str:
    """The topics of one stage."""
    names = Topics()
    wanted = stage_topics(
        [topic.name for topic in names.raw],
        names.signals,
        names.control,
        names.dlq,
        partitions=PARTITIONS,
        replication=REPLICATION,
    )
    return WRITTEN + "".join(f"---\n{written(_topic(topic))}" for topic in wanted)


def _topic(topic: Topic) -> dict[str, Any]:
    config = {"min.insync.replicas": 2, **topic.config}
    return {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaTopic",
        "metadata": {"name": topic.name, "labels": CLUSTER},
        "spec": {"partitions": topic.partitions, "replicas": topic.replication, "config": config},
    }


def alerts() -> str:
    """The alerts as the Prometheus operator reads them."""
    rules = (ROOT / "deploy" / "prometheus" / "earlybird.rules.yml").read_text(encoding="utf-8")
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "earlybird"},
        "spec": yaml.safe_load(rules),
    }
    return WRITTEN + written(rule)


def written(value: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, width=120)
    return text


FILES = {
    COMPONENTS / "strimzi" / "users.yaml": users,
    COMPONENTS / "strimzi" / "topics.yaml": topics,
    COMPONENTS / "monitoring" / "prometheusrule.yaml": alerts,
}

if __name__ == "__main__":
    for path, make in FILES.items():
        path.write_text(make(), encoding="utf-8")
