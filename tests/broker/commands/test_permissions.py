"""Each command under exactly the permissions that the documentation lists for it, on a Kafka that refuses the rest."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import util
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.ports import Outgoing
from project import ROOT

SPEC = util.spec_from_file_location("permissions", ROOT / "docs" / "permissions.py")
assert SPEC is not None and SPEC.loader is not None
MODULE = util.module_from_spec(SPEC)
SPEC.loader.exec_module(MODULE)
PERMISSIONS = MODULE.PERMISSIONS

pytestmark = pytest.mark.broker

PATIENCE_S = 150.0
OPERATIONS = {
    "Read": (ResourceType.TOPIC, AclOperation.READ),
    "Write": (ResourceType.TOPIC, AclOperation.WRITE),
    "Create": (ResourceType.TOPIC, AclOperation.CREATE),
    "Describe": (ResourceType.TOPIC, AclOperation.DESCRIBE),
    "AlterConfigs": (ResourceType.TOPIC, AclOperation.ALTER_CONFIGS),
    "DescribeConfigs": (ResourceType.TOPIC, AclOperation.DESCRIBE_CONFIGS),
    "Describe on group": (ResourceType.GROUP, AclOperation.DESCRIBE),
    "Read on group": (ResourceType.GROUP, AclOperation.READ),
    "Write on transactionalId": (ResourceType.TRANSACTIONAL_ID, AclOperation.WRITE),
}
ITEM = {
    "item_key": "wire:1", "source": "wire", "source_item_id": "1", "item_type": "news", "lang": "en",
    "ingested_us": 1_770_000_000_000_000, "headline": "Norvex lifts full-year outlook",
    "symbols": [{"symbol": "NRVX", "origin": "provider"}],
}  # fmt: skip
REFUSED = ITEM | {"item_key": "wire:2", "source_item_id": "2", "lang": "fr"}
VIEWS = ("-m", "earlybird.stream.cli", "views")
STRATEGY = """
import sys
from earlybird import Signals
options = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": sys.argv[2],
           "sasl.password": "secret"}
with Signals.live(sys.argv[1], start="beginning", options=options) as signals:
    print(next(signal.item_key for signal in signals if signal.score is not None))
"""


class Guarded:
    """A Kafka with one user per command."""

    def __init__(self, kafka: Any, port: int) -> None:
        self.address, self.open = f"127.0.0.1:{port}", kafka.bootstrap_servers
        self.admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        rules = [rule for command, (needed, _) in PERMISSIONS.items() for rule in acls(user(command), needed)]
        for answer in self.admin.create_acls(rules).values():
            answer.result()

    @contextmanager
    def without(self, rule: AclBinding) -> Iterator[None]:
        """Take one permission away from the user."""
        for answer in self.admin.delete_acls(
            [
                AclBindingFilter(
                    rule.restype,
                    rule.name,
                    rule.resource_pattern_type,
                    rule.principal,
                    rule.host,
                    rule.operation,
                    rule.permission_type,
                )
            ]
        ).values():
            assert answer.result() == [rule]
        yield
        for created in self.admin.create_acls([rule]).values():
            created.result()

    def publish(self, name: str) -> None:
        """A text, and one that is refused."""
        sink = KafkaSink(self.open)
        for item in (ITEM, REFUSED):
            key = f"{name}:{item['source_item_id']}"
            sink.send(Outgoing("news.raw", key.encode(), json.dumps(item | {"item_key": key, "source": name}).encode()))
        while sink.unacknowledged():
            sink.receipts(50)
        sink.close()

    def settings(self, command: str) -> dict[str, str]:
        return {
            "KAFKA__BOOTSTRAP_SERVERS": self.address,
            "KAFKA__OPTIONS__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA__OPTIONS__SASL_MECHANISM": "PLAIN",
            "KAFKA__OPTIONS__SASL_USERNAME": user(command),
            "KAFKA__OPTIONS__SASL_PASSWORD": "secret",
            "LOG__LEVEL": "warning",
        }

    def run(self, command: str, *words: str) -> str:
        """`earlybird COMMAND WORDS` as its own user: it must end well, without a complaint about permissions."""
        names = {f"EARLYBIRD_{name}": value for name, value in self.settings(command).items()}
        line = [sys.executable, "-m", "earlybird.stream.cli", *command.split(), *words]
        return succeeded(line, os.environ | names)


def succeeded(command: Sequence[str], environment: dict[str, str]) -> str:
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "AUTHORIZATION" not in ended.stderr and "denied" not in ended.stderr, ended.stderr
    return ended.stdout


@contextmanager
def served(content: bytes) -> Iterator[str]:
    """Address of a server that answers every request with this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def user(command: str) -> str:
    return command.replace(" ", "-")


def acls(name: str, needed: dict[str, tuple[str, ...]]) -> Iterator[AclBinding]:
    for operation, resources in needed.items():
        kind, allowed = OPERATIONS[operation]
        for resource in resources:
            pattern = ResourcePatternType.PREFIXED if resource.endswith("*") else ResourcePatternType.LITERAL
            yield AclBinding(
                kind, resource.removesuffix("*"), pattern, f"User:{name}", "*", allowed, AclPermissionType.ALLOW
            )


