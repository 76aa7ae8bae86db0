"""Inference through the engine's process, as a consumer process uses it."""

import os
import select
import threading
from collections import deque
from collections.abc import Callable, Mapping

from earlybird.stream.consumer_processes.channel import ChannelEnd
from earlybird.stream.errors import EngineGone
from earlybird.stream.observability.figures import Values
from earlybird.stream.stage.messages import Answers, Failed, TimedRequest


class RemoteEngine:
    """Inference over a channel: sends requests, passes answers to `deliver`.

    `submit` is for the consumer thread. The answers' thread is this object's own and calls `deliver` and `fail`,
    which must only put into queues.
    """

    figures: Values = {}  # noqa: RUF012  # the engine's process reports those of the slots

    def __init__(
        self, end: ChannelEnd, lifeline: int | None, deliver: Callable[[Answers], None], fail: Callable[[Failed], None]
    ) -> None:
        """Use `end` of the channel; the engine has ended when `lifeline` closes.

        `lifeline` is a pipe that only the engine's process holds open.
        """
        self._end, self._lifeline, self._deliver, self._fail = end, lifeline, deliver, fail
        self._waiting: deque[TimedRequest] = deque()  # until the channel has room; a record may hold many texts
        self._sent = self._answered = 0  # _sent belongs to the consumer thread, _answered to the answers' thread
        self._ended = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)

    def start(self) -> None:
        """Start the thread that takes answers."""
        self._thread.start()

    @property
    def room(self) -> int:
        """Number of requests that the channel has room for.

        For the consumer thread; it may grow at any time.
        """
        return self._end.capacity - (self._sent - self._answered)

    def submit(self, requests: list[TimedRequest]) -> None:
        """See Inference.submit; requests without room wait for the next call."""
        self._waiting.extend(requests)
        taken = [self._waiting.popleft() for _ in range(min(self.room, len(self._waiting)))]
        self._sent += len(taken)
        self._end.requests.put(taken)

    def progress(self) -> Mapping[str, float | None]:
        """See InferenceThreads.progress; empty, since the engine's process watches the engine."""
        return {}

    def close(self, timeout_s: float) -> None:
        """Stop taking answers; the next owner reads the unanswered requests' records again."""
        os.eventfd_write(self._ended, 1)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._take_answers()
        except BaseException as error:  # reported, so that the process ends: texts would wait for ever
            self._fail(Failed(error))

    def _take_answers(self) -> None:
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
            self._answered += len(answers)  # before deliver: its receiver may submit as many again
            self._deliver(Answers(answers))
