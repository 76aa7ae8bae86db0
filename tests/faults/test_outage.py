"""The broker dies, or falls silent, under load: the stage stays alive and goes on when it is back."""

import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

pytestmark = [pytest.mark.faults, pytest.mark.broker]

SILENCE_S = 6.5  # longer than a hung loop is tolerated by /healthz


def healthy(url: str) -> bool:
    """What an orchestrator asks."""
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=30) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False


@pytest.mark.parametrize("how", ["paused", "killed"])
def test_outage_of_the_broker_is_waited_out(
    own_kafka: Any,
    make_ground: Callable[..., Any],
    start_stage: Callable[..., Any],
    make_item: Callable[[int], Any],
    how: str,
) -> None:
    """Idle or busy: no restart by the orchestrator, no loss, and everything that comes later is answered, too."""
    ground = make_ground(own_kafka)
    stage = start_stage(ground.bootstrap_servers, **ground.environment())
    url = stage.wait_for("service.started")["health"]
    items = [make_item(number) for number in range(1500)]
    ground.publish(items[:100])
    with ground.watch() as watch:
        watch.until_answered(100)
        idle = answers_during_outage(own_kafka, how, url)
        ground.publish(items[100:])
        watch.until(lambda: watch.answered > 300)  # far more is in flight then than the stage takes in at once
        busy = answers_during_outage(own_kafka, how, url)
        ground.publish([make_item(number) for number in range(1500, 1600)])
        found = watch.until_answered(1600)
        assert stage.end(signal.SIGTERM) == 0
        watch.until_read()
    assert all(idle), f"unhealthy in {idle.count(False)} of {len(idle)} answers while idle"
    assert all(busy), f"unhealthy in {busy.count(False)} of {len(busy)} answers while busy"
    assert found.balanced and not found.strays


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_partitions_that_were_lost_and_come_back_are_not_done_again(
    own_kafka: Any,
    make_ground: Callable[..., Any],
    start_stage: Callable[..., Any],
    make_item: Callable[[int], Any],
    protocol: str,
) -> None:
    """The broker is away for longer than the session: what had left before or lay in the producer counts when the same
    partitions come back at the same offsets."""
    ground = make_ground(own_kafka)
    chosen = ground.mortal if protocol == "classic" else ground.environment  # the other has the broker's session
    about = {"KAFKA__GROUP_PROTOCOL": protocol, "LIMITS__MAX_IN_FLIGHT": "600"}
    stage = start_stage(ground.bootstrap_servers, **chosen(**about))
    with ground.watch() as watch:
        ground.publish([make_item(number) for number in range(100)])
        watch.until(lambda: sum(place.offset for place in committed(ground)) == 100)
        ground.publish([make_item(number) for number in range(100, 1500)])
        watch.until(lambda: watch.answered > 300)
        own_kafka.kill()
        if protocol == "classic":
            stage.wait_for("partitions.lost")
        else:  # the client hears of it from the broker only, which throws it out once it is back
            time.sleep(SILENCE_S)
        own_kafka.start()
        found = watch.until_answered(1500)
        assert stage.end(signal.SIGTERM) == 0
        watch.until_read()
    lost = stage.events("partitions.lost")
    print(f"{protocol}: lost {[event['unfinished'] for event in lost]} unfinished, {found.repeated} repeated")
    assert lost or protocol == "consumer"
    assert found.balanced and not found.strays and found.repeated == 0


def test_sigterm_ends_a_service_whose_broker_is_away(
    own_kafka: Any,
    make_ground: Callable[..., Any],
    start_stage: Callable[..., Any],
    make_item: Callable[[int], Any],
) -> None:
    """By itself and within its budget, with outcomes that nobody takes; the next worker does those texts."""
    ground = make_ground(own_kafka)
    settings = ground.environment(TIMING__DRAIN_TIMEOUT_S="1", KAFKA__OPTIONS__SESSION_TIMEOUT_MS="10000")
    stage = start_stage(ground.bootstrap_servers, **settings)
    stage.wait_for("partitions.assigned")
    texts = 0
    with ground.watch() as watch:
        while watch.answered == texts:  # until it is stopped with texts in hand
            stage.process.send_signal(signal.SIGCONT)
            ground.publish([make_item(number) for number in range(texts, texts + 1500)])
            texts += 1500
            watch.until(lambda goal=texts - 1400: watch.answered > goal)
            stage.process.send_signal(signal.SIGSTOP)
            watch.until_read()
        own_kafka.pause()
        stage.process.send_signal(signal.SIGTERM)
        stage.process.send_signal(signal.SIGCONT)
        assert stage.process.wait(150) == 0
        assert stage.events("drain.incomplete") and stage.events("service.stopped")
        own_kafka.resume()
        successor = start_stage(ground.bootstrap_servers, **settings)
        successor.wait_for("service.started")  # perhaps everything is answered by now
        assert watch.until_answered(texts).balanced
        assert successor.end() == 0


def committed(ground: Any) -> list[TopicPartition]:
    """Of each partition of the ground's news."""
    consumer = Consumer({"bootstrap.servers": ground.bootstrap_servers, "group.id": ground.group})
    places = consumer.committed([TopicPartition(ground.news, number) for number in range(6)], timeout=10)
    consumer.close()
    return list(places)


def answers_during_outage(kafka: Any, how: str, url: str) -> list[bool]:
    """What /healthz said while the broker was away."""
    kafka.kill() if how == "killed" else kafka.pause()
    answers = []
    until = time.monotonic() + SILENCE_S
    while time.monotonic() < until:
        answers.append(healthy(url))
        time.sleep(0.1)
    kafka.start() if how == "killed" else kafka.resume()
    return answers
