"""A stage to watch, the files of deploy/, and the tools that only some machines have."""

import json
import os
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from earlybird.stream.adapters.embedded import EmbeddedBroker, EmbeddedRedis
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.ports import Outgoing

DEPLOY = Path(__file__).parents[2] / "deploy"
TOPICS = {"news.raw": 4, "tweets.raw": 4, "signals": 4, "signals.control": 1, "raw.dlq": 1}
PATIENCE_S = 150.0  # on a machine that does other things, too


def until(condition: Callable[[], object], what: str) -> None:
    """Fails when it does not come to hold."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.1)


def get(url: str, accept: str = "*/*") -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def publish(bootstrap_servers: str, count: int, start: int = 0) -> None:
    """So many different news items of now, and a record that is none."""
    sink = KafkaSink(bootstrap_servers)
    for number in range(start, start + count):
        key = f"wire:{number}"
        item = {
            "item_key": key, "source": "wire", "source_item_id": str(number), "item_type": "news",
            "published_us": time.time_ns() // 1000, "ingested_us": time.time_ns() // 1000, "lang": "en",
            "headline": f"Norvex wins order number {number % 50}",
        }  # fmt: skip
        sink.send(Outgoing("news.raw", key.encode(), json.dumps(item).encode()))
    sink.send(Outgoing("news.raw", b"x", b"\x00garbage"))
    while sink.unacknowledged():
        sink.receipts(100)
    sink.close()


@pytest.fixture(name="until")
def _until() -> Callable[[Callable[[], object], str], None]:
    return until


@pytest.fixture(name="get")
def _get() -> Callable[..., str]:
    return get


@pytest.fixture(name="publish")
def _publish() -> Callable[..., None]:
    return publish


@pytest.fixture
def servers() -> Iterator[tuple[EmbeddedBroker, EmbeddedRedis]]:
    """A broker with the stage's topics, and a Redis to kill."""
    with EmbeddedBroker(TOPICS) as broker, EmbeddedRedis() as redis:
        yield broker, redis


@pytest.fixture(scope="session")
def rules() -> dict[str, dict[str, Any]]:
    """Alerts by name."""
    groups = yaml.safe_load((DEPLOY / "prometheus" / "earlybird.rules.yml").read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


@pytest.fixture(scope="session")
def queries() -> dict[str, str]:
    """Queries of the dashboard by panel and legend."""
    board = json.loads((DEPLOY / "grafana" / "earlybird.json").read_text(encoding="utf-8"))
    return {
        f"{panel['title']}: {target['legendFormat']}": target["expr"]
        for panel in board["panels"]
        for target in panel.get("targets", ())
    }


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Path of a program; a test that lacks it is skipped aloud."""

    def find(name: str) -> str:
        here = DEPLOY.parent / "var" / "tools" / name
        found = str(here) if here.exists() else shutil.which(name)
        if found is None:
            pytest.skip(f"NO {name.upper()}: make deploy-tools")
        return found

    return find


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """This process's environment without our settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("EARLYBIRD_")}
