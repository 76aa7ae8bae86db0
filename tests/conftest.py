"""Real servers for the tests: Kafka from Maven's jars, Valkey from its wheel, redis-server where it is on PATH."""

import importlib.util
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


def _local_kafka() -> ModuleType:
    spec = importlib.util.spec_from_file_location("local_kafka", ROOT / "deploy" / "kafka" / "local.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def new_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Starts a broker of one's own, to kill, pause or configure; all are gone at the end."""
    local = _local_kafka()
    started: list[Any] = []

    def start(**options: str) -> Any:
        try:
            kafka = local.LocalKafka(tmp_path_factory.mktemp("kafka"), options=options)
            kafka.start()
        except local.KafkaUnavailable as error:
            if os.environ.get("CI"):
                pytest.fail(f"NO KAFKA IN CI: {error}")
            pytest.skip(f"NO REAL KAFKA: {error}")
        started.append(kafka)
        return kafka

    yield start
    for kafka in started:
        kafka.stop()


@pytest.fixture(scope="session")
def kafka(new_kafka: Callable[..., Any]) -> Any:
    """The broker that all tests share: use names from `unique`, never kill it."""
    return new_kafka()


@pytest.fixture
def unique() -> Callable[[str], str]:
    """A name that no other test uses, for topics and groups."""
    return lambda name: f"{name}-{uuid.uuid4().hex[:8]}"


@pytest.fixture(params=["valkey", "redis-server"])
def redis_server(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A server of one's own, to kill and pause: Valkey from the wheel always, redis-server where there is one."""
    from stream.adapters.embedded import EmbeddedRedis

    program = None if request.param == "valkey" else shutil.which(request.param)
    if request.param != "valkey" and program is None:
        pytest.skip("no redis-server on PATH: apt-get install redis-server")
    with EmbeddedRedis(program=program) as server:
        yield server
