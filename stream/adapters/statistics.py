"""Metrics from the statistics that librdkafka reports every few seconds."""

import json
from collections.abc import Callable, MutableMapping
from functools import partial

INTERVAL_MS = 5_000  # one report costs about a millisecond to write and read


def statistics_into(figures: MutableMapping[str, float], then: Callable[[], None]) -> dict[str, object]:
    """Return client options that keep `figures` up to date and call `then` after each report.

    `brokers`: number of connected brokers; for a consumer also `rebalances` so far. Each is missing until the
    client's first report.
    """
    return {"statistics.interval.ms": INTERVAL_MS, "stats_cb": partial(_update, figures, then)}


def _update(figures: MutableMapping[str, float], then: Callable[[], None], text: str) -> None:
    statistics = json.loads(text)
    # A coordinator has an entry of its own besides its broker's.
    figures["brokers"] = len(
        {broker["nodeid"] for broker in statistics["brokers"].values() if broker["state"] == "UP"} - {-1}
    )
    if "cgrp" in statistics:
        figures["rebalances"] = statistics["cgrp"]["rebalance_cnt"]
    then()
