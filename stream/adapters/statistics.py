"""What librdkafka says of a client every few seconds, as figures."""

import json
from collections.abc import MutableMapping
from functools import partial

INTERVAL_MS = 5_000  # to write and read it costs about a millisecond


def statistics_into(figures: MutableMapping[str, float]) -> dict[str, object]:
    """Options of a client that keeps these figures: `brokers` it is connected to, and, of a consumer, `rebalances` so
    far. Neither is there before the client has said so."""
    return {"statistics.interval.ms": INTERVAL_MS, "stats_cb": partial(_take, figures)}


def _take(figures: MutableMapping[str, float], text: str) -> None:
    said = json.loads(text)
    # A coordinator has an entry of its own beside that of its broker.
    figures["brokers"] = len({one["nodeid"] for one in said["brokers"].values() if one["state"] == "UP"} - {-1})
    if "cgrp" in said:
        figures["rebalances"] = said["cgrp"]["rebalance_cnt"]
