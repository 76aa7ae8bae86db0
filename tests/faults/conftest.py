"""A real Kafka, workers of a group as threads or processes, and an audit of every raw record's outcome."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch

from earlybird.engine.engine import Engine
from earlybird.stream.adapters.clock import SystemClock
from earlybird.stream.adapters.kafka import KafkaSource
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.adapters.topics import create_topics, stage_topics
from earlybird.stream.config.settings import Settings
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.ports import Outgoing, Record
from earlybird.stream.run_worker import open_cache, open_sink
from earlybird.stream.service import load_engine, origin_of
from earlybird.stream.stage.stage import Stage
from whole_audit import Audit

NOW_US = 1_770_000_000_000_000
PATIENCE_S = 150.0  # how long a test waits before it says that something never came
AHEAD = 1_000
TEXTS = (
    "Acme wins order {} worth {} million",
    "Bolt Corp warns on profit after {} of its {} plants stop",
    "Crane Ltd names {} new directors, {} leave",
    "Regulator fines Dorset Bank {} million over {} cases",
    "Ellery to hold its annual meeting on day {} of {}",
)


def item(number: int, headline: str | None = None) -> dict[str, Any]:
    """A raw news item; without a headline its text is its own."""
    return {
        "item_key": f"wire:{number}",
        "source": "wire",
        "source_item_id": str(number),
        "item_type": "news",
        "ingested_us": NOW_US + number,
        "headline": headline or TEXTS[number % len(TEXTS)].format(number, number + 7),
    }


class Ground:
    """Topics and a group that no other test knows, on one broker."""

    def __init__(self, bootstrap_servers: str, unique: Callable[[str], str], *, fixed_names: bool = False) -> None:
        """`fixed_names`: the topics that the demo uses, on a broker of one's own."""
        self.bootstrap_servers = bootstrap_servers
        self.news, self.tweets, self.signals, self.control, self.dlq, self.group = (
            name if fixed_names else unique(name)
            for name in ("news.raw", "tweets.raw", "signals", "signals.control", "raw.dlq", "group")
        )
        self.raw = [self.news, self.tweets] if fixed_names else [self.news]  # what its workers read
        self.watches: list[Watch] = []
        topics = stage_topics(
            [self.news, self.tweets], self.signals, self.control, self.dlq, partitions=6, replication=1
        )
        create_topics(bootstrap_servers, topics)

    def tree(self, **more: Any) -> dict[str, Any]:
        """The settings of a worker of this group."""
        return {
            "group": self.group,
            "kafka": {"bootstrap_servers": self.bootstrap_servers},
            "topics": {
                "raw": [{"name": topic} for topic in self.raw],
                "signals": self.signals,
                "control": self.control,
                "dlq": self.dlq,
            },
            "engine": {"threads": 1},
        } | more

    def environment(self, **more: str) -> dict[str, str]:
        """The same for `start_stage`."""
        return {"GROUP": self.group, "TOPICS": json.dumps(self.tree()["topics"])} | more

    def mortal(self, **more: str) -> dict[str, str]:
        """The same for a stage that is killed or stopped, whose partitions another one gets soon; a live one might lose
        them on a busy machine, too."""
        return self.environment(KAFKA__OPTIONS__SESSION_TIMEOUT_MS="1500") | more

    def publish(self, items: Sequence[dict[str, Any] | list[dict[str, Any]]]) -> None:
        """Items, or arrays of them; all acknowledged when this returns."""
        sink = KafkaSink(self.bootstrap_servers)
        for one in items:
            first = one[0] if isinstance(one, list) else one
            sink.send(Outgoing(self.news, first["item_key"].encode(), json.dumps(one).encode()))
        settle(sink)
        sink.close()

    def watch(self, *, read_committed: bool = True) -> "Watch":
        """Reads what is published from now on back to the beginning."""
        self.watches.append(Watch(self, read_committed=read_committed))
        return self.watches[-1]


