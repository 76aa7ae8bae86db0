"""Members of groups and brokers to join, for what must hold on a Kafka."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from apicurio import Apicurio, RegistryUnavailable
from earlybird.stream.adapters.embedded import CLIENT_OPTIONS, EmbeddedBroker
from earlybird.stream.adapters.kafka import KafkaSource
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.topics import Topic, create_topics
from earlybird.stream.config.client_options import KafkaEndpoint
from earlybird.stream.ports import Commit, Outgoing, Partition, Record
from secured import Secured
from secured import start as start_secured

PATIENCE_S = 150.0  # how long a test waits before it says that something never came


@dataclass
class Member:
    """A source and the listener that remembers what happened to it."""

    source: KafkaSource
    owned: dict[Partition, Commit | None] = field(default_factory=dict)
    events: list[tuple[str, list[Partition]]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    ends: dict[Partition, int] = field(default_factory=dict)  # up to which all was read
    at_assignment: Callable[[], None] = lambda: None
    at_revocation: Callable[[], None] = lambda: None
    at_loss: Callable[[], None] = lambda: None

    def assigned(self, committed: Mapping[Partition, Commit | None]) -> None:
        self.events.append(("assigned", sorted(committed)))
        self.owned.update(committed)
        self.at_assignment()

    def revoked(self, partitions: Sequence[Partition]) -> None:
        self.events.append(("revoked", sorted(partitions)))
        self.at_revocation()
        self._forget(partitions)

    def waiting(self) -> None: ...

    def read_to(self, ends: Mapping[Partition, int]) -> None:
        self.ends.update(ends)

    def lost(self, partitions: Sequence[Partition]) -> None:
        self.events.append(("lost", sorted(partitions)))
        self.at_loss()
        self._forget(partitions)

    def poll(self, timeout_ms: int = 50, limit: int = 500) -> list[Record]:
        new = self.source.poll(timeout_ms, limit)
        self.records += new
        return new

    def poll_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"never came; events: {self.events}, records: {len(self.records)}"
            self.poll()

    def values(self) -> list[bytes | None]:
        return [record.value for record in self.records]

    def _forget(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            self.owned.pop(partition, None)


@dataclass
class Broker:
    """An address, and what a test does there."""

    bootstrap_servers: str
    options: Mapping[str, Any]
    real: bool
    unique: Callable[[str], str]
    server: Any = None  # the LocalKafka, to kill and pause
    members: list[Member] = field(default_factory=list)

    @property
    def endpoint(self) -> KafkaEndpoint:
        return KafkaEndpoint(self.bootstrap_servers, self.options)

    def topic(self, partitions: int = 1, **config: str) -> str:
        """A new topic. The embedded broker makes topics on first use, always with 4 partitions."""
        name = self.unique("topic")
        if self.real:
            create_topics(self.bootstrap_servers, [Topic(name, partitions, 1, config)])
        return name

    def join(self, topic: str | Sequence[str], group: str, *, protocol: Any = "classic", **options: Any) -> Member:
        """A member that has subscribed and not polled."""
        if not self.real and protocol == "classic":
            options.setdefault("session.timeout.ms", 2000)  # the mock waits that long for a member that has left
        endpoint = KafkaEndpoint.of(self.endpoint, options)
        topics = [topic] if isinstance(topic, str) else topic
        source = KafkaSource(endpoint, topics, group, protocol=protocol)
        member = Member(source)
        source.subscribe(member)
        self.members.append(member)
        return member

    def publish(self, topic: str, values: Sequence[bytes | None], key: bytes | None = b"k", **options: Any) -> None:
        """Records of one key, so of one partition, all acknowledged. `options`: further ones of the producer."""
        sink = KafkaSink(self.bootstrap_servers, options={**self.options, **options})
        for value in values:
            sink.send(Outgoing(topic, key, value))
        self.settle(sink)
        sink.close()

    def until(self, condition: Callable[[], bool]) -> None:
        """Fails when it does not come to hold."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "it never came"
            time.sleep(0.01)

    def settle(self, sink: KafkaSink) -> list[object]:
        """All receipts of what was handed over."""
        receipts: list[object] = []
        deadline = time.monotonic() + PATIENCE_S
        while sink.unacknowledged():
            assert time.monotonic() < deadline, f"{sink.unacknowledged()} records were never acknowledged"
            receipts += sink.receipts(50)
        return receipts + sink.receipts()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker on a busy machine answers late; that is no refusal."""
    monkeypatch.setattr("earlybird.stream.adapters.offsets.COMMIT_TIMEOUT_S", PATIENCE_S)


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedBroker]:
    """One embedded broker for all."""
    with EmbeddedBroker({}) as broker:
        yield broker


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.broker)])
def broker(request: pytest.FixtureRequest, unique: Callable[[str], str]) -> Iterator[Broker]:
    """The embedded broker and a real one: what is promised must hold on both."""
    server = request.getfixturevalue(request.param)
    real = request.param == "kafka"
    broker = Broker(server.bootstrap_servers, {} if real else CLIENT_OPTIONS, real, unique)
    yield broker
    for member in broker.members:
        member.source.close()


@pytest.fixture
def real_broker(kafka: Any, unique: Callable[[str], str]) -> Iterator[Broker]:
    """A real Kafka, for what the embedded broker only pretends."""
    broker = Broker(kafka.bootstrap_servers, {}, True, unique)
    yield broker
    for member in broker.members:
        member.source.close()


@pytest.fixture
def own_broker(new_kafka: Callable[[], Any], unique: Callable[[str], str]) -> Iterator[Broker]:
    """A real Kafka that nobody shares: `server` may be killed, paused and started again."""
    server = new_kafka()
    broker = Broker(server.bootstrap_servers, {}, True, unique, server)
    yield broker
    for member in broker.members:
        member.source.close()
    server.stop()


@pytest.fixture(scope="module")
def secured(new_kafka: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A broker behind TLS and SCRAM with one user."""
    secured = start_secured(new_kafka, tmp_path_factory.mktemp("secured"))
    yield secured
    secured.kafka.stop()


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    """A schema registry that all tests share: use topics from `unique`, and leave it running."""
    try:
        running = Apicurio(tmp_path_factory.mktemp("registry")).start()
    except RegistryUnavailable as error:
        pytest.skip(f"NO REGISTRY: {error}")
    yield running
    running.close()
