"""From the raw record's produce() to the signal in a consumer's hands, at a steady rate, with the real model.

And beside it the bare broker: the same records, in the same run, from produce() to a consumer of the raw topic."""

import time
from dataclasses import dataclass

from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.bench.load import records
from earlybird.stream.bench.workers import Place, Workers
from earlybird.stream.errors import StreamError
from earlybird.stream.ports import Outgoing

PATIENCE_S = 30.0
# Not counted. The worker is let go by resuming its partitions, after which librdkafka takes up to a second to fetch
# again; what has piled up by then is worked off, and the model's first passes are slow.
WARM_UP_S = 3.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds. `broker` is the bare round trip, `signal` the whole way."""

    rate: float
    texts: int
    broker_p50: float
    broker_p99: float
    signal_p50: float
    signal_p99: float


def latency(place: Place, rate: float, seconds: float) -> Latency:
    """Paced at `rate` texts a second for so long. Raises StreamError when signals do not come."""
    warm_up = round(rate * WARM_UP_S)
    texts = records(place.raw, warm_up + round(rate * seconds))
    sink = KafkaSink(place.bootstrap_servers)
    tail = Tail(place.bootstrap_servers, [place.raw, place.signals], start="end", options=place.options)
    sent_s: list[float] = []
    seen: dict[str, dict[bytes, float]] = {place.raw: {}, place.signals: {}}
    with Workers(place, "bundled", tokenise=True, idle=False) as workers:
        workers.go()
        start_s = time.perf_counter()
        while len(seen[place.signals]) < len(texts):
            now_s = time.perf_counter()
            if len(sent_s) < len(texts) and now_s >= start_s + len(sent_s) / rate:
                record = texts[len(sent_s)]
                sent_s.append(now_s)
                sink.send(Outgoing(record.topic, record.key, record.value))
            sink.receipts(0)
            for record in tail.poll(1):
                seen[record.topic].setdefault(record.key or b"", time.perf_counter())
            if now_s - start_s > len(texts) / rate + PATIENCE_S:
                raise StreamError(f"{len(texts) - len(seen[place.signals])} of {len(texts)} signals did not come")
    sink.close()
    tail.close()
    sent = {text.key: at_s for text, at_s in zip(texts, sent_s, strict=True)}
    broker, signal = (
        sorted(1000 * (seen[topic][text.key or b""] - sent[text.key]) for text in texts[warm_up:])
        for topic in (place.raw, place.signals)
    )
    return Latency(rate, len(signal), _at(broker, 50), _at(broker, 99), _at(signal, 50), _at(signal, 99))


def _at(ordered: list[float], percent: int) -> float:
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 2)