class Watch:
    """The audit of one ground, read on as a test goes on. Use as a context manager."""

    def __init__(self, ground: Ground, *, read_committed: bool = True) -> None:
        self.audit, self._read_committed = Audit(), read_committed
        self.signals: list[Record] = []  # of the signals topic, in order per partition
        self._add = {
            ground.news: self.audit.add_raw,
            ground.tweets: self.audit.add_raw,
            ground.signals: self._signal,
            ground.dlq: self.audit.add_rejection,
        }
        self._tail = Tail(
            ground.bootstrap_servers,
            list(self._add),
            start="beginning",
            read_committed=read_committed,
            options={"fetch.wait.max.ms": 10},
        )

    @property
    def answered(self) -> int:
        """Elements with an outcome."""
        return len(self.audit.outcomes)

    def until(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
        """Read on until it holds; fails with the audit's figures when for so long it does not and no outcome comes."""
        answered, deadline = self.answered, time.monotonic() + timeout_s
        while not condition():
            if self.answered > answered:
                answered, deadline = self.answered, time.monotonic() + timeout_s
            assert time.monotonic() < deadline, f"never came: {self.audit.report()}"
            self.read()

    def until_answered(self, records: int) -> Audit:
        """Until so many elements are there and each has an outcome."""
        self.until(lambda: len(self.audit.raw) >= records and not self.audit.raw - self.audit.outcomes.keys())
        return self.audit

    def until_read(self) -> None:
        """Until everything that the broker has now was read."""
        ends = self._tail.ends()
        self.until(lambda: self._tail.reached(ends))

    def ends(self, topic: str) -> dict[int, int]:
        """Offsets by partition up to which it may read now."""
        return {place.number: end for place, end in self._tail.ends().items() if place.topic == topic}

    def read(self) -> None:
        """What there is."""
        for record in self._tail.poll(20):
            if record.value or self._read_committed:  # an aborted transaction may hold an empty record
                self._add[record.topic](record)

    def close(self) -> None:
        self._tail.close()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _signal(self, record: Record) -> None:
        self.signals.append(record)
        self.audit.add_signal(record)


class Feed:
    """Publish news at a steady pace from a thread, until `stop` or the end of the context.

    It is never more than AHEAD before the outcomes that were read: a machine may be slower than the pace."""

    def __init__(self, ground: Ground, burst: int = 20, make: Callable[[int], dict[str, Any]] = item) -> None:
        self.sent = 0
        self._ground, self._burst, self._make = ground, burst, make
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed")

    def __enter__(self) -> "Feed":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> int:
        """Everything that was sent is acknowledged; how much it was."""
        self._stop.set()
        self._thread.join()
        return self.sent

    def _run(self) -> None:
        sink = KafkaSink(self._ground.bootstrap_servers)
        while not self._stop.is_set():
            behind = self.sent - max(watch.answered for watch in self._ground.watches)
            for _ in range(self._burst if behind < AHEAD else 0):
                one = self._make(self.sent)
                sink.send(Outgoing(self._ground.news, one["item_key"].encode(), json.dumps(one).encode()))
                self.sent += 1
            sink.receipts(0)
            self._stop.wait(0.05)
        settle(sink)
        sink.close()


class Worker:
    """A member of the group as threads of this process."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        kafka = settings.kafka
        names = [topic.name for topic in settings.topics.raw]
        self._source = KafkaSource(kafka.endpoint, names, settings.group, protocol=kafka.group_protocol)
        self.cache = open_cache(settings, engine.max_layers)
        self.metrics = Metrics(engine.max_layers)
        self.stage = Stage(
            settings,
            engine,
            origin_of(engine, settings),
            self._source,
            open_sink(settings),
            self.cache,
            SystemClock(),
            self.metrics,
        )
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker")
        self._thread.start()

    @property
    def partitions(self) -> int:
        """How many it has."""
        return len(self.stage.pipeline.offsets.partitions())

    @property
    def finished(self) -> int:
        """Outcomes it published."""
        return self.stage.pipeline.finished_total

    def leave(self) -> None:
        """Drain, commit, leave the group; raises what went wrong."""
        self._stop.set()
        self._thread.join()
        self.cache.close()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            self.stage.run(self._stop)
        except BaseException as error:
            self.error = error


def settle(sink: KafkaSink) -> None:
    """Wait for the last acknowledgement."""
    deadline = time.monotonic() + PATIENCE_S
    while sink.unacknowledged():
        assert time.monotonic() < deadline, f"{sink.unacknowledged()} records were never acknowledged"
        sink.receipts(50)


# Gives a dead member's partitions away after 1.5 s, so that nobody waits for 10 s in each test.
QUICK = {
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "1500",
    "log.cleaner.backoff.ms": "100",
    # A transaction that is too old is looked for this often, every 10 s by default.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "200",
}


@pytest.fixture(scope="session")
def quick_kafka(new_kafka: Callable[..., Any]) -> Any:
    """The broker that these tests share and never kill."""
    return new_kafka(**QUICK)


@pytest.fixture(scope="session")
def own_kafka(new_kafka: Callable[..., Any]) -> Any:
    """A broker of this test alone, which may kill or pause it and must start it again."""
    return new_kafka(**QUICK)


@pytest.fixture
def make_ground(unique: Callable[[str], str]) -> Callable[..., Ground]:
    """make_ground(kafka): topics on that broker."""
    return lambda kafka, **how: Ground(kafka.bootstrap_servers, unique, **how)


@pytest.fixture
def ground(quick_kafka: Any, make_ground: Callable[..., Ground]) -> Ground:
    """Topics and a group on the shared broker."""
    return make_ground(quick_kafka)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The bundled model."""
    torch.set_num_threads(1)  # as in the service
    return load_engine(Settings())


@pytest.fixture
def join(engine: Engine) -> Iterator[Callable[..., Worker]]:
    """join(ground, redis={...}) adds a worker to its group; all have left at the end."""
    started: list[Worker] = []

    def start(ground: Ground, **more: Any) -> Worker:
        started.append(Worker(engine, Settings(**ground.tree(**more))))
        return started[-1]

    yield start
    for worker in started:
        worker.leave()


@pytest.fixture
def make_item() -> Callable[..., dict[str, Any]]:
    return item


@pytest.fixture
def feed() -> type[Feed]:
    return Feed
