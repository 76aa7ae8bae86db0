"""A broker that takes OAUTHBEARER tokens: stage, commands and strategy get theirs from a function of the user's."""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from earlybird.schemas.codec import encode
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.adapters.topics import Topic, create_topics
from earlybird.stream.client import Signals
from earlybird.stream.errors import StreamError
from earlybird.stream.ports import Outgoing
from earlybird.stream.strategies.invented import invented

pytestmark = pytest.mark.broker

LIFETIME_S = 12.0  # a client that starts on a busy machine must be let in before its first token runs out
SECURED = {
    "listeners": "PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controller_port},TOKENS://127.0.0.1:%d",
    "advertised.listeners": "PLAINTEXT://127.0.0.1:${port},TOKENS://127.0.0.1:%d",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,TOKENS:SASL_PLAINTEXT",
    "listener.name.tokens.sasl.enabled.mechanisms": "OAUTHBEARER",
    "listener.name.tokens.oauthbearer.sasl.jaas.config": (
        "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
    ),
    # The broker closes a connection whose token has run out, and cuts off each after this time at the latest.
    "listener.name.tokens.oauthbearer.connections.max.reauth.ms": "8000",
}
# A module of the user's: tokens without a signature, which Kafka's default validator takes, each noted in a file.
MODULE = """
import base64, json, os, time

def token(config):
    now = time.time()
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
    claims = {"sub": config, "iat": now, "exp": now + LIFETIME}
    with open(os.path.join(os.path.dirname(__file__), "given"), "a") as given:
        given.write("x")
    return part({"alg": "none"}) + "." + part(claims) + ".", now + LIFETIME
""".replace("LIFETIME", str(LIFETIME_S))


class Tokens:
    """The broker's guarded door, and the user's module."""

    def __init__(self, kafka: Any, port: int, folder: Path) -> None:
        self.kafka, self.folder, self.address = kafka, folder, f"127.0.0.1:{port}"
        (folder / "house_tokens.py").write_text(MODULE)

    def environment(self) -> dict[str, str]:
        """As docs/deploy.md has it."""
        return {
            "KAFKA__BOOTSTRAP_SERVERS": self.address,
            "KAFKA__OPTIONS__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA__OPTIONS__SASL_MECHANISM": "OAUTHBEARER",
            "KAFKA__OPTIONS__SASL_OAUTHBEARER_CONFIG": "trader",
            "KAFKA__OPTIONS__OAUTH_CB": "house_tokens:token",
        }

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """`earlybird WORDS` under that environment."""
        names = {f"EARLYBIRD_{name}": value for name, value in self.environment().items()}
        names["PYTHONPATH"] = f"{self.folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        command = [sys.executable, "-m", "earlybird.stream.cli", *words]
        return subprocess.run(command, env=os.environ | names, capture_output=True, text=True, timeout=300)

    @property
    def given(self) -> int:
        """Number of tokens that the user's function has given."""
        return len((self.folder / "given").read_text())


@pytest.fixture(scope="module")
def tokens(new_kafka: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tokens]:
    from kafka_node import free_port

    port = free_port()
    kafka = new_kafka(**{name: value.replace("%d", str(port)) for name, value in SECURED.items()})
    yield Tokens(kafka, port, tmp_path_factory.mktemp("tokens"))
    kafka.stop()


def item(number: int) -> bytes:
    return json.dumps(
        {
            "item_key": f"wire:{number}", "source": "wire", "source_item_id": str(number), "item_type": "news",
            "ingested_us": 1_770_000_000_000_000, "headline": f"Acme wins order {number} of the year",
        }
    ).encode()  # fmt: skip


def test_a_stage_outlives_its_tokens(
    tokens: Tokens, start_stage: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Topics, stage and group over tokens; signals still come when every first token has run out."""
    made = tokens.command("topics", "create")
    assert made.returncode == 0, made.stderr
    monkeypatch.setenv("PYTHONPATH", f"{tokens.folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    stage = start_stage("", **tokens.environment())
    stage.wait_for("partitions.assigned")
    sink = KafkaSink(tokens.kafka.bootstrap_servers)
    tail = Tail(tokens.kafka.bootstrap_servers, ["signals"], start="beginning")
    at_start, seen, sent = tokens.given, list[str](), 0
    while len(seen) < sent or tokens.given < at_start + 4:  # two clients of the stage, each at its third token
        if len(seen) == sent:
            sink.send(Outgoing("news.raw", b"k", item(sent)), 1)
            sent += 1
        sink.receipts(50)
        seen += [json.loads(record.value)["item_key"] for record in tail.poll(50) if record.value]
        assert stage.process.poll() is None, stage.log.read_text()[-2000:]
    sink.close()
    tail.close()
    assert seen == [f"wire:{number}" for number in range(sent)]
    assert stage.end() == 0


def test_a_strategy_brings_its_own_function(tokens: Tokens, unique: Callable[[str], str]) -> None:
    """The client takes the function itself."""
    topic = unique("signals")
    create_topics(tokens.kafka.bootstrap_servers, [Topic(topic)])
    sink = KafkaSink(tokens.kafka.bootstrap_servers)
    sink.send(Outgoing(topic, b"k", encode(invented("1", time.time_ns() // 1000))))
    while sink.unacknowledged():
        sink.receipts(50)
    sink.close()

    def token(config: str) -> tuple[str, float]:
        now = time.time()
        parts = [{"alg": "none"}, {"sub": config, "iat": now, "exp": now + 60}]
        coded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
        return ".".join([*coded, ""]), now + 60

    options: dict[str, Any] = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "OAUTHBEARER",
        "oauth_cb": token,
    }
    options |= {"sasl.oauthbearer.config": "strategy"}
    with Signals.live(tokens.address, topic=topic, control_topic=None, options=options, start="beginning") as signals:
        assert next(signals).item_key == "wire:1"


def test_a_function_that_fails_is_named(tokens: Tokens) -> None:
    """The strategy learns at the call that it cannot get in."""

    def token(config: str) -> tuple[str, float]:
        raise OSError("the token server is away")

    options: dict[str, Any] = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "OAUTHBEARER",
        "oauth_cb": token,
    }
    with pytest.raises(StreamError):
        Signals.live(tokens.address, options=options)
