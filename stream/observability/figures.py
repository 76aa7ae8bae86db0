"""Metrics read at scrape time from values that the stage keeps anyway.

Their names are a contract with dashboards.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Values = Mapping[str, float]
"""Values by their names in FIGURES; a missing one is not exported."""


class Figure(NamedTuple):
    """Export of one value; values of one family differ in one label."""

    family: str
    text: str
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily] = CounterMetricFamily
    label: str = ""
    value: str = ""


def _each(prefix: str, family: str, text: str, label: str, values: Mapping[str, str]) -> dict[str, Figure]:
    """Return one counter split by one label: figure name -> label value."""
    return {
        f"{prefix}.{name}": Figure(family, text, CounterMetricFamily, label, value) for name, value in values.items()
    }


FIGURES: Mapping[str, Figure] = {
    "ready": Figure("ready", "1 while /readyz says so", GaugeMetricFamily),
    "in_flight_limit": Figure("in_flight_limit_texts", "limit of unfinished_texts", GaugeMetricFamily),
    "partitions": Figure("partitions_assigned", "raw partitions assigned to this worker", GaugeMetricFamily),
    "slots.active": Figure("slots_active", "slots in use", GaugeMetricFamily),
    "slots.capacity": Figure("slots_capacity", "slots of all engine threads", GaugeMetricFamily),
    "engine.threads": Figure("engine_threads", "engine threads", GaugeMetricFamily),
    "engine.queued": Figure("engine_queue_texts", "texts that wait for a slot", GaugeMetricFamily),
    "engine.passes": Figure("encoder_iterations", "passes of a layer"),
    "engine.busy_s": Figure("engine_busy_seconds", "time in passes, summed over engine threads"),
    "engine.tokens": Figure("engine_tokens", "tokens computed, counted once per pass"),
    "cache.up": Figure("cache_up", "1 while the duplicate cache is used, 0 while it is bypassed", GaugeMetricFamily),
    "cache.writable": Figure("cache_writable", "0 if the last call had commands refused, else 1", GaugeMetricFamily),
    **_each(
        "cache", "cache_calls", "calls of the duplicate cache by result", "result",
        {"answered": "answered", "failures": "failed", "skipped": "skipped"},
    ),
    **_each(
        "cache", "cache_lookups", "texts looked up in the duplicate cache by result", "result",
        {"hits": "hit", "misses": "miss", "pending": "pending"},
    ),
    "cache.bad": Figure("cache_bad_entries", "unusable cache entries, deleted"),
    "cache.refused": Figure("cache_refused_commands", "commands that Redis refused"),
    **_each(
        "source", "commits", "commits of offsets by result", "result",
        {"commits_accepted": "accepted", "commits_refused": "refused"},
    ),
    "source.out_of_range": Figure("offsets_out_of_range", "committed offsets that the broker had deleted"),
    "source.topics_recreated": Figure("topics_recreated", "partitions of raw topics that were deleted and recreated"),
    "source.rebalances": Figure("rebalances", "rebalances of the consumer group"),
    "ledger.skipped": Figure("records_skipped", "records skipped because a commit map lists them as finished"),
    "ledger.maps_dropped": Figure("commit_maps_dropped", "commit maps too long to write or unusable"),
    "linked": Figure("texts_linked", "texts to which the table of symbols linked one"),
    "sink.errors": Figure("produce_errors", "failed deliveries"),
    "sink.produced_again": Figure("produce_retries", "retried deliveries"),
    **_each(
        "sink", "transactions", "transactions by end (exactly-once)", "result",
        {"transactions_committed": "committed", "transactions_aborted": "aborted"},
    ),
    **{
        f"{client}.brokers": Figure(
            "brokers_connected", "connected brokers by client", GaugeMetricFamily, "client", client
        )
        for client in ("source", "sink")
    },
}  # fmt: skip


class Figures(Collector):
    """Collector that exports the values of `read`, called on the scraper's thread."""

    def __init__(self, read: Callable[[], Values]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Yield each family of metrics once."""
        values, families = self._read(), dict[str, CounterMetricFamily | GaugeMetricFamily]()
        for name, figure in FIGURES.items():
            if name in values:
                labels = [figure.label] if figure.label else []
                family = families.setdefault(
                    figure.family, figure.kind(f"earlybird_{figure.family}", figure.text, labels=labels)
                )
                family.add_metric([figure.value] if figure.label else [], values[name])
        yield from families.values()
