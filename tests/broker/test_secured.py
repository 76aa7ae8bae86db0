"""A broker behind TLS and SCRAM, with the settings as the README names them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from stream.adapters.kafka_sink import KafkaSink
from stream.adapters.tail import Tail
from stream.ports import Outgoing

pytestmark = pytest.mark.broker

PASSWORD = "correct horse"
LISTENERS = {
    "listeners": "PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controller_port},SECURED://127.0.0.1:%d",
    "advertised.listeners": "PLAINTEXT://127.0.0.1:${port},SECURED://127.0.0.1:%d",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURED:SASL_SSL",
    "listener.name.secured.sasl.enabled.mechanisms": "SCRAM-SHA-512",
    "listener.name.secured.scram-sha-512.sasl.jaas.config": (
        "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    ),
    "listener.name.secured.ssl.keystore.password": "changeit",
    "listener.name.secured.ssl.keystore.type": "PKCS12",
}


class Secured:
    """The broker's guarded door, and what a user writes to pass it."""

    def __init__(self, kafka: Any, port: int, folder: Path) -> None:
        self.kafka, self.address = kafka, f"localhost:{port}"
        self.folder = folder
        (folder / "password").write_text(PASSWORD + "\n")

    def environment(self, **changed: str) -> dict[str, str]:
        """As the README's first deployment."""
        names = {
            "KAFKA__BOOTSTRAP_SERVERS": self.address,
            "KAFKA__OPTIONS__SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA__OPTIONS__SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA__OPTIONS__SASL_USERNAME": "earlybird",
            "KAFKA__OPTIONS__SASL_PASSWORD_FILE": str(self.folder / "password"),
            "KAFKA__OPTIONS__SSL_CA_LOCATION": str(self.folder / "ca.pem"),
        }
        return names | changed

    def command(self, *words: str, **changed: str) -> "subprocess.CompletedProcess[str]":
        """`earlybird WORDS` under that environment."""
        names = {f"EARLYBIRD_{name}": value for name, value in self.environment(**changed).items()}
        command = [sys.executable, "-m", "stream.cli", *words]
        return subprocess.run(command, env=os.environ | names, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def secured(new_kafka: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A broker with a certificate of its own making and one user."""
    from deploy.kafka.local import free_port

    folder, port = tmp_path_factory.mktemp("secured"), free_port()
    store = folder / "broker.p12"
    common = ["-keystore", str(store), "-storepass", "changeit", "-alias", "broker"]
    subject = ["-dname", "CN=localhost", "-ext", "SAN=dns:localhost,ip:127.0.0.1", "-validity", "2"]
    made = ["keytool", "-genkeypair", "-keyalg", "EC", "-storetype", "PKCS12", *common, *subject]
    subprocess.run(made, check=True, capture_output=True)
    shown = subprocess.run(["keytool", "-exportcert", "-rfc", *common], check=True, capture_output=True, text=True)
    (folder / "ca.pem").write_text(shown.stdout)
    options = {name: value.replace("%d", str(port)) for name, value in LISTENERS.items()}
    kafka = new_kafka(**options, **{"listener.name.secured.ssl.keystore.location": str(store)})
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    user = UserScramCredentialUpsertion(
        "earlybird", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), PASSWORD.encode()
    )
    for answer in admin.alter_user_scram_credentials([user]).values():
        answer.result()
    yield Secured(kafka, port, folder)
    kafka.stop()


def test_the_readmes_settings_open_a_guarded_broker(secured: Secured, start_stage: Callable[..., Any]) -> None:
    """Topics are made and a text becomes a signal over TLS and SCRAM; the password comes from a file."""
    made = secured.command("topics", "create")
    assert made.returncode == 0, made.stderr
    plain = secured.kafka.bootstrap_servers
    tail = Tail(plain, ["signals"], start="beginning")
    stage = start_stage("", **secured.environment())
    stage.wait_for("partitions.assigned")
    item = {
        "item_key": "wire:1", "source": "wire", "source_item_id": "1", "item_type": "news",
        "ingested_us": 1_770_000_000_000_000, "headline": "Acme wins the order of the year",
    }  # fmt: skip
    sink = KafkaSink(plain)
    sink.send(Outgoing("news.raw", b"wire:1", json.dumps(item).encode()), 1)
    while sink.unacknowledged():
        sink.receipts(50)
    sink.close()
    signals: list[Any] = []
    for _ in range(600):
        signals += tail.poll(50)
        if signals:
            break
    tail.close()
    assert [json.loads(record.value)["item_key"] for record in signals] == ["wire:1"]
    assert stage.end() == 0
    assert PASSWORD not in stage.log.read_text()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("KAFKA__OPTIONS__SASL_USERNAME", "nobody"), ("KAFKA__OPTIONS__SSL_CA_LOCATION", "/etc/hostname")],
)
def test_who_is_not_let_in_says_so_and_ends(secured: Secured, setting: str, value: str) -> None:
    """A wrong name, or a file that is no certificate: no waiting for ever, and the reason on one line."""
    refused = secured.command("run", **{setting: value, "HTTP__PORT": "0"})
    assert refused.returncode == 2, refused.stderr
    assert PASSWORD not in refused.stderr + refused.stdout
    assert "uthenticat" in refused.stderr or "ssl.ca.location" in refused.stderr
