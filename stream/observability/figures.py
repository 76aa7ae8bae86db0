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
    "in_flight_limit": Figure("in_flight_limit_texts", "the most unfinished_texts there may be", GaugeMetricFamily),
    "partitions": Figure("partitions_assigned", "partitions of raw topics that are read here", GaugeMetricFamily),
    "slots.active": Figure("slots_active", "slots in use", GaugeMetricFamily),
    "slots.capacity": Figure("slots_capacity", "slots there are", GaugeMetricFamily),
    "engine.passes": Figure("encoder_iterations", "passes of the shared layer"),
    "engine.busy_s": Figure("engine_busy_seconds", "time that engine threads spent in passes, over all threads"),
    "engine.tokens": Figure("engine_tokens", "tokens that went through the layer, counted once per pass"),
    "cache.up": Figure("cache_up", "1 while the duplicate cache is asked, 0 while it is left alone", GaugeMetricFamily),
    "cache.writable": Figure("cache_writable", "1 unless the last call had commands refused", GaugeMetricFamily),
    **_each(
        "cache", "cache_calls", "calls of the cache by their end", "result",
        {"answered": "answered", "failures": "failed", "skipped": "skipped"},
    ),
    **_each(
        "cache", "cache_lookups", "texts that the cache was asked about", "result",
        {"hits": "hit", "misses": "miss", "pending": "pending"},
    ),
    "cache.bad": Figure("cache_bad_entries", "entries that were thrown away"),
    "cache.refused": Figure("cache_refused_commands", "commands that the cache's server refused"),
    **_each(
        "source", "commits", "commits of offsets by their end", "result",
        {"commits_accepted": "accepted", "commits_refused": "refused"},
    ),
    "source.out_of_range": Figure("offsets_out_of_range", "times that committed offsets were not there any more"),
    "source.topics_recreated": Figure("topics_recreated", "raw topics that were deleted and made again"),
    "source.rebalances": Figure("rebalances", "rebalances of the group"),
    "ledger.skipped": Figure("records_skipped", "records read again that a commit map called finished"),
    "ledger.maps_dropped": Figure("commit_maps_dropped", "commit maps that were too long to write or not usable"),
    "sink.errors": Figure("produce_errors", "deliveries that failed"),
    "sink.produced_again": Figure("produce_retries", "records that were produced again"),
    **{
        f"{client}.brokers": Figure(
            "brokers_connected", "brokers that a client is connected to", GaugeMetricFamily, "client", client
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
