"""`earlybird run` with consumer processes on the embedded broker: the same signals, and none lost however it ends."""

import os
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from earlybird.schemas.codec import decode
from earlybird.schemas.signal import Signal
from earlybird.stream.adapters.tail import Tail

PATIENCE_S = 150.0
# `earlybird run` with other limits of what asks its consumer processes.
PATIENT = """
import sys
from earlybird.stream.consumer_processes import merged_health
from earlybird.stream.observability import health, watchdog
merged_health.REQUEST_TIMEOUT_S, watchdog.HUNG_S, health.LIVENESS_TIMEOUT_S = {request_s}, {hung_s}, {liveness_s}
from earlybird.stream.cli import main
sys.exit(main(["run"]))
"""

StartStage = Callable[..., Any]
Until = Callable[[Callable[[], bool]], None]
BenchTarget = tuple[str, int, int, int]


def digests(bootstrap_servers: str, topic: str, count: int) -> dict[BenchTarget, str]:
    """Of so many signals, by raw position."""
    found: dict[BenchTarget, str] = {}
    tail = Tail(bootstrap_servers, [topic], start="beginning", options={"fetch.wait.max.ms": 5})
    deadline = time.monotonic() + PATIENCE_S
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} signals came"
        for record in tail.poll(100):
            one = decode(Signal, record.value or b"")
            found[one.raw.topic, one.raw.partition, one.raw.offset, one.raw.index] = one.digest
    tail.close()
    return found


def started(stage: Any, count: int) -> list[int]:
    """Process ids of the consumer processes, once so many have started."""
    stage.wait_for("consumer_process.started", count=count)
    return [int(event["worker"].rpartition("-")[2]) for event in stage.events("consumer_process.started")]


def ended(pid: int) -> bool:
    """Whether the process is gone, or only waits for whoever adopted it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_consumer_processes_say_what_one_process_says(ground: Any, start_stage: StartStage, until: Until) -> None:
    """Signal for signal the same digest. SIGTERM drains them and exits 0.

    One port answers for all: ready when every process is, each series with its process's number.
    """
    ground.publish(300)
    alone = start_stage(ground.bootstrap_servers, GROUP="alone", TOPICS__SIGNALS="signals.again")
    stage = start_stage(ground.bootstrap_servers, ENGINE__CONSUMER_PROCESSES="2")
    url = stage.wait_for("service.started")["health"]
    pids = started(stage, 2)
    until(lambda: ready(url))
    found = digests(ground.bootstrap_servers, "signals", 300)
    assert found == digests(ground.bootstrap_servers, "signals.again", 300)
    until(lambda: sum(values(url, "earlybird_texts_consumed_total{")) >= 300)
    read = [line for line in series(url) if line.startswith("earlybird_texts_consumed_total{")]
    assert all('consumer_process="' in line for line in read)
    assert len([line for line in series(url) if line.startswith("# TYPE earlybird_signal_latency_seconds ")]) == 1
    assert values(url, "earlybird_slots_capacity ") == [16.0]
    assert values(url, "earlybird_model_info{") == [1.0]
    assert stage.end(signal.SIGTERM) == 0
    assert alone.end(signal.SIGTERM) == 0
    assert all(map(ended, pids))
    assert [event["consumer_processes"] for event in stage.events("service.stopped")] == [2]
    assert sum(event["finished"] for event in stage.events("consumer_process.stopped")) >= 300


def test_a_consumer_process_that_is_killed_ends_the_service_after_the_others_drained(
    ground: Any, start_stage: StartStage
) -> None:
    """It says whom it lost, exits 2 for its supervisor, and nothing is lost."""
    ground.publish(300)
    stage = start_stage(
        ground.bootstrap_servers, ENGINE__CONSUMER_PROCESSES="2", KAFKA__OPTIONS__SESSION_TIMEOUT_MS="1500"
    )
    pids = started(stage, 2)
    digests(ground.bootstrap_servers, "signals", 20)
    os.kill(pids[0], signal.SIGKILL)
    assert stage.process.wait(PATIENCE_S) == 2
    number = stage.events("consumer_process.started")[0]["consumer_process"]
    assert f"earlybird: consumer process {number} ended with status -9" in stage.log.read_text()
    (stopped,) = stage.events("consumer_process.stopped")
    assert stopped["consumer_process"] == 1 - number
    start_stage(ground.bootstrap_servers, KAFKA__OPTIONS__SESSION_TIMEOUT_MS="1500")
    assert ground.audit(300).missing == []


def test_the_engines_process_takes_its_consumer_processes_with_it(
    ground: Any, start_stage: StartStage, until: Until
) -> None:
    """Killed without a word: no consumer process stays behind, and the next service does the rest."""
    ground.publish(300)
    stage = start_stage(
        ground.bootstrap_servers, ENGINE__CONSUMER_PROCESSES="2", KAFKA__OPTIONS__SESSION_TIMEOUT_MS="1500"
    )
    pids = started(stage, 2)
    digests(ground.bootstrap_servers, "signals", 20)
    stage.end(signal.SIGKILL)
    until(lambda: all(map(ended, pids)))
    start_stage(ground.bootstrap_servers, KAFKA__OPTIONS__SESSION_TIMEOUT_MS="1500")
    assert ground.audit(300).missing == []


def test_a_consumer_process_that_stands_still_for_a_moment_is_well(
    ground: Any, start_stage: StartStage, until: Until
) -> None:
    """Two seconds are no death, and nobody who asks waits for it: that would take longer than the asker's patience."""
    stage = start_stage(
        ground.bootstrap_servers,
        ["-c", PATIENT.format(request_s=60.0, hung_s=600.0, liveness_s=60.0)],
        ENGINE__CONSUMER_PROCESSES="2",
        KAFKA__OPTIONS__SESSION_TIMEOUT_MS="20000",
    )
    url = stage.wait_for("service.started")["health"]
    pids = started(stage, 2)
    until(lambda: ready(url))
    answers: list[bool] = []
    os.kill(pids[0], signal.SIGSTOP)
    until_s = time.monotonic() + 2.0
    while time.monotonic() < until_s or len(answers) < 5:
        answers.append(healthy(url))
    os.kill(pids[0], signal.SIGCONT)
    assert all(answers)
    until(lambda: ready(url))
    assert stage.end() == 0


