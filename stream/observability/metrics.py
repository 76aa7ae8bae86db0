"""Prometheus metrics of a running stage; no decision depends on them.

Metric names and labels are a contract with dashboards. A symbol is never a label, since there are thousands.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from earlybird.schemas.rejection import Reason
from earlybird.schemas.signal import ExitReason, Label, Model
from earlybird.stream.observability.figures import Figures, Values
from earlybird.stream.ports import Partition

# A duplicate takes well under a millisecond; an item behind a burst may wait for minutes.
_LATENCY_S = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25, 0.5, 1, 2, 5, 15, 60, 300)

STAGES: tuple[tuple[str, str, str], ...] = (
    ("provider", "published_us", "ingested_us"),  # the provider's delay; live texts only
    ("read", "ingested_us", "consumed_us"),  # the raw topic and its backlog; live texts only
    ("prepare", "consumed_us", "engine_in_us"),  # decoding, duplicate check, tokenisation, wait for a slot
    ("engine", "engine_in_us", "exited_us"),
    ("publish", "exited_us", "emitted_us"),
)
"""Label of stage_latency_seconds, with the stamps at which the stage begins and ends."""


class Metrics:
    """Counters and gauges with prefix `earlybird_`, in a registry of their own.

    Thread-safe. Methods take batches where the caller has batches; one call costs microseconds.
    """

    def __init__(self, max_layers: int, rungs: Sequence[str] = ()) -> None:
        """Create all series; `rungs` are the policies of a load-following one, see Origin."""
        # They would add a second series per counter, which holds only the time this process started.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"earlybird_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"earlybird_{name}", text, labels, registry=registry)

        layers = tuple(float(layer) for layer in range(1, max_layers + 1))
        self._texts = counter("texts_consumed", "texts consumed", "topic", "item_type")
        self._skipped = counter(
            "elements_skipped", "elements of vendors' records that concern no item, by reason", "topic", "reason"
        )
        self._retractions = counter("retractions", "acknowledged retractions")
        self._rejections = counter("dlq", "acknowledged dead letters by reason", "reason")
        self._each = _PerSignal(layers, rungs)
        registry.register(self._each)
        self._lag = gauge("consumer_lag_messages", "records not yet consumed", "topic", "partition")
        self._oldest = gauge(
            "oldest_unprocessed_seconds", "age of the oldest text without an outcome (of history: since it was read)"
        )
        self._unfinished = gauge("unfinished_texts", "texts consumed and not yet acknowledged")
        self._model = gauge(
            "model_info", "the model in use, as labels", "id", "sha256", "policy", "config_hash", "numerics"
        )
        self._unreadable = gauge(
            "unreadable_records", "records behind a producer's open transaction", "topic", "partition"
        )
        build = ("version", "model_sha256", "config_hash", "numerics", "dtype", "device")
        self._build = gauge("build_info", "software, model and arithmetic of this worker, as labels", *build)
        self._lagging: set[Partition] = set()
        # Every series exists from the start: a rate over a series that appears at its first event misses that event.
        for reason in Reason:
            self._rejections.labels(reason.value)

    def consumed(self, topic: str, item_type: str, texts: int) -> None:
        """Count texts read from one topic; `item_type` is news, tweet or unknown."""
        self._texts.labels(topic, item_type).inc(texts)

    def skipped(self, topic: str, reason: str) -> None:
        """Count an element that has no outcome: a control message, a keep-alive, ..."""
        self._skipped.labels(topic, reason).inc()

    def watch(self, read: Callable[[], Values]) -> None:
        """Export these values as well; `read` is called on the scraper's thread."""
        self.registry.register(Figures(read))

    def published(self, signal: Mapping[str, Any], *, live: bool = True) -> None:
        """Count an acknowledged signal, given as the values of its JSON.

        Counts the signal, its stages and, where it was computed, its exit. With `live` False it is history, whose
        age is no latency.
        """
        if signal["label"] is None:
            self._retractions.inc()
        else:
            self._each.count(signal["label"], signal["exit"], signal["novelty"]["cache_hit"])
        self._each.lived(signal["ts"], live)

    def rejected(self, reason: Reason, texts: int = 1) -> None:
        """Count acknowledged dead letters."""
        self._rejections.labels(reason.value).inc(texts)

    def unreadable(self, records: Mapping[Partition, int]) -> None:
        """Set the records behind a producer's open transaction, for partitions with any."""
        self._unreadable.clear()
        for partition, count in records.items():
            self._unreadable.labels(partition.topic, str(partition.number)).set(count)

    def lag(self, records: Mapping[Partition, int]) -> None:
        """Set the lag per partition: records not yet consumed.

        A partition that is no longer named belongs to another worker, and its series is removed.
        """
        for gone in self._lagging - records.keys():
            self._lag.remove(gone.topic, str(gone.number))
        for partition, count in records.items():
            self._lag.labels(partition.topic, str(partition.number)).set(count)
        self._lagging = set(records)

    def unfinished(self, texts: int, oldest_age_s: float) -> None:
        """Set the number of texts without an acknowledged outcome, and the oldest's age.

        The age is 0 without any.
        """
        self._unfinished.set(texts)
        self._oldest.set(max(0.0, oldest_age_s))

    def model(self, model: Model) -> None:
        """Export the model and the build in use, as labels of a constant 1."""
        self._model.labels(model.id, model.sha256, model.policy, model.config_hash, model.numerics).set(1)
        build = (model.code_version, model.sha256, model.config_hash, model.numerics, model.dtype, model.device)
        self._build.labels(*build).set(1)

    def exposition(self) -> bytes:
        """Return the Prometheus text format, version 0.0.4."""
        return generate_latest(self.registry)

    def page(self, accepted: str = "") -> tuple[str, bytes]:
        return page_of(self.registry, accepted)


