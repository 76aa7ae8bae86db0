"""What clients say and do at their ends: refusals are named, absences waited for, leaving ends."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from structlog.testing import capture_logs

from earlybird.stream.adapters.clients import ClientLog, close_consumer


class Consumer:
    """One whose close waits for a word, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.word, self.closed, self._error = threading.Event(), threading.Event(), error

    def close(self) -> None:
        self.word.wait()
        if self._error is not None:
            raise self._error
        self.closed.set()


def test_a_close_that_never_comes_back_is_left_behind() -> None:
    """The process must be able to end; the log says that the group was not told."""
    consumer: Any = Consumer()
    with capture_logs() as lines:
        assert not close_consumer(consumer, "source", timeout_s=0.05)
    assert [(line["event"], line["client"]) for line in lines] == [("client.not_left", "source")]
    consumer.word.set()
    assert consumer.closed.wait(5)


def test_a_close_that_comes_back_is_waited_for() -> None:
    """On return it is done, and nothing is said."""
    consumer: Any = Consumer()
    consumer.word.set()
    with capture_logs() as lines:
        assert close_consumer(consumer, "source", timeout_s=60)
    assert consumer.closed.is_set() and not lines


def test_what_a_callback_raises_while_leaving_is_raised_here() -> None:
    """Not lost on a thread that nobody watches."""
    consumer: Any = Consumer(RuntimeError("not committed"))
    consumer.word.set()
    with pytest.raises(RuntimeError, match="not committed"):
        close_consumer(consumer, "source")


@pytest.fixture
def proxy() -> Iterator[str]:
    """The address of what takes connections and closes them, as a proxy does whose broker is away."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def close_each() -> None:
            with suppress(OSError):
                while True:
                    server.accept()[0].close()

        threading.Thread(target=close_each, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(("scheme", "state"), [("", "APIVERSION_QUERY"), ("ssl://", "SSL_HANDSHAKE")])
def test_a_proxy_without_its_broker_is_no_mismatch(proxy: str, scheme: str, state: str) -> None:
    """It closes connections as a listener does that speaks otherwise; only one that answers otherwise is refused."""
    notes, address = ClientLog("source", proxy), f"{scheme}{proxy}/bootstrap"
    for _ in range(9):
        notes.log(4, "", "FAIL", "c", f"[thrd:{address}]: {address}: Disconnected: closed (after 1ms in state {state})")
    assert notes.failure is None


def test_connections_that_end_after_an_answer_are_no_mismatch() -> None:
    """Brokers restart and close idle connections."""
    notes, address = ClientLog("source", "kafka:9092"), "kafka:9092/1"
    line = f"[thrd:{address}]: {address}: Disconnected: closed by peer (after 1ms in state UP)"
    notes.reached()
    for _ in range(9):
        notes.log(4, "", "FAIL", "c", line)
    assert notes.failure is None
    fresh = ClientLog("source", "kafka:9092")
    for _ in range(9):  # it goes down: one connection closed, then none taken
        fresh.log(4, "", "FAIL", "c", line)
        fresh.log(4, "", "FAIL", "c", f"[thrd:{address}]: Connect to kafka:9092 failed (after 0ms in state CONNECT)")
    assert fresh.failure is None


def test_a_cluster_that_has_just_been_started_is_no_warning() -> None:
    """It has no coordinators yet; librdkafka asks again."""
    notes = ClientLog("sink", "kafka:9092")
    with capture_logs() as lines:
        notes.log(30, "", "GETPID", "c", "Failed to acquire idempotence PID: Coordinator load in progress: retrying")
        notes.log(30, "", "GETPID", "c", "Failed to acquire idempotence PID: not allowed")
    assert [line["log_level"] for line in lines] == ["debug", "warning"]
