"""Copies, retweets, corrections and deletions through two workers on a real broker: the demo's table holds there."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from earlybird.schemas.codec import decode
from earlybird.schemas.signal import Signal, SignalAction
from earlybird.stream.adapters.embedded import EmbeddedRedis
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.demo.items import demo_feed
from earlybird.stream.demo.playback import Playback

pytestmark = pytest.mark.broker


@pytest.fixture
def redis() -> Iterator[EmbeddedRedis]:
    """Shared by the workers."""
    with EmbeddedRedis() as server:
        yield server


def test_odd_items_have_their_outcomes_and_keys_their_order(
    own_kafka: Any, make_ground: Callable[..., Any], join: Callable[..., Any], redis: EmbeddedRedis
) -> None:
    """Every odd item is answered as the table says, and a strategy sees the outcomes of one item in the order of its
    partition, so that the last word on it is the last one it reads."""
    ground = make_ground(own_kafka, fixed_names=True)
    # Longer than any answer takes: a cache that is given up would have a copy computed, which is right, but no hit.
    workers = [join(ground, redis={"url": redis.url, "budget_ms": 10_000}) for _ in range(2)]
    tail = Tail(ground.bootstrap_servers, [*ground.raw, ground.signals, ground.dlq], start="beginning")
    sink = KafkaSink(ground.bootstrap_servers)
    feed = demo_feed()
    surprises = []
    with ground.watch() as watch:
        watch.until(lambda: all(worker.partitions == 6 for worker in workers))
        for odd in (False, True):  # an original is always answered before its copy comes
            now_us = time.time_ns() // 1000
            records = [replace(record, at_us=now_us) for record in feed if (record.odd is not None) is odd]
            playback = Playback(records, sink, tail)
            for _ in playback.play(60.0, alive=lambda: None):
                pass
            surprises += playback.surprises()
        watch.until_read()
        found = watch.until_answered(len(feed))
        signals = [decode(Signal, record.value) for record in watch.signals]
    sink.close()
    tail.close()
    assert surprises == []
    assert found.balanced and not found.strays and found.repeated == 0
    by_item: dict[tuple[str, str, int], list[Signal]] = defaultdict(list)
    for signal in signals:  # records without a key go to any partition, and partitions have no order among them
        by_item[signal.item_key, signal.raw.topic, signal.raw.partition].append(signal)
    several = [outcomes for outcomes in by_item.values() if len(outcomes) > 1]
    assert len(several) >= 6
    for outcomes in several:
        assert [signal.raw.offset for signal in outcomes] == sorted(signal.raw.offset for signal in outcomes)
        ranks = [(signal.revision, signal.action is SignalAction.RETRACT) for signal in outcomes]
        assert ranks == sorted(ranks)
