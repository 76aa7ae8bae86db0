"""Steps of the Python side, each measured alone over the same records, in pipeline order.

Measured is the CPU time of this process, librdkafka's threads included. The output of a step is the input of the next.
"""

import gc
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from earlybird.engine.config import EngineConfig
from earlybird.engine.engine import Engine
from earlybird.engine.text.tokenizer import duplicate_key
from earlybird.engine.types import Verdict
from earlybird.schemas.raw import RAW
from earlybird.stream.adapters.embedded import EmbeddedRedis
from earlybird.stream.adapters.kafka import KafkaSource
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.memory import NoCache
from earlybird.stream.adapters.redis import RedisCache
from earlybird.stream.bench import null
from earlybird.stream.bench.frames import frame_steps
from earlybird.stream.bench.peers import consume
from earlybird.stream.bench.spans import span_steps
from earlybird.stream.bench.workers import BenchTarget
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.parsing.records import Limits, Readable, read, text_of
from earlybird.stream.ports import Commit, DuplicateCache, Outgoing, Partition, Record
from earlybird.stream.stage.duplicates import Deduplicator
from earlybird.stream.stage.messages import Answer, Entry, Fields
from earlybird.stream.stage.offsets import OffsetTracker
from earlybird.stream.stage.outcome import fields_record, signal_fields

BATCH = 500
DAY_US = 86_400_000_000
PATIENCE_S = 30.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step:
    """Measurement of one step.

    Calibrations are not part of the stage, or not by default: they show what this machine can do.
    """

    name: str
    texts: int
    cpu_s: float
    calibration: bool = False

    @property
    def per_cpu_s(self) -> float:
        """Texts per second of CPU time."""
        return self.texts / self.cpu_s if self.cpu_s else 0.0


def steps(target: BenchTarget, count: int) -> Iterator[Step]:
    """Measure every step once. The raw topic must hold at least `count` records."""
    yield Step("consume(500) alone", *consume(target.endpoint, target.raw, count), True)
    records, step = _consumed(target, count)
    yield step
    values = [record.value or b"" for record in records]
    yield _timed("validate_json alone", lambda: [RAW.validate_json(value) for value in values], True)[1]
    entries, step = _timed("read", lambda: _entries(records))
    yield step
    encoder = null.NullEncoder()
    texts = [text_of(entry.element.item) for entry in entries if isinstance(entry.element, Readable)]
    tokenizer = Engine.load(EngineConfig()).encoder
    yield _timed("tokenise", lambda: _batchwise(texts, tokenizer.encode), True)[1]
    for entry, encoded in zip(entries, encoder.encode(texts), strict=True):
        entry.encoded = encoded
    with EmbeddedRedis() as redis:
        url = target.redis_url or redis.url
        cache = RedisCache(url, ttl_us=DAY_US, lease_ms=2_000, max_layers=null.LAYERS, budget_ms=1_000)
        yield _duplicates("duplicates, Redis", entries, cache)
        cache.close()
    yield _duplicates("duplicates, none", entries, NoCache())
    outgoing, measured = _outcomes(entries)
    yield from measured
    yield _produced(target, outgoing)
    yield _settled(records)


def _consumed(target: BenchTarget, count: int) -> tuple[list[Record], Step]:
    listener = _Everything()
    source = KafkaSource(target.endpoint, [target.raw], f"bench-{uuid.uuid4().hex[:8]}")
    source.subscribe(listener)
    deadline_s = time.monotonic() + PATIENCE_S
    while not (records := source.poll(100, BATCH)) and time.monotonic() < deadline_s:
        pass
    first, start_s = len(records), time.process_time()
    while len(records) < count and time.monotonic() < deadline_s:
        records += source.poll(20, BATCH)
    step = Step("consume", len(records) - first, time.process_time() - start_s)
    source.close()
    return records, step


class _Everything:
    """RebalanceListener without offset tracking."""

    def assigned(self, committed: Mapping[Partition, Commit | None]) -> None:
        """See RebalanceListener.assigned."""

    def waiting(self) -> None:
        """See RebalanceListener.waiting."""

    def read_to(self, ends: Mapping[Partition, int]) -> None:
        """See RebalanceListener.read_to."""

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """See RebalanceListener.revoked."""

    lost = revoked


