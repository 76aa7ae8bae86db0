"""What hangs is ended, and says where it hung; what is slow, idle or waits for a broker is not."""

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from earlybird.stream.observability.watchdog import HUNG_S, LOOK_S, STATUS, Progress, Watchdog

StartStage = Callable[..., Any]
PATIENCE_S = 150.0

HANGS = """
import sys, threading
from earlybird.stream.observability import watchdog
watchdog.SLOW_S, watchdog.HUNG_S, watchdog.END_S = {slow_s}, {hung_s}, 1.0

def never_returns(*_):
    print('{{"event": "test.hangs"}}', file=sys.stderr, flush=True)
    threading.Event().wait()

from {module} import {name}
{name}.{method} = never_returns
from earlybird.stream.cli import main
sys.exit(main(["run"]))
"""
ENGINE = {"module": "earlybird.engine.slots.packed", "name": "Packed", "method": "step"}
CONSUMER = {"module": "earlybird.stream.stage.guarded_parser", "name": "GuardedParser", "method": "encode"}
PUBLISHER = {"module": "earlybird.stream.stage.publisher", "name": "Publisher", "method": "_accept"}


@pytest.fixture
def watch() -> Iterator[Callable[..., threading.Event]]:
    """watch(progress) looks a thousand times a second; the event that is set when it ends the process."""
    started: list[Watchdog] = []

    def start(progress: Callable[[], Progress], stop: threading.Event, end_s: float = HUNG_S) -> threading.Event:
        ended = threading.Event()
        started.append(Watchdog(progress, stop, end_s, look_s=0.001, end=ended.set))
        return ended

    yield start
    for watchdog in started:
        watchdog.close()


def test_a_part_that_stands_with_work_in_hand_is_the_end(watch: Callable[..., threading.Event]) -> None:
    """However lively the others are."""
    turns = itertools.count()
    assert watch(lambda: {"consumer": next(turns), "engine-0": 17}, threading.Event()).wait(PATIENCE_S)


def test_what_moves_or_has_nothing_to_do_goes_on(watch: Callable[..., threading.Event]) -> None:
    """Over far more looks than a hang is given."""
    looks, enough = itertools.count(), threading.Event()

    def progress() -> Progress:
        look = next(looks)
        if look > 3 * HUNG_S / LOOK_S:
            enough.set()
        slow = look // (HUNG_S / LOOK_S / 2)  # a step takes half of what is given
        return {"engine-0": slow, "engine-1": None, "publisher": None if look % 40 else look}

    ended = watch(progress, threading.Event())
    assert enough.wait(PATIENCE_S) and not ended.is_set()


def test_a_part_that_stands_is_named_before_it_is_the_end() -> None:
    """For /readyz: texts should go elsewhere by then."""
    turns = itertools.count()

    def progress() -> Progress:
        return {"engine-0": 1, "engine-1": next(turns)}

    with Watchdog(progress, threading.Event(), HUNG_S, look_s=0.001, end=lambda: None) as watchdog:
        deadline = time.monotonic() + PATIENCE_S
        while not watchdog.standing:
            assert time.monotonic() < deadline
        assert watchdog.standing == ("engine-0",)


def test_an_end_that_does_not_come_is_forced(watch: Callable[..., threading.Event]) -> None:
    """Once it was told to end, and not before."""
    stop, turns, many = threading.Event(), itertools.count(), threading.Event()

    def progress() -> Progress:
        if next(turns) == 200:
            many.set()
        return {"consumer": next(turns)}

    ended = watch(progress, stop, 5.0)
    assert many.wait(PATIENCE_S) and not ended.is_set()
    stop.set()
    assert ended.wait(PATIENCE_S)


@pytest.mark.parametrize(
    ("where", "part"),
    [(ENGINE, "engine-0"), (CONSUMER, "consumer"), (PUBLISHER, "publisher")],
    ids=["engine", "consumer", "publisher"],
)
def test_a_thread_that_never_returns_ends_the_service(
    ground: Any, start_stage: StartStage, where: dict[str, str], part: str
) -> None:
    """Its part is named, the place where it stands is in the log, and the status tells a supervisor to start again."""
    ground.publish(5)
    stage = start_stage(ground.bootstrap_servers, ["-c", HANGS.format(slow_s=1.0, hung_s=3.0, **where)])
    assert stage.process.wait(PATIENCE_S) == STATUS
    (hung,) = stage.events("service.hung")
    assert part in hung["parts"]
    assert "in never_returns" in stage.log.read_text()


def test_sigterm_ends_a_service_whose_engine_hangs(ground: Any, start_stage: StartStage) -> None:
    """What it has in hand is the next worker's."""
    ground.publish(5)
    code = HANGS.format(slow_s=30.0, hung_s=60.0, **ENGINE)
    stage = start_stage(ground.bootstrap_servers, ["-c", code], TIMING__DRAIN_TIMEOUT_S="1")
    stage.wait_for("test.hangs")
    stage.end(signal.SIGTERM)
    assert stage.events("engine.not_ended") or stage.events("service.not_ended")


def test_sigterm_ends_a_service_whose_main_thread_hangs(ground: Any, start_stage: StartStage) -> None:
    """The signal's handler never runs there; it is heard all the same."""
    ground.publish(5)
    code = HANGS.format(slow_s=30.0, hung_s=60.0, **CONSUMER)
    stage = start_stage(ground.bootstrap_servers, ["-c", code], TIMING__DRAIN_TIMEOUT_S="1")
    stage.wait_for("test.hangs")
    assert stage.end(signal.SIGTERM) == STATUS
    assert stage.events("service.not_ended")
