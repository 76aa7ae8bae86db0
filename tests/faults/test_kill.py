"""kill -9 under load: nothing is lost, and no text that the commit map calls finished is repeated.

    KILLS=6 TEXTS=6000 .venv/bin/python -m pytest tests/faults/test_kill.py -m faults -s

is the longer run, with the figures. What the map spares is counted at the same deaths: published texts that no commit
names, against those at or above the committed offsets, which is what a successor without the map would repeat. Two
runs, one with and one without it, die at different moments and cannot be compared by their totals.
"""

import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from earlybird.stream.adapters.group import commit_of, named_topic
from earlybird.stream.ports import Position
from earlybird.stream.stage import commit_map

pytestmark = [pytest.mark.faults, pytest.mark.broker]

KILLS = int(os.environ.get("KILLS", "1"))
TEXTS = int(os.environ.get("TEXTS", "900"))


def finished_by_commit(ground: Any, *, use_map: bool = True) -> set[Position]:
    """What the group's commits call finished: all below the offset, and what the map names above it."""
    consumer = Consumer({"bootstrap.servers": ground.bootstrap_servers, "group.id": ground.group})
    partitions = consumer.list_topics(ground.news, timeout=10).topics[ground.news].partitions
    places = consumer.committed([TopicPartition(ground.news, number) for number in partitions], timeout=10)
    consumer.close()
    finished = set()
    for place in places:
        if place.offset >= 0:
            commit = commit_of(place, named_topic(place))
            above = commit_map.decode(commit.offset, commit.metadata).finished if use_map and commit else ()
            finished |= {Position(ground.news, place.partition, offset) for offset in (*range(place.offset), *above)}
    return finished


@pytest.mark.parametrize(("seed", "commit_map"), [(1, True), (2, True), (1, False)])
def test_kill_loses_nothing_and_repeats_only_what_no_commit_names(
    ground: Any, start_stage: Callable[..., Any], make_item: Callable[[int], Any], seed: int, commit_map: bool
) -> None:
    """Killed at a random moment, again and again: each successor does the rest, once."""
    rng = random.Random(seed)
    about = {"COMMIT_MAP": str(commit_map).lower(), "TIMING__COMMIT_INTERVAL_MS": "50"}
    ground.publish([make_item(number) for number in range(TEXTS)])
    with ground.watch() as watch:
        repeatable: set[Position] = set()  # published, and in no commit when a worker died
        unnamed = below = 0  # published at a death, and not named by the commit; or by its offset alone
        for kill in range(1, KILLS + 1):
            stage = start_stage(ground.bootstrap_servers, **ground.mortal(**about))
            goal = TEXTS * (kill - 1 + rng.random() * 0.8 + 0.1) / KILLS
            watch.until(lambda goal=goal: watch.answered >= goal)
            stage.process.send_signal(signal.SIGSTOP)
            watch.until_read()  # meanwhile the broker takes what was on its way
            stage.end(signal.SIGKILL)
            named = finished_by_commit(ground)
            watch.until_read()
            repeatable |= watch.audit.outcomes.keys() - named
            unnamed += len(watch.audit.outcomes.keys() - named)
            below += len(watch.audit.outcomes.keys() - finished_by_commit(ground, use_map=False))
        successor = start_stage(ground.bootstrap_servers, **ground.environment(**about))
        successor.wait_for("service.started")  # perhaps everything is answered by now
        found = watch.until_answered(TEXTS)
        assert successor.end() == 0
        watch.until_read()
    repeated = Counter({position: count - 1 for position, count in found.outcomes.items() if count > 1})
    print(
        f"seed {seed}, map {commit_map}: {KILLS} kills in {TEXTS} texts, {repeated.total()} repeated, "
        f"{len(found.missing)} lost; at these deaths {unnamed} were repeatable, by offsets alone {below}"
    )
    assert found.balanced and not found.strays
    assert set(repeated) <= repeatable
