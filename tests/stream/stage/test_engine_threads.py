"""Engine threads: a text at fault is lost alone; a device at fault loses no text, it ends the process."""

import dataclasses
from collections.abc import Iterable, Sequence
from queue import SimpleQueue

import pytest

from earlybird.engine.config import EngineConfig, RunnerName
from earlybird.engine.engine import Engine
from earlybird.engine.errors import DeviceLost
from earlybird.engine.slots.runner import Runner
from earlybird.engine.types import Request, Verdict
from earlybird.stream.adapters.clock import ManualClock
from earlybird.stream.stage.engine_threads import EngineThreads
from earlybird.stream.stage.messages import Answers, Failed, TimedRequest


class Breaking:
    """A runner that raises at a step with ticket 2 in it."""

    behind: int | None = None

    def __init__(self, inner: Runner, error: Exception) -> None:
        self._inner, self._error, self._tickets = inner, error, set[int]()

    @property
    def waiting(self) -> int:
        return self._inner.waiting

    @property
    def active(self) -> int:
        return self._inner.active

    def submit(self, requests: Sequence[Request]) -> None:
        self._tickets |= {request.ticket for request in requests}
        self._inner.submit(requests)

    def expire(self, tickets: Iterable[int]) -> None:
        self._inner.expire(tickets)

    def step(self) -> list[Verdict]:
        if 2 in self._tickets:
            raise self._error
        return self._inner.step()


class Broken(Engine):
    """An engine whose runners break."""

    error: Exception = RuntimeError("no such row")

    def runner(self) -> Runner:
        return Breaking(super().runner(), self.error)

    def alone(self) -> Runner:
        return Breaking(super().alone(), self.error)


def serve(name: RunnerName, error: Exception) -> tuple[list[Answers], list[Failed]]:
    loaded = Engine.load(EngineConfig(runner=name, policy="fixed:1"))
    engine = Broken(**{field.name: getattr(loaded, field.name) for field in dataclasses.fields(loaded)})
    object.__setattr__(engine, "error", error)
    said, failed = SimpleQueue[Answers](), SimpleQueue[Failed]()
    threads = EngineThreads(engine, 1, ManualClock(1), said.put, failed.put)
    threads.submit([TimedRequest(ticket, (5, 6, 7)) for ticket in range(4)])
    threads.start()
    threads.close(60.0)
    return [said.get() for _ in range(said.qsize())], [failed.get() for _ in range(failed.qsize())]


@pytest.mark.parametrize("name", ["packed", "resident"])
def test_a_text_that_breaks_a_step_is_lost_alone(name: RunnerName) -> None:
    """The others of its step are answered, each by itself."""
    said, failed = serve(name, RuntimeError("no such row"))
    answers = {answer.ticket: answer for answers in said for answer in answers.answers}
    assert not failed
    assert {ticket for ticket, answer in answers.items() if answer.verdict} == {0, 1, 3}
    assert answers[2].error == "RuntimeError: no such row"


def test_a_lost_device_ends_the_process_and_blames_no_text() -> None:
    """Whoever takes over does the texts again; none becomes a dead letter."""
    said, failed = serve("resident", DeviceLost("cuda: an illegal memory access was encountered"))
    assert [type(each.error) for each in failed] == [DeviceLost]
    assert not [answer for answers in said for answer in answers.answers if answer.error]