def _entries(records: Sequence[Record]) -> list[Entry]:
    limits = Limits()
    return [Entry(element, record, 1, null.NOW_US) for record in records for element in read(record, limits)]


def _duplicates(name: str, entries: list[Entry], cache: DuplicateCache) -> Step:
    """Look up each batch in the cache and store its results afterwards."""
    key = partial(duplicate_key, model_sha256="0" * 64, config_hash="0" * 16, numerics=uuid.uuid4().hex[:16])
    duplicates = Deduplicator(cache, key, DAY_US, 2.0, answered=lambda _: None)

    def work(batch: Sequence[Entry]) -> Sequence[Entry]:
        for request in duplicates.look_up(batch):
            verdicts[request.ticket] = null.verdict(request.ticket)
        for entry in batch:
            assert entry.ticket is not None
            entry.answer = Answer(entry.ticket, verdicts[entry.ticket], null.NOW_US, null.NOW_US)
        duplicates.on_acknowledged(batch)
        return batch

    verdicts: dict[int, Verdict] = {}
    return _timed(name, lambda: _batchwise(entries, work))[1]


def _outcomes(entries: list[Entry]) -> tuple[list[Outgoing], list[Step]]:
    origin = null.origin("", "")
    metrics = Metrics(origin.max_layers)
    answered = [(entry, entry.answer) for entry in entries if entry.answer is not None]
    signals, built = _timed("outcome", lambda: [signal_fields(*each, origin, null.NOW_US) for each in answered])
    pairs = list(zip(signals, entries, strict=True))
    outgoing, encoded = _timed("encode", lambda: [fields_record(signal, entry, "") for signal, entry in pairs])

    def count() -> list[Fields]:
        for signal in signals:
            metrics.published(signal)
        return signals

    _, counted = _timed("count", count)
    optional: list[tuple[str, Callable[[], list[Any]]]] = [*span_steps(entries, signals), *frame_steps(outgoing)]
    return outgoing, [built, encoded, counted, *(_timed(name, work, True)[1] for name, work in optional)]


def _produced(target: BenchTarget, outgoing: list[Outgoing]) -> Step:
    """Publish all and wait until the broker has acknowledged them."""
    sink = KafkaSink(target.endpoint)
    records = [replace(record, topic=target.signals) for record in outgoing]

    def work() -> list[object]:
        receipts: list[object] = []
        for record in records:
            sink.send(record, record)
        while len(receipts) < len(records):
            receipts += sink.receipts(10)
        return receipts

    _, step = _timed("produce", work)
    sink.close()
    return step


def _settled(records: Sequence[Record]) -> Step:
    """Deliver in order and finish out of order, with the commits of every batch."""
    offsets = OffsetTracker()
    offsets.assign({Partition(record.topic, record.partition): None for record in records})

    def work(batch: Sequence[Record]) -> Sequence[Record]:
        for record in batch:
            partition = Partition(record.topic, record.partition)
            offsets.deliver(partition, record.offset, 1, null.NOW_US)
        for record in sorted(batch, key=lambda record: hash((record.partition, record.offset * 7919 % 101))):
            partition = Partition(record.topic, record.partition)
            offsets.finish(partition, record.offset, offsets.epoch(partition) or 0)
        offsets.committed(offsets.commits(), confirmed=True)
        return batch

    return _timed("ledger and commit", lambda: _batchwise(records, work))[1]


def _batchwise(things: Sequence[T], work: Callable[[Sequence[T]], Sequence[object]]) -> list[object]:
    return [one for start in range(0, len(things), BATCH) for one in work(things[start : start + BATCH])]


def _timed(name: str, work: Callable[[], list[T]], calibration: bool = False) -> tuple[list[T], Step]:
    """Time `work`, which returns one result per text.

    Garbage is collected before and not during the measurement, since it is rare in the service, too.
    """
    gc.collect()
    gc.disable()
    start_s = time.process_time()
    results = work()
    cpu_s = time.process_time() - start_s
    gc.enable()
    return results, Step(name, len(results), cpu_s, calibration)
