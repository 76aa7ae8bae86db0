"""A broker behind TLS and SCRAM, with the settings as README and the pages name them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    ResourceType,
)

from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.adapters.topics import Topic, create_topics
from earlybird.stream.client import Signals
from earlybird.stream.errors import SourceError
from earlybird.stream.ports import Outgoing
from secured import PASSWORD, Secured

pytestmark = pytest.mark.broker

ITEM = {
    "item_key": "wire:1", "source": "wire", "source_item_id": "1", "item_type": "news",
    "ingested_us": 1_770_000_000_000_000, "headline": "Acme wins the order of the year",
}  # fmt: skip


def test_the_readmes_settings_open_a_guarded_broker(secured: Secured, start_stage: Callable[..., Any]) -> None:
    """Topics are made and a text becomes a signal over TLS and SCRAM; the password comes from a file."""
    made = secured.command("topics", "create")
    assert made.returncode == 0, made.stderr
    stage = start_stage("", **secured.environment())
    stage.wait_for("partitions.assigned")
    assert keys_after(secured, "news.raw", "signals") == ["wire:1"]
    assert stage.end() == 0
    assert PASSWORD not in stage.log.read_text()


def test_a_stage_takes_up_a_changed_password(secured: Secured, start_stage: Callable[..., Any], tmp_path: Path) -> None:
    """The connections of the former password are gone with the broker's restart; the process goes on."""
    secured.let_in("rotated", "the former")
    file = tmp_path / "password"
    file.write_text("the former\n")
    named = {"KAFKA__OPTIONS__SASL_USERNAME": "rotated", "KAFKA__OPTIONS__SASL_PASSWORD_FILE": str(file)}
    names = {"TOPICS__RAW": '[{"name": "rotated.raw"}]', "TOPICS__SIGNALS": "rotated.signals"}
    create_topics(secured.kafka.bootstrap_servers, [Topic("rotated.raw"), Topic("rotated.signals")])
    stage = start_stage("", **secured.environment(**named), **names, GROUP="rotated")
    stage.wait_for("partitions.assigned")
    secured.let_in("rotated", "the new one")
    file.write_text("the new one\n")
    stage.wait_for("password.changed", count=2)  # consumer and producer
    secured.kafka.stop()
    secured.kafka.start()
    assert keys_after(secured, "rotated.raw", "rotated.signals") == ["wire:1"]
    assert stage.process.poll() is None and stage.end() == 0
    assert "the new one" not in stage.log.read_text()


def keys_after(secured: Secured, raw: str, topic: str) -> list[str]:
    """Item keys of the topic's first signals, after one raw item."""
    sink, tail = (
        KafkaSink(secured.kafka.bootstrap_servers),
        Tail(secured.kafka.bootstrap_servers, [topic], start="beginning"),
    )
    sink.send(Outgoing(raw, b"wire:1", json.dumps(ITEM).encode()), 1)
    while sink.unacknowledged():
        sink.receipts(50)
    sink.close()
    signals: list[Any] = []
    for _ in range(1200):
        signals += tail.poll(50)
        if signals:
            break
    tail.close()
    return [json.loads(record.value)["item_key"] for record in signals]


COMMANDS = {
    "run": ("run",),
    "topics create": ("topics", "create"),
    "topics show": ("topics", "show"),
    "signals": ("signals",),
    "audit": ("audit",),
    "replay": ("replay", "--output", "{folder}/replayed"),
    "archive": ("archive", "{folder}/archive"),
    "feed": ("feed", "{folder}/item.jsonl", "--timestamps", "now"),
}
MISMATCHES = {
    "wrong name": ({"KAFKA__OPTIONS__SASL_USERNAME": "nobody"}, "invalid credentials"),
    "plain to TLS": ({"KAFKA__OPTIONS__SECURITY_PROTOCOL": "PLAINTEXT"}, "it speaks TLS"),
    "TLS to plain": ({"KAFKA__BOOTSTRAP_SERVERS": "{plain}"}, "it speaks plain Kafka"),
    "no CA": ({"KAFKA__OPTIONS__SSL_CA_LOCATION": ""}, "certificate verify failed"),
}


def refused(secured: Secured, command: str, changed: dict[str, str]) -> str:
    """What a command says that ends with status 2."""
    (secured.folder / "item.jsonl").write_text(json.dumps(ITEM) + "\n")
    words = [word.format(folder=secured.folder) for word in COMMANDS[command]]
    settings = {name: value.format(plain=secured.kafka.bootstrap_servers) for name, value in changed.items()}
    ended = secured.command(*words, **settings, HTTP__PORT="0")
    assert ended.returncode == 2, ended.stderr
    assert PASSWORD not in ended.stderr + ended.stdout
    return ended.stderr


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("mismatch", ["wrong name", "plain to TLS"])
def test_each_command_names_the_cause_and_ends(secured: Secured, command: str, mismatch: str) -> None:
    """librdkafka says it beside the calls, which only time out: every client has to listen."""
    changed, cause = MISMATCHES[mismatch]
    assert cause in refused(secured, command, changed)


@pytest.mark.parametrize("mismatch", MISMATCHES)
def test_what_does_not_fit_the_listener_is_named(secured: Secured, mismatch: str) -> None:
    """Wrong names and protocols that do not meet: none is a broker that is away."""
    changed, cause = MISMATCHES[mismatch]
    assert cause in refused(secured, "topics show", changed)


def test_a_strategy_that_is_not_let_in_learns_why(secured: Secured) -> None:
    """At the call, by the library's own error."""
    options = {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "nobody"}
    options |= {"sasl.password": PASSWORD, "ssl.ca.location": str(secured.folder / "ca.pem")}
    with pytest.raises(SourceError, match="invalid credentials"):
        Signals.live(secured.address, options=options)


def test_a_file_that_is_no_certificate_is_named(secured: Secured) -> None:
    """Said before anything is asked."""
    assert "ssl.ca.location" in refused(secured, "run", {"KAFKA__OPTIONS__SSL_CA_LOCATION": "/etc/hostname"})


def test_topics_that_are_not_ours_to_see_are_not_called_missing(secured: Secured) -> None:
    """The list of all topics leaves them out, and so does the command's claim; reading them names the permission."""
    create_topics(secured.kafka.bootstrap_servers, [Topic("reserved")])
    secured.reserve(ResourceType.TOPIC, "reserved")
    changed = {"TOPICS__SIGNALS": "reserved", "TOPICS__CONTROL": "nowhere"}
    shown = secured.command("topics", "show", **changed)
    assert shown.returncode == 1
    states = {line.split()[1]: line.split()[0] for line in shown.stdout.splitlines()}
    assert (states["reserved"], states["nowhere"]) == ("hidden", "missing")
    assert "topic reserved: TOPIC_AUTHORIZATION_FAILED" in refused(secured, "signals", changed)


def test_a_group_that_is_not_ours_is_named(secured: Secured) -> None:
    """The permission that lacks is the group's, not the topics'."""
    secured.reserve(ResourceType.GROUP, "theirs")
    said = refused(secured, "run", {"GROUP": "theirs"})
    assert "group theirs: GROUP_AUTHORIZATION_FAILED" in said and "news.raw: GROUP" not in said


def test_signals_with_their_senders_time_are_called_out(secured: Secured) -> None:
    """Availability is the broker's append time: a topic that somebody made by hand has the worker's clock."""
    create_topics(secured.kafka.bootstrap_servers, [Topic("byhand")])
    shown = secured.command("topics", "show", TOPICS__SIGNALS="byhand")
    assert shown.returncode == 1 and "byhand: its records carry the sender's time" in shown.stdout
