"""Exactly-once on a real Kafka: after every fault a reader of committed records has each outcome exactly once.

    KILLS=20 TEXTS=6000 .venv/bin/python -m pytest tests/faults/test_exactly_once.py -m faults -s

is the longer run. What was produced twice, and aborted once, is counted beside it by a reader of all records.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.broker]

KILLS = int(os.environ.get("KILLS", "2"))
TEXTS = int(os.environ.get("TEXTS", "900"))
Start = Callable[..., Any]
MakeItem = Callable[..., Any]


def settings(ground: Any, instance: str = "one", **more: str) -> dict[str, str]:
    """Of a worker of this name."""
    return ground.environment(DELIVERY="exactly_once", INSTANCE=instance, **more)  # type: ignore[no-any-return]


def once(audit: Any) -> None:
    """By raw position: nothing is missing, strange or there twice."""
    twice = {str(position): count for position, count in audit.outcomes.items() if count > 1}
    also_retracted = {str(position) for position in audit._rejected if position in audit.digests}
    assert audit.balanced and not audit.strays and not twice.keys() - also_retracted, audit.report()
    assert audit.repeated == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_kills_repeat_nothing(ground: Any, start_stage: Start, make_item: MakeItem, seed: int) -> None:
    """Killed at a random moment, again and again; the successor of the same name goes on at once."""
    rng = random.Random(seed)
    ground.publish([make_item(number) for number in range(TEXTS)])
    with ground.watch() as watch, ground.watch(read_committed=False) as all_records:
        for kill in range(1, KILLS + 1):
            stage = start_stage(ground.bootstrap_servers, **settings(ground))
            goal = TEXTS * (kill - 1 + rng.random() * 0.8 + 0.1) / KILLS
            all_records.until(lambda goal=goal: all_records.answered >= goal)
            stage.end(signal.SIGKILL)
        heir = start_stage(ground.bootstrap_servers, **settings(ground))
        found = watch.until_answered(TEXTS)
        assert heir.end() == 0
        watch.until_read()
        all_records.until_read()
    print(f"seed {seed}: {KILLS} kills in {TEXTS} texts, aborted and produced again {all_records.audit.repeated}")
    once(found)