def test_a_consumer_process_that_stands_still_for_long_is_killed(
    ground: Any, start_stage: StartStage, until: Until
) -> None:
    """It is not ready, then it is taken for hung: the service ends with the reason, and nothing is lost."""
    stage = start_stage(
        ground.bootstrap_servers,
        ["-c", PATIENT.format(request_s=3.0, hung_s=6.0, liveness_s=5.0)],
        ENGINE__CONSUMER_PROCESSES="2",
        KAFKA__OPTIONS__SESSION_TIMEOUT_MS="1500",
    )
    url = stage.wait_for("service.started")["health"]
    pids = started(stage, 2)
    until(lambda: ready(url))
    os.kill(pids[0], signal.SIGSTOP)
    until(lambda: not ready(url))
    assert stage.process.wait(PATIENCE_S) == 2
    (hung,) = stage.events("consumer_process.hung")
    assert hung["consumer_process"] == stage.events("consumer_process.started")[0]["consumer_process"]
    assert all(map(ended, pids))


def test_a_service_that_is_stopped_before_it_has_begun_exits_0(start_stage: StartStage) -> None:
    """No consumer process listens to signals yet, and none has read anything."""
    stage = start_stage("127.0.0.1:1", ENGINE__CONSUMER_PROCESSES="2")
    stage.wait_for("service.started")
    assert stage.end(signal.SIGTERM) == 0


def series(url: str) -> list[str]:
    """The lines of the exposition."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        return str(answer.read().decode()).splitlines()


def values(url: str, beginning: str) -> list[float]:
    """Of the series that begin so."""
    return [float(line.rpartition(" ")[2]) for line in series(url) if line.startswith(beginning)]


def ready(url: str) -> bool:
    return well(f"{url}/readyz")


def healthy(url: str) -> bool:
    return well(f"{url}/healthz")


def well(asked: str) -> bool:
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
