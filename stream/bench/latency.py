"""End-to-end latency at a steady rate with the real model.

Measured from produce() of the raw record to the signal in a consumer. The same run also measures the bare broker with
the same records: from produce() to a consumer of the raw topic.
"""

import time
from dataclasses import dataclass

from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.bench.load import records
from earlybird.stream.bench.workers import BenchTarget, Workers
from earlybird.stream.errors import StreamError
from earlybird.stream.ports import Outgoing

PATIENCE_S = 30.0
# Excluded from the figures. The worker starts when its partitions are resumed. librdkafka then takes up to a second to
# fetch again, the backlog of that second is worked off, and the model's first passes are slow.
WARM_UP_S = 3.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Latencies in milliseconds.

    `broker` is the bare round trip through Kafka, `signal` the way from raw record to signal.
    """

    rate: float
    texts: int
    broker_p50: float
    broker_p99: float
    signal_p50: float
    signal_p99: float


def latency(
    target: BenchTarget, rate: float, seconds: float, engine: str = "bundled", *, read_committed: bool = True
) -> Latency:
    """Measure latency at `rate` texts per second for `seconds`.

    `read_committed`: as a reader of committed records, else of all. The raw topic must be empty.

    Raises StreamError when signals are missing.
    """
    warm_up = round(rate * WARM_UP_S)
    texts = records(target.raw, warm_up + round(rate * seconds))
    sink = KafkaSink(target.endpoint)
    topics = [target.raw, target.signals]
    tail = Tail(target.endpoint, topics, start="end", read_committed=read_committed)
    sent_s: list[float] = []
    seen: dict[str, dict[bytes, float]] = {target.raw: {}, target.signals: {}}
    with Workers(target, engine, tokenise=True, idle=False) as workers:
        workers.go()
        start_s = time.perf_counter()
        while len(seen[target.signals]) < len(texts):
            now_s = time.perf_counter()
            if len(sent_s) < len(texts) and now_s >= start_s + len(sent_s) / rate:
                record = texts[len(sent_s)]
                sent_s.append(now_s)
                sink.send(Outgoing(record.topic, record.key, record.value))
            sink.receipts(0)
            for record in tail.poll(1):
                seen[record.topic].setdefault(record.key or b"", time.perf_counter())
            if now_s - start_s > len(texts) / rate + PATIENCE_S:
                raise StreamError(f"{len(texts) - len(seen[target.signals])} of {len(texts)} signals did not come")
    sink.close()
    tail.close()
    sent = {text.key: at_s for text, at_s in zip(texts, sent_s, strict=True)}
    broker, signal = (
        sorted(1000 * (seen[topic][text.key or b""] - sent[text.key]) for text in texts[warm_up:])
        for topic in (target.raw, target.signals)
    )
    return Latency(rate, len(signal), _at(broker, 50), _at(broker, 99), _at(signal, 50), _at(signal, 99))


def _at(ordered: list[float], percent: int) -> float:
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 2)
