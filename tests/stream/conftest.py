"""A whole stage in one thread: the real model, pipeline and publisher between in-memory ports, stepped by hand. And for
stages that are processes an embedded broker that publishes and audits."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from opentelemetry.trace import Tracer

from earlybird.engine.config import EngineConfig
from earlybird.engine.engine import Engine
from earlybird.engine.text.tokenizer import duplicate_key
from earlybird.schemas.codec import decode
from earlybird.schemas.rejection import Rejection
from earlybird.schemas.signal import Model, Signal
from earlybird.stream.adapters.clock import ManualClock
from earlybird.stream.adapters.embedded import EmbeddedBroker
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.memory import MemoryCache, MemorySink, MemorySource
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.feeds.reader import Reader
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.parsing.records import Limits
from earlybird.stream.ports import Commit, DuplicateCache, Outgoing, Partition, Record
from earlybird.stream.stage.budget import Budget
from earlybird.stream.stage.deadlines import Deadlines, LatenessPolicy
from earlybird.stream.stage.duplicates import Deduplicator
from earlybird.stream.stage.messages import Answer, Answers, TimedRequest, ToPublisher
from earlybird.stream.stage.outcome import Origin
from earlybird.stream.stage.pipeline import Pipeline
from earlybird.stream.stage.publisher import Publisher
from earlybird.stream.stage.spans import Spans
from whole_audit import Audit

NOW_US = 1_770_000_000_000_000
DAY_US = 86_400_000_000
TOPICS = {"news.raw": 4, "tweets.raw": 2, "signals": 4, "signals.control": 1, "raw.dlq": 1, "signals.again": 4}
PATIENCE_S = 150.0


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The bundled model."""
    torch.set_num_threads(1)  # as in the service
    return Engine.load(EngineConfig())


class Held:
    """An Inference that computes when told, in the order told: exits out of order at will."""

    def __init__(self, engine: Engine, publish: Callable[[Answers], None], now_us: Callable[[], int]) -> None:
        self._engine, self._publish, self._now_us = engine, publish, now_us
        self.requests: list[TimedRequest] = []
        self.computed = 0
        self._deadlines = Deadlines()

    def submit(self, requests: list[TimedRequest]) -> None:
        self.requests += requests
        self._deadlines.watch(requests)

    def exit(self, index: int = 0) -> None:
        """The request at this place leaves the model; after one layer if its time is over."""
        late = self._deadlines.late(self._now_us(), {request.ticket for request in self.requests})
        for place, request in enumerate(self.requests):
            if request.ticket in late:
                self.requests[place] = replace(request, depth_limit=1)
        request = self.requests.pop(index)
        runner = self._engine.runner()
        runner.submit([request])
        while not (verdicts := runner.step()):
            pass
        self.computed += 1
        self._publish(Answers([Answer(request.ticket, verdicts[0], self._now_us(), self._now_us())]))

    def fail(self, index: int = 0) -> None:
        """The engine breaks on the request at this place."""
        self._publish(Answers([Answer(self.requests.pop(index).ticket, None, error="boom")]))


