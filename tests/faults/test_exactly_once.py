"""Exactly-once on a real Kafka: after every fault a reader of committed records has each outcome exactly once.

    KILLS=20 TEXTS=6000 .venv/bin/python -m pytest tests/faults/test_exactly_once.py -m faults -s

is the longer run. What was produced twice, and aborted once, is counted beside it by a reader of all records.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.broker]

KILLS = int(os.environ.get("KILLS", "2"))
TEXTS = int(os.environ.get("TEXTS", "900"))
Start = Callable[..., Any]
MakeItem = Callable[..., Any]


def settings(ground: Any, instance: str = "one", **more: str) -> dict[str, str]:
    """Of a worker of this name, which may be killed."""
    return ground.mortal(DELIVERY="exactly_once", INSTANCE=instance, **more)  # type: ignore[no-any-return]


def once(audit: Any) -> None:
    """By raw position: nothing is missing, strange or there twice."""
    twice = {str(position): count for position, count in audit.outcomes.items() if count > 1}
    also_retracted = {str(position) for position in audit._rejected if position in audit.digests}
    assert audit.balanced and not audit.strays and not twice.keys() - also_retracted, audit.report()
    assert audit.repeated == 0


def all_answered(watch: Any, records: int, stage: Any, start: Callable[[], Any]) -> Any:
    """Wait for so many outcomes; a worker that ended as in doubt is started again, as its supervisor would do.

    Its commit was not answered, and nobody knew whether it had happened. Returns the worker that serves.
    """
    audit, ended = watch.audit, stage.process.poll
    watch.until(lambda: (len(audit.raw) >= records == len(audit.outcomes)) or ended() is not None)
    if ended() is not None:
        assert ended() == 2 and "is in doubt" in stage.log.read_text(), stage.log.read_text()[-3000:]
        stage = start()
    watch.until_answered(records)
    return stage


@pytest.mark.parametrize("processes", [0, 2])
def test_kills_repeat_nothing(ground: Any, start_stage: Start, feed: Callable[..., Any], processes: int) -> None:
    """Killed as a whole at a random moment, again and again; the successor of the same name goes on at once."""
    rng = random.Random(processes)
    slow = {"TIMING__TRANSACTION_INTERVAL_MS": "1000", "ENGINE__CONSUMER_PROCESSES": str(processes)}
    start = partial(start_stage, ground.bootstrap_servers, **settings(ground, **slow))
    with ground.watch() as watch, ground.watch(read_committed=False) as all_records, feed(ground) as source:
        for _ in range(KILLS):
            stage, goal = start(), all_records.answered + 1 + rng.random() * TEXTS / KILLS
            all_records.until(lambda goal=goal: all_records.answered >= goal)
            stop_in_a_transaction(stage, watch, all_records)
            tell(stage, signal.SIGKILL)
        successor = start()
        successor.wait_for("service.started")  # perhaps everything is answered by now
        found = watch.until_answered(source.stop())
        assert successor.end() == 0
        watch.until_read()
        all_records.until_read()
    print(f"{KILLS} kills in {source.sent} texts, aborted and produced again {all_records.audit.repeated}")
    assert all_records.audit.repeated, "no transaction was open at a kill"
    once(found)


def test_zombie_changes_nothing(ground: Any, start_stage: Start, feed: Callable[..., Any]) -> None:
    """Stopped for longer than its session, with a transaction open, while another takes over; then it wakes up."""
    slow = {"TIMING__TRANSACTION_INTERVAL_MS": "1000"}
    with ground.watch() as watch, ground.watch(read_committed=False) as all_records, feed(ground, burst=5) as source:
        zombie = start_stage(ground.bootstrap_servers, **settings(ground, "one", **slow))
        all_records.until(lambda: all_records.answered)
        stop_in_a_transaction(zombie, watch, all_records)
        successor = start_stage(ground.bootstrap_servers, **settings(ground, "two"))
        successor.wait_for("service.started")  # perhaps everything is answered by now
        successor.wait_for("partitions.assigned")
        before = watch.answered
        watch.until(lambda: watch.answered > before + TEXTS / 4)
        zombie.process.send_signal(signal.SIGCONT)
        before = watch.answered
        watch.until(lambda: watch.answered > before + 100)
        found = watch.until_answered(source.stop())
        assert zombie.end() in (0, 2)
        assert successor.end() == 0
        watch.until_read()
        all_records.until_read()
    print(f"zombie: produced again {all_records.audit.repeated}")
    assert all_records.audit.repeated, "no transaction was open when it was stopped"
    once(found)


def stop_in_a_transaction(stage: Any, watch: Any, all_records: Any) -> None:
    """Stop all of its processes when they have produced outcomes that are not committed."""
    while True:
        before = all_records.answered
        all_records.until(lambda before=before: all_records.answered > before)
        tell(stage, signal.SIGSTOP)
        all_records.until_read()
        watch.until_read()  # the later of the two, with what a commit under way has let through
        if all_records.answered > watch.answered:
            return
        tell(stage, signal.SIGCONT)


def tell(stage: Any, number: int) -> None:
    """Send a signal to the process and to its consumer processes."""
    consumers = [int(event["worker"].rpartition("-")[2]) for event in stage.events("consumer_process.started")]
    for pid in (*consumers, stage.process.pid):
        os.kill(pid, number)


def test_transaction_that_the_broker_ended_for_its_age_is_produced_again(
    ground: Any, start_stage: Start, feed: Callable[..., Any]
) -> None:
    """Stopped for longer than transaction.timeout.ms, but not than the session: nobody takes over, it goes on."""
    ages = {
        "KAFKA__OPTIONS__TRANSACTION_TIMEOUT_MS": "2500",
        "KAFKA__OPTIONS__SESSION_TIMEOUT_MS": "20000",
        "TIMING__TRANSACTION_INTERVAL_MS": "1000",
    }
    start = partial(start_stage, ground.bootstrap_servers, **settings(ground, **ages))
    stage = start()
    stage.wait_for("partitions.assigned")
    with ground.watch() as watch, ground.watch(read_committed=False) as all_records, feed(ground, burst=5) as source:
        stop_in_a_transaction(stage, watch, all_records)
        # With no transaction open a reader of committed records may read as far as the other.
        all_records.until(lambda: watch.ends(ground.signals) == all_records.ends(ground.signals))
        tell(stage, signal.SIGCONT)
        successor = all_answered(watch, source.stop(), stage, start)
        assert successor.end() == 0, successor.log.read_text()[-3000:]
        watch.until_read()
        all_records.until_read()
    assert successor is not stage or stage.events("transaction.expired"), stage.log.read_text()[-3000:]
    assert all_records.audit.repeated
    once(watch.audit)


def test_partitions_move_during_transactions(ground: Any, join: Callable[..., Any], feed: Callable[..., Any]) -> None:
    """Workers join and leave under load; outcomes of a moved partition are committed or taken back before."""

    def worker(instance: str) -> Any:
        timing = {"transaction_interval_ms": 300, "revoke_timeout_ms": 20}
        return join(ground, delivery="exactly_once", instance=instance, timing=timing)

    with ground.watch() as watch, feed(ground) as source:
        workers = [worker("one")]
        watch.until(lambda: workers[0].finished)
        for name in ("two", "three"):
            workers.append(worker(name))
            watch.until(lambda: workers[-1].partitions and workers[-1].finished)
        before = watch.answered
        workers[0].leave()
        watch.until(lambda: watch.answered > before + 200)
        found = watch.until_answered(source.stop())
        for left in workers[1:]:
            left.leave()
        watch.until_read()
    once(found)


@pytest.mark.parametrize("how", ["killed", "paused"])
def test_outage_of_the_broker_is_waited_out(
    own_kafka: Any, make_ground: Callable[..., Any], start_stage: Start, make_item: MakeItem, how: str
) -> None:
    """For longer than a transaction may be open: the worker stays, or its supervisor starts it again."""
    ground = make_ground(own_kafka)
    ages = settings(ground, KAFKA__OPTIONS__TRANSACTION_TIMEOUT_MS="2500")
    start = partial(start_stage, ground.bootstrap_servers, **ages)
    ground.publish([make_item(number) for number in range(TEXTS)])
    with ground.watch() as watch:
        stage = start()
        watch.until(lambda: watch.answered > TEXTS / 4)
        own_kafka.kill() if how == "killed" else own_kafka.pause()
        time.sleep(5)
        own_kafka.start() if how == "killed" else own_kafka.resume()
        assert all_answered(watch, TEXTS, stage, start).end() == 0
        watch.until_read()
    once(watch.audit)


def test_arrays_and_their_elements_come_once(ground: Any, start_stage: Start, make_item: MakeItem) -> None:
    """A record with several elements may span many exits, and never two transactions."""
    rng = random.Random(5)
    arrays, elements = 60, 8
    ground.publish([[make_item(array * elements + number) for number in range(elements)] for array in range(arrays)])
    with ground.watch() as watch, ground.watch(read_committed=False) as all_records:
        for part in (0.2, 0.5):
            stage = start_stage(ground.bootstrap_servers, **settings(ground, TIMING__TRANSACTION_INTERVAL_MS="20"))
            goal = arrays * elements * (part + rng.random() / 5)
            all_records.until(lambda goal=goal: all_records.answered >= goal)
            stage.end(signal.SIGKILL)
        successor = start_stage(ground.bootstrap_servers, **settings(ground))
        successor.wait_for("service.started")  # perhaps everything is answered by now
        found = watch.until_answered(arrays * elements)
        assert successor.end() == 0
        watch.until_read()
    once(found)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_worker_that_ends_commits_what_it_has_produced(
    ground: Any, start_stage: Start, feed: Callable[..., Any], protocol: str
) -> None:
    """Its open transaction is committed while it gives its partitions up, and nothing is left to be aborted."""
    about = {"TIMING__TRANSACTION_INTERVAL_MS": "5000", "KAFKA__GROUP_PROTOCOL": protocol}
    chosen = ground.environment(DELIVERY="exactly_once", INSTANCE="one", **about)
    with ground.watch() as watch, ground.watch(read_committed=False) as all_records, feed(ground):
        stage = start_stage(ground.bootstrap_servers, **chosen)
        all_records.until(lambda: all_records.answered > watch.answered)
        assert stage.end() == 0
        watch.until_read()
        all_records.until_read()
    assert watch.answered == all_records.answered > 0


def test_worker_without_a_name_does_not_start(ground: Any, start_stage: Start) -> None:
    """And says what it needs."""
    stage = start_stage(ground.bootstrap_servers, **ground.environment(DELIVERY="exactly_once"))
    assert stage.process.wait(150) == 2
    assert "instance: required with delivery exactly_once" in stage.log.read_text()
