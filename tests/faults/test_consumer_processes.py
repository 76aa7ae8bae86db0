"""Consumer processes on a real Kafka, stopped or killed under load: nothing lost, nothing repeated by a stop."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.broker]

TEXTS = 1_500


def shares(stage: Any) -> list[set[str]]:
    """The partitions of the two consumer processes, once the first, which was given all, has passed some to the second.

    Before that, commits may be refused, and more is repeated.
    """
    given = [set(event["partitions"]) for event in stage.events("partitions.assigned")]
    gone = [set(event["partitions"]) for event in stage.events("partitions.revoked")]
    last = next((each for each in given[1:] if each), set[str]())
    return [set[str]().union(*given[:1]) - set[str]().union(*gone), last]


def answered(watch: Any, partitions: set[str]) -> int:
    """Outcomes so far of records of these partitions."""
    return sum(f"{position.topic}/{position.partition}" in partitions for position in watch.audit.outcomes)


class Field(NamedTuple):
    """A service in the middle of its work."""

    service: Any
    watch: Any
    settings: dict[str, str]


@contextmanager
def busy(ground: Any, start_stage: Callable[..., Any], make_item: Callable[[int], Any], **more: str) -> Iterator[Field]:
    """Two consumer processes, each with its share, a tenth of the texts answered by each, and more that it must leave:
    these come while it stands still."""
    settings = ground.environment(ENGINE__CONSUMER_PROCESSES="2", **more)
    service = start_stage(ground.bootstrap_servers, **settings)
    with ground.watch() as watch:
        watch.until(lambda: [len(each) for each in shares(service)] == [3, 3])
        ground.publish([make_item(number) for number in range(1_000)])
        watch.until(lambda: all(answered(watch, share) >= TEXTS // 10 for share in shares(service)))
        service.process.send_signal(signal.SIGSTOP)
        ground.publish([make_item(number) for number in range(1_000, TEXTS)])
        yield Field(service, watch, settings)


def go_on(service: Any, how: int) -> int:
    """Let it go on with this signal and wait for its end; the exit status."""
    service.process.send_signal(how)
    service.process.send_signal(signal.SIGCONT)
    status: int = service.process.wait(150)
    return status


def finished_by_successor(ground: Any, start_stage: Callable[..., Any], field: Field) -> Any:
    """The audit once the next service has done the rest."""
    successor = start_stage(ground.bootstrap_servers, **field.settings)
    successor.wait_for("service.started")  # perhaps everything is answered by now
    found = field.watch.until_answered(TEXTS)
    successor.wait_for("consumer_process.started", count=2)
    assert successor.end() == 0
    field.watch.until_read()
    for stage in (field.service, successor):
        print(*stage.events("partitions.revoked"), *stage.events("commit.refused"), sep="\n")
    return found


def test_a_service_that_is_stopped_repeats_nothing(
    ground: Any, start_stage: Callable[..., Any], make_item: Callable[[int], Any]
) -> None:
    """SIGTERM under load: both consumer processes drain and commit, and the next service does the rest.

    The next one's first process passes half of the partitions on at once, with texts in slots and on their way.
    """
    more = {"LIMITS__MAX_IN_FLIGHT": "60", "TIMING__REVOKE_TIMEOUT_MS": "1"}
    with busy(ground, start_stage, make_item, **more) as field:
        assert go_on(field.service, signal.SIGTERM) == 0
        found = finished_by_successor(ground, start_stage, field)
    finished = [event["finished"] for event in field.service.events("consumer_process.stopped")]
    print(f"finished by each consumer process before the stop: {finished}, {found.repeated} repeated")
    assert len(finished) == 2 and all(finished) and sum(finished) < TEXTS
    assert found.balanced and found.repeated == 0 and not found.strays


@pytest.mark.parametrize("victim", ["consumer", "engine"])
def test_a_service_that_loses_a_process_loses_no_text(
    ground: Any, start_stage: Callable[..., Any], make_item: Callable[[int], Any], victim: str
) -> None:
    """`kill -9` for one of its processes: the service ends as a whole, and the next one does the rest."""
    mortal = ground.mortal(TIMING__COMMIT_INTERVAL_MS="50")
    with busy(ground, start_stage, make_item, **mortal) as field:
        if victim == "consumer":
            os.kill(
                int(field.service.events("consumer_process.started")[0]["worker"].rpartition("-")[2]), signal.SIGKILL
            )
            assert go_on(field.service, signal.SIGCONT) == 2
        else:
            assert go_on(field.service, signal.SIGKILL) == -signal.SIGKILL
        found = finished_by_successor(ground, start_stage, field)
    print(f"{victim} killed in {TEXTS} texts: {found.repeated} repeated, {len(found.missing)} lost")
    assert found.balanced and not found.strays
