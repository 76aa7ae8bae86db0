"""Redis dies, hangs, fills up or forgets, under load and with two workers: no stall, and the same results."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from earlybird.stream.adapters.embedded import EmbeddedRedis

pytestmark = [pytest.mark.faults, pytest.mark.broker]

TEXTS, COPIES = 40, 3  # each phase: so many texts, each so often


@pytest.fixture
def redis() -> Iterator[EmbeddedRedis]:
    """A server for the faults of this file."""
    with EmbeddedRedis() as server:
        yield server


def phase(number: int, make_item: Callable[..., Any]) -> list[Any]:
    """Items of one phase: copies within it, and of the phase before."""
    first = number * TEXTS * COPIES
    return [
        make_item(first + n, f"Acme sells plant number {number * TEXTS // 2 + n % TEXTS}")
        for n in range(TEXTS * COPIES)
    ]


def fill(server: EmbeddedRedis) -> None:
    """Not one byte more, and nothing is evicted."""
    with Redis.from_url(server.url) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)


def make_room(server: EmbeddedRedis) -> None:
    """Undo `fill`."""
    with Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 0)


def flush(server: EmbeddedRedis) -> None:
    """Forget everything."""
    with Redis.from_url(server.url) as client:
        client.flushall()


FAULTS: list[tuple[str, Callable[[EmbeddedRedis], None], Callable[[EmbeddedRedis], None]]] = [
    ("killed", EmbeddedRedis.kill, EmbeddedRedis.restart),
    ("paused", EmbeddedRedis.pause, EmbeddedRedis.resume),
    ("full", fill, make_room),
    ("flushed", flush, flush),
]


def test_faults_of_the_cache_neither_stall_nor_change_a_result(
    ground: Any, make_ground: Callable[..., Any], quick_kafka: Any, join: Callable[..., Any], redis: EmbeddedRedis,
    make_item: Callable[..., Any],
) -> None:  # fmt: skip
    """Two workers through every fault; then the same items with no cache at all: equal digests."""
    # Longer than a busy machine takes to answer: a cache that is given up in between feels no fault.
    workers = [join(ground, redis={"url": redis.url, "budget_ms": 500}) for _ in range(2)]
    items: list[Any] = []
    with ground.watch() as watch:
        watch.until(lambda: all(worker.partitions == 3 for worker in workers))
        for number, (_, break_it, mend) in enumerate(FAULTS):
            for state, act in enumerate((break_it, mend)):
                act(redis)
                fresh = phase(2 * number + state, make_item)
                items += fresh
                ground.publish(fresh)
                watch.until_answered(len(items))  # goes on while the fault lasts
            while not all(worker.cache.available for worker in workers):  # until the next fault can be felt
                fresh = phase(100 + len(items), make_item)[:20]
                items += fresh
                ground.publish(fresh)
                watch.until_answered(len(items))
        found = watch.until_answered(len(items))
    assert found.balanced and not found.strays
    assert all(worker.finished for worker in workers)
    assert sum(worker.cache.failures for worker in workers) > 0, "the faults were felt"
    assert sum(worker.cache.refused for worker in workers) > 0, "the full server was felt"
    alone = make_ground(quick_kafka)
    join(alone)
    alone.publish(items)
    with alone.watch() as watch:
        bare = watch.until_answered(len(items))
    assert by_place(found) == by_place(bare)


def test_cache_flushed_at_random_changes_only_what_is_called_new(
    ground: Any, make_ground: Callable[..., Any], quick_kafka: Any, join: Callable[..., Any], redis: EmbeddedRedis,
    make_item: Callable[..., Any],
) -> None:  # fmt: skip
    """Flushed between and under the items: fewer hits than with a cache left alone, and the same digests."""
    rng = random.Random(7)
    items = [make_item(n, f"Acme sells plant number {rng.randrange(80)}") for n in range(800)]
    found = []
    for flushed in (True, False):
        place = make_ground(quick_kafka)
        workers = [join(place, redis={"url": redis.url, "budget_ms": 10_000}) for _ in range(2)]
        with place.watch() as watch:
            watch.until(lambda workers=workers: all(worker.partitions for worker in workers))
            for start in range(0, len(items), 100):
                place.publish(items[start : start + 100])
                goal = start + rng.randrange(100)
                watch.until(lambda goal=goal, watch=watch: watch.answered >= goal)
                if flushed:
                    flush(redis)
            found.append(watch.until_answered(len(items)))
        for worker in workers:
            worker.leave()
        flush(redis)
    assert all(audit.balanced and not audit.strays for audit in found)
    assert found[0].cache_hits < found[1].cache_hits
    assert by_place(found[0]) == by_place(found[1])


def by_place(audit: Any) -> dict[tuple[int, int], str]:
    """Digests by partition and offset; the same items in the same order take the same places in every topic."""
    return {(place.partition, place.offset): digest for place, digest in audit.digests.items()}