def page_of(collector: Collector, accepted: str) -> tuple[str, bytes]:
    """Return content type and text for a scraper's Accept header.

    OpenMetrics where the header names it, else Prometheus's own text format.
    """
    if "application/openmetrics-text" in accepted:
        return openmetrics.CONTENT_TYPE_LATEST, openmetrics.generate_latest(collector)  # type: ignore[no-untyped-call]
    return CONTENT_TYPE_PLAIN_0_0_4, generate_latest(collector)


class _Distribution:
    """Histogram counts without locks: one thread writes, a scrape reads."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds, self._counts, self._sum = bounds, [0] * (len(bounds) + 1), 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_to(self, family: HistogramMetricFamily, *labels: str) -> None:
        counts = list(accumulate(self._counts))
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        family.add_metric(labels, list(zip(names, counts, strict=True)), self._sum)


class _PerSignal(Collector):
    """Counters and histograms that every signal updates.

    prometheus_client's own counters cost 6 us per call here and a signal needs ten calls; these cost a tenth of
    that. Publisher's thread only, except `collect`.
    """

    def __init__(self, layers: tuple[float, ...], rungs: Sequence[str]) -> None:
        # Every series exists from the start: a rate over one that appears at its first event misses that event.
        reasons = (ExitReason.CONFIDENCE, ExitReason.WINDOW, ExitReason.LAST_LAYER, ExitReason.DEADLINE)
        self._signals = {(label.value, reason.value): 0 for label in Label for reason in reasons}
        self._hits = 0
        self._rungs = dict.fromkeys(rungs, 0)
        self._exits = _Distribution(layers)
        self._latency = _Distribution(_LATENCY_S)
        self._stages = [(name, begin, end, _Distribution(_LATENCY_S)) for name, begin, end in STAGES]
        self._spans = [*self._stages, ("latency", "ingested_us", "emitted_us", self._latency)]
        self._own_spans = [span for span in self._spans if span[1] not in ("published_us", "ingested_us")]

    def count(self, label: str, exited: Mapping[str, Any], hit: bool) -> None:
        key = (label, exited["reason"])
        self._signals[key] = self._signals.get(key, 0) + 1
        if hit:
            self._hits += 1
        else:
            self._exits.observe(exited["layer"])
            if exited["policy"] in self._rungs:
                self._rungs[exited["policy"]] += 1

    def lived(self, stamps: Mapping[str, int | None], live: bool) -> None:
        for _, begin, end, distribution in self._spans if live else self._own_spans:
            start_us, end_us = stamps[begin], stamps[end]
            if start_us is not None and end_us is not None:
                distribution.observe(max(0, end_us - start_us) / 1e6)  # clocks of two machines may disagree

    def collect(self) -> Iterator[Metric]:
        hits = CounterMetricFamily("earlybird_dedup_hits", "duplicates, answered by Redis or the same text in flight")
        hits.add_metric((), self._hits)
        signals = CounterMetricFamily(
            "earlybird_signals_published", "acknowledged signals with a result", labels=("label", "exit_reason")
        )
        for labels, count in list(self._signals.items()):
            signals.add_metric(labels, count)
        exits = HistogramMetricFamily("earlybird_exit_layer", "exit layer of computed texts", labels=())
        self._exits.add_to(exits)
        latency = HistogramMetricFamily(
            "earlybird_signal_latency_seconds", "time from ingestion to signal, live texts", labels=()
        )
        self._latency.add_to(latency)
        stages = HistogramMetricFamily(
            "earlybird_stage_latency_seconds", "time per stage: feed, read, prepare, engine, publish", labels=("stage",)
        )
        for name, _, _, distribution in self._stages:
            distribution.add_to(stages, name)
        rungs = CounterMetricFamily(
            "earlybird_load_policy_texts", "computed texts by the policy that the load chose", labels=("policy",)
        )
        for policy, count in list(self._rungs.items()):
            rungs.add_metric((policy,), count)
        yield from (hits, signals, exits, latency, stages, rungs)