class World:
    """One worker. `committed` is the group's store and `cache` the shared cache: hand both to the next worker."""

    def __init__(
        self,
        engine: Engine,
        committed: dict[Partition, Commit] | None = None,
        cache: DuplicateCache | None = None,
        budget: Budget | None = None,
        read: Reader | None = None,
        lateness: LatenessPolicy | None = None,
        longest_wait_s: float = 600.0,
        tracer: Tracer | None = None,
    ) -> None:
        self.clock = ManualClock(NOW_US)
        self.source = MemorySource(committed)
        self.sink = MemorySink()
        model = Model(
            id=engine.model_id,
            sha256=engine.model_sha256,
            profile=engine.profile,
            policy=engine.policy.spec,
            config_hash=engine.config_hash,
            numerics=engine.numerics,
            dtype=engine.dtype,
            device=engine.device,
            code_version="test",
        )
        read = read or Reader(Limits())
        self.metrics = metrics = Metrics(engine.max_layers)
        origin = Origin(model, engine.max_layers, engine.calibrated, rungs=engine.rungs)
        spans = None if tracer is None else Spans(tracer, self.clock, "earlybird")
        self.publisher = Publisher(self.sink, origin, "signals.control", self.clock, metrics, spans)
        self.said: list[ToPublisher] = []  # to the publisher, by the pipeline and the model

        def publish(message: ToPublisher) -> None:
            self.said.append(message)
            self.publisher.inbox.put(message)

        self.model = Held(engine, publish, self.clock.now_us)
        duplicates = Deduplicator(
            cache or MemoryCache(DAY_US),
            partial(duplicate_key, model_sha256=model.sha256, config_hash=model.config_hash, numerics=model.numerics),
            DAY_US,
            longest_wait_s,
            answered=lambda answers: publish(Answers(answers)),
        )
        self.pipeline = Pipeline(
            self.source,
            engine.encoder,
            duplicates,
            self.model,
            publish,
            self.publisher.finished,
            self.clock,
            metrics,
            read,
            budget or Budget(commit_interval_ms=0, revoke_timeout_ms=1, acknowledge_timeout_ms=1),
            lateness,
            ready=read.ready,
        )
        self.source.subscribe(self.pipeline)

    def turn(self, times: int = 2) -> None:
        """The consumer's and the publisher's turn, a few times each."""
        for _ in range(times):
            self.pipeline.run_once()
            self.publisher.run_once(0.001)

    def finish(self) -> None:
        """Let everything out."""
        self.turn()
        while self.model.requests:
            self.model.exit()
        self.turn(3)

    @property
    def signals(self) -> list[Signal]:
        """Published so far, in order."""
        return [decode(Signal, sent.value or b"") for sent in self.sink.sent if sent.topic == "signals"]

    @property
    def rejections(self) -> list[Rejection]:
        """Dead letters so far, in order."""
        return [decode(Rejection, sent.value or b"") for sent in self.sink.sent if sent.topic == "raw.dlq"]


@pytest.fixture
def worlds(engine: Engine) -> Iterator[Callable[..., World]]:
    """Makes workers: worlds(partitions, committed=..., cache=..., engine=...)."""

    def make(partitions: Sequence[int] = (0,), **about: Any) -> World:
        world = World(about.pop("engine", engine), **about)
        world.source.assign([Partition("news.raw", number) for number in partitions])
        return world

    yield make


def news(item: str, headline: str | None, **fields: Any) -> dict[str, Any]:
    """One raw news item."""
    return {
        "item_key": f"wire:{item}",
        "source": "wire",
        "source_item_id": item,
        "item_type": "news",
        "ingested_us": NOW_US,
        "headline": headline,
    } | fields


def record(offset: int, value: object, *, partition: int = 0, key: str | None = None) -> Record:
    """A record of news.raw; `value` is JSON unless it is bytes or None."""
    content = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    if key is None and isinstance(value, dict):
        key = value.get("item_key")
    return Record("news.raw", partition, offset, None if key is None else key.encode(), content, NOW_US)


@pytest.fixture
def make_news() -> Callable[..., dict[str, Any]]:
    return news


@pytest.fixture
def make_record() -> Callable[..., Record]:
    return record


def until(condition: Callable[[], bool]) -> None:
    """Fails when it does not come to hold."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.001)


@pytest.fixture(name="until")
def _until() -> Callable[[Callable[[], bool]], None]:
    return until


class Ground(EmbeddedBroker):
    """A broker of one's own, with somebody who publishes to it and somebody who keeps the account."""

    def publish(self, count: int, start: int = 0, *, garbage: bool = False) -> None:
        """So many different news items, and one record that is none."""
        sink = KafkaSink(self.bootstrap_servers)
        for number in range(start, start + count):
            item = news(str(number), f"Acme wins order number {number} worth {number} million")
            item["ingested_us"] += number
            sink.send(Outgoing("news.raw", item["item_key"].encode(), json.dumps(item).encode()))
        if garbage:
            sink.send(Outgoing("news.raw", b"x", b"\x00garbage"))
        while sink.unacknowledged():
            sink.receipts(100)
        sink.close()

    def audit(self, records: int) -> Audit:
        """Reads until each of so many records has an outcome."""
        result = Audit()
        add = {"news.raw": result.add_raw, "signals": result.add_signal, "raw.dlq": result.add_rejection}
        tail = Tail(self.bootstrap_servers, list(add), start="beginning", options={"fetch.wait.max.ms": 5})
        deadline = time.monotonic() + PATIENCE_S
        while len(result.raw) < records or result.raw - result.outcomes.keys():
            assert time.monotonic() < deadline, result.report()
            for record in tail.poll(100):
                add[record.topic](record)
        tail.close()
        return result


@pytest.fixture
def ground() -> Iterator[Ground]:
    """Started, with the topics that a stage needs."""
    with Ground(TOPICS) as running:
        yield running
