"""`earlybird views` through the guarded door of a Kafka: TLS, SCRAM and a password from a file."""

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("faust", reason="NO FAUST: pip install -e '.[views]'")

from earlybird.schemas.codec import encode
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.ports import Outgoing
from earlybird.stream.strategies.invented import invented
from secured import PASSWORD, Secured

pytestmark = pytest.mark.broker

PATIENCE_S = 150.0
COMMAND = ("-m", "earlybird.stream.cli", "views")


def publish(secured: Secured, numbers: range) -> None:
    sink, now_us = KafkaSink(secured.kafka.bootstrap_servers), time.time_ns() // 1000
    for number in numbers:
        one = invented(str(number), now_us, 0.5, symbols=["NRVX"], offset=number)
        sink.send(Outgoing("signals", one.item_key.encode(), encode(one)))
    while sink.unacknowledged():
        sink.receipts(50)
    sink.close()


def symbol(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"{url}/symbols/NRVX?window=1d", timeout=10) as response:
            told: dict[str, Any] = json.load(response)
            return told
    except OSError:
        return {}


def until(condition: Callable[[], object], worker: Any) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, worker.log.read_text(errors="replace")[-3000:]
        time.sleep(0.1)


def test_the_views_work_behind_tls_and_scram(secured: Secured, start_stage: Callable[..., Any]) -> None:
    """Groups, tables, their restoring and the topic of views, under our settings; no password in the log."""
    assert secured.command("topics", "create", "--views").returncode == 0
    publish(secured, range(5))
    first = start_stage("", COMMAND, **secured.environment())
    url = first.wait_for("views.started", PATIENCE_S)["url"]
    until(lambda: symbol(url).get("n") == 5, first)
    assert first.end() == 0
    publish(secured, range(5, 8))
    second = start_stage("", COMMAND, **secured.environment())  # its tables come from the changelogs
    url = second.wait_for("views.started", PATIENCE_S)["url"]
    until(lambda: symbol(url).get("n") == 8, second)
    tail = Tail(secured.kafka.bootstrap_servers, ["views.sentiment"], start="beginning")
    found: list[int] = []

    def told() -> bool:
        found.extend(json.loads(record.value or b"{}")["windows"][3]["n"] for record in tail.poll(100))
        return 8 in found

    until(told, second)
    tail.close()
    assert second.end() == 0
    for worker in (first, second):
        assert PASSWORD not in worker.log.read_text()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"KAFKA__OPTIONS__SSL_CA_LOCATION": __file__}, "ssl.ca.location"),
        ({"KAFKA__OPTIONS__SSL_CIPHER_SUITES": "ECDHE-ECDSA-AES128-GCM-SHA256"}, "cannot use ssl.cipher.suites"),
    ],
)
def test_what_the_views_cannot_use_is_named(secured: Secured, changed: dict[str, str], said: str) -> None:
    """It makes no connection that is another one than was asked for."""
    ended = secured.command("views", **changed)
    assert ended.returncode == 2 and said in ended.stderr, ended.stderr
