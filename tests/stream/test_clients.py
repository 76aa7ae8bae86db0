"""Leaving Kafka: it ends whatever librdkafka does."""

import threading

import pytest
from structlog.testing import capture_logs

from stream.adapters.clients import leave


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
    consumer = Consumer()
    with capture_logs() as lines:
        assert not leave(consumer, "source", timeout_s=0.05)
    assert [(line["event"], line["client"]) for line in lines] == [("client.not_left", "source")]
    consumer.word.set()
    assert consumer.closed.wait(5)


def test_a_close_that_comes_back_is_waited_for() -> None:
    """On return it is done, and nothing is said."""
    consumer = Consumer()
    consumer.word.set()
    with capture_logs() as lines:
        assert leave(consumer, "source", timeout_s=60)
    assert consumer.closed.is_set() and not lines


def test_what_a_callback_raises_while_leaving_is_raised_here() -> None:
    """Not lost on a thread that nobody watches."""
    consumer = Consumer(RuntimeError("not committed"))
    consumer.word.set()
    with pytest.raises(RuntimeError, match="not committed"):
        leave(consumer, "source")
