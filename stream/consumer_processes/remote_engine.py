"""Inference by the process that has the engine, as a feeder sees it."""

import os
import select
import threading
from collections import deque
from collections.abc import Callable, Mapping

from earlybird.stream.consumer_processes.channel import End
from earlybird.stream.errors import EngineGone
from earlybird.stream.observability.figures import Values
from earlybird.stream.stage.messages import Answers, Failed, TimedRequest


class Remote:
    """Requests out, answers in through `deliver`. `submit` belongs to the consumer thread; the thread that takes the
    answers is this object's own, and calls `deliver` and `fail`, which must be puts of queues."""

    figures: Values = {}  # noqa: RUF012  # told by the process that has the slots

    def __init__(
        self, end: End, lifeline: int | None, deliver: Callable[[Answers], None], fail: Callable[[Failed], None]
    ) -> None:
        """`lifeline`: a pipe that nobody but the engine's process holds open; its end is that of the engine."""
        self._end, self._lifeline, self._deliver, self._fail = end, lifeline, deliver, fail
        self._waiting: deque[TimedRequest] = deque()  # for room on the line; a record may hold many texts
        self._sent = self._answered = 0  # the latter counts for the answers' thread, the former for the consumer's
        self._ended = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)

    def start(self) -> None:
        """Begin to take answers."""
        self._thread.start()

    @property
    def room(self) -> int:
        """Requests that the line has room for. For the consumer thread; more may come at any time."""
        return self._end.places - (self._sent - self._answered)

    def submit(self, requests: list[TimedRequest]) -> None:
        """As Inference.submit. What finds no room waits for the next call."""
        self._waiting.extend(requests)
        taken = [self._waiting.popleft() for _ in range(min(self.room, len(self._waiting)))]
        self._sent += len(taken)
        self._end.requests.put(taken)

    def progress(self) -> Mapping[str, float | None]:
        """As Serving.progress: the process that has the engine looks after it."""
        return {}

    def close(self, timeout_s: float) -> None:
        """Take no more answers; what was submitted and not answered is the next worker's."""
        os.eventfd_write(self._ended, 1)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._take()
        except BaseException as error:  # the process must end: texts would wait for ever
            self._fail(Failed(error))

    def _take(self) -> None:
        events = select.poll()
        for descriptor in (self._end.answers.count, self._ended, self._lifeline):
            if descriptor is not None:
                events.register(descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in events.poll()}
            if self._ended in ready:
                return
            if self._lifeline in ready:
                raise EngineGone("the process that has the engine ended; what it has not answered is read again")
            answers = self._end.answers.take()
            self._answered += len(answers)  # first: whoever hears of them may submit as many
            self._deliver(Answers(answers))