@pytest.fixture(scope="module")
def guarded(new_kafka: Callable[..., Any]) -> Iterator[Guarded]:
    """Nothing is allowed that no rule allows; topics are not made by being asked for."""
    from kafka_node import free_port

    port = free_port()
    users = " ".join(f'user_{user(command)}="secret"' for command in PERMISSIONS)
    kafka = new_kafka(
        **{
            "listeners": f"PLAINTEXT://127.0.0.1:${{port}},CONTROLLER://127.0.0.1:${{controller_port}},GUARDED://127.0.0.1:{port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:${{port}},GUARDED://127.0.0.1:{port}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,GUARDED:SASL_PLAINTEXT",
            "listener.name.guarded.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.guarded.plain.sasl.jaas.config": (
                f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }
    )
    yield Guarded(kafka, port)
    kafka.stop()


def test_documented_permissions_suffice(guarded: Guarded, start_stage: Callable[..., Any], tmp_path: Path) -> None:
    """A text from feed to strategy, archive and replay, each step as a user of its own."""
    assert guarded.run("topics create", "--partitions", "1", "--keep-raw").count("created") == 5
    assert guarded.run("topics create", "--keep-raw").count("retention.ms=-1 set") == 2
    guarded.run("topics show")
    (tmp_path / "item.jsonl").write_text(f"{json.dumps(REFUSED)}\n{json.dumps(ITEM)}\n")
    assert "published 2 texts" in guarded.run("feed", str(tmp_path / "item.jsonl"))
    stage = start_stage("", **guarded.settings("run") | {"LOG__LEVEL": "info"})
    strategy = [sys.executable, "-c", STRATEGY, guarded.address, user("strategy")]
    assert succeeded(strategy, dict(os.environ)).split() == ["wire:1"]
    assert "Norvex cuts outlook" in guarded.run("say", "Norvex cuts outlook", "--timeout", "60")
    assert stage.end() == 0
    assert "AUTHORIZATION" not in stage.log.read_text()
    exact = {"DELIVERY": "exactly_once", "INSTANCE": "worker-1", "LOG__LEVEL": "info"}
    stage = start_stage("", **guarded.settings("run exactly_once") | exact)
    stage.wait_for("partitions.assigned")
    assert "Norvex opens a plant" in guarded.run("say", "Norvex opens a plant", "--timeout", "60")
    assert stage.end() == 0
    assert "AUTHORIZATION" not in stage.log.read_text()
    views = start_stage("", VIEWS, **guarded.settings("views") | {"LOG__LEVEL": "info"})
    views.wait_for("views.started", 60)
    tail = Tail(guarded.open, ["views.sentiment"], start="beginning")
    shown = (record.key for _ in range(600) for record in tail.poll(100))
    assert next(shown, None) == b"NRVX", views.log.read_text()
    tail.close()
    assert views.end() == 0
    assert "AUTHORIZATION" not in views.log.read_text().upper()
    assert guarded.run("signals", "--from", "beginning", "--limit", "1")
    assert json.loads(guarded.run("audit", "--json"))["waiting"] == 0
    (describe,) = (rule for rule in acls(user("audit"), PERMISSIONS["audit"][0]) if rule.restype is ResourceType.GROUP)
    with guarded.without(describe):
        assert json.loads(guarded.run("audit", "--json"))["waiting"] is None
    guarded.run("archive", "--once", str(tmp_path / "archive"))
    guarded.run("replay recorded", "--output", str(tmp_path / "again"))
    guarded.run("replay recompute", "--compare", "--output", str(tmp_path / "anew"))
    assert "language" in guarded.run("dlq list")
    assert guarded.run("dlq redrive", "--reason", "language") == "redriven: 1 of 1\n"
    told = json.loads(guarded.run("audit", "--json"))
    assert (told["waiting"], told["missing"], told["balanced"]) == (1, 0, True)  # no worker runs any more
    with served(
        b"<rss><channel><item><guid>u:1</guid><title>Norvex cuts outlook</title>"
        b"<pubDate>Mon, 05 Jan 2026 10:00:00 GMT</pubDate></item></channel></rss>"
    ) as url:
        guarded.run("pull", "rss", url, "--since", "3650d", "--limit", "1")


@pytest.mark.timeout(900)  # seven starts
def test_the_stage_needs_each_of_its_permissions(
    guarded: Guarded, start_stage: Callable[..., Any], unique: Callable[[str], str]
) -> None:
    """Without any one of them it ends with status 2, and its last line says which permission failed."""
    guarded.run("topics create", "--partitions", "1", "--keep-raw")
    command = "run exactly_once"
    for rule in acls(user(command), PERMISSIONS[command][0]):
        exact = {"DELIVERY": "exactly_once", "INSTANCE": unique("worker")}
        with guarded.without(rule):
            stage = start_stage("", **guarded.settings(command) | exact)
            guarded.publish(unique("wire"))
            status = stage.process.wait(PATIENCE_S)
        said = stage.log.read_text().splitlines()[-1]
        assert status == 2 and f"{ResourceType(rule.restype).name}_AUTHORIZATION_FAILED" in said, f"{rule}: {said}"
