"""A broker with TLS and SCRAM, and the settings with which a user reaches it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from kafka_node import free_port

PASSWORD = "correct horse"
LISTENERS = {
    "listeners": "PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controller_port},SECURED://127.0.0.1:%d",
    "advertised.listeners": "PLAINTEXT://127.0.0.1:${port},SECURED://127.0.0.1:%d",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURED:SASL_SSL",
    "listener.name.secured.sasl.enabled.mechanisms": "SCRAM-SHA-512",
    "listener.name.secured.scram-sha-512.sasl.jaas.config": (
        "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    ),
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
    "allow.everyone.if.no.acl.found": "true",
    "listener.name.secured.ssl.keystore.password": "changeit",
    "listener.name.secured.ssl.keystore.type": "PKCS12",
}


class Secured:
    """Address of the broker's secured listener, and the settings with which a user reaches it."""

    def __init__(self, kafka: Any, port: int, folder: Path) -> None:
        self.kafka, self.address = kafka, f"localhost:{port}"
        self.folder = folder
        (folder / "password").write_text(PASSWORD + "\n")

    def environment(self, **changed: str) -> dict[str, str]:
        """The settings of the README's first deployment."""
        names = {
            "KAFKA__BOOTSTRAP_SERVERS": self.address,
            "KAFKA__OPTIONS__SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA__OPTIONS__SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA__OPTIONS__SASL_USERNAME": "earlybird",
            "KAFKA__OPTIONS__SASL_PASSWORD_FILE": str(self.folder / "password"),
            "KAFKA__OPTIONS__SSL_CA_LOCATION": str(self.folder / "ca.pem"),
        }
        return names | changed

    def reserve(self, kind: ResourceType, name: str) -> None:
        """Give a topic or a group to another user alone."""
        rule = (ResourcePatternType.LITERAL, "User:owner", "*", AclOperation.ALL, AclPermissionType.ALLOW)
        admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap_servers})
        for answer in admin.create_acls([AclBinding(kind, name, *rule)]).values():
            answer.result()

    def let_in(self, user: str, password: str) -> None:
        """Create a user, or give it another password."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap_servers})
        change = UserScramCredentialUpsertion(user, info, password.encode())
        for answer in admin.alter_user_scram_credentials([change]).values():
            answer.result()

    def command(self, *words: str, **changed: str) -> "subprocess.CompletedProcess[str]":
        """Run `earlybird WORDS` with those settings."""
        settings = {"HTTP__PORT": "0"} | self.environment(**changed)
        names = {f"EARLYBIRD_{name}": value for name, value in settings.items()}
        command = [sys.executable, "-m", "earlybird.stream.cli", *words]
        return subprocess.run(command, env=os.environ | names, capture_output=True, text=True, timeout=300)


def start(new_kafka: Callable[..., Any], folder: Path) -> Secured:
    """A broker with a certificate of its own making and one user."""
    port = free_port()
    store = folder / "broker.p12"
    common = ["-keystore", str(store), "-storepass", "changeit", "-alias", "broker"]
    subject = ["-dname", "CN=localhost", "-ext", "SAN=dns:localhost,ip:127.0.0.1", "-validity", "2"]
    made = ["keytool", "-genkeypair", "-keyalg", "EC", "-storetype", "PKCS12", *common, *subject]
    subprocess.run(made, check=True, capture_output=True)
    shown = subprocess.run(["keytool", "-exportcert", "-rfc", *common], check=True, capture_output=True, text=True)
    (folder / "ca.pem").write_text(shown.stdout)
    options = {name: value.replace("%d", str(port)) for name, value in LISTENERS.items()}
    kafka = new_kafka(**options, **{"listener.name.secured.ssl.keystore.location": str(store)})
    secured = Secured(kafka, port, folder)
    secured.let_in("earlybird", PASSWORD)
    return secured
