"""Engine threads: each owns one runner over the shared weights and fills its free slots."""

import threading
import time
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Protocol, runtime_checkable

import structlog

from earlybird.engine.errors import DeviceLost
from earlybird.engine.slots.runner import Runner
from earlybird.engine.types import Verdict
from earlybird.stream.observability.figures import Values
from earlybird.stream.ports import Clock
from earlybird.stream.stage.deadlines import Deadlines
from earlybird.stream.stage.messages import Answer, Answers, Failed, TimedRequest

log = structlog.get_logger(__name__)

SHUTDOWN_GRACE_S = 4.0  # for threads to end and for the last acknowledgements, after the drain


@runtime_checkable
class EngineBackend(Protocol):
    """The part of Engine that these threads use; see there."""

    @property
    def device(self) -> str: ...

    @property
    def slots(self) -> int: ...

    @property
    def in_flight(self) -> int: ...

    def runner(self) -> Runner: ...

    def alone(self) -> Runner: ...


class EngineThreads:
    """Threads that compute requests and pass the answers to `deliver`.

    `deliver` and `fail` are called on the engine threads, so each must be a queue's put.
    """

    def __init__(
        self,
        engine: EngineBackend,
        threads: int,
        clock: Clock,
        deliver: Callable[[Answers], None],
        fail: Callable[[Failed], None],
    ) -> None:
        self._engine, self._clock, self._deliver, self._fail = engine, clock, deliver, fail
        threads = 1 if engine.device == "cuda" else threads  # one loop saturates a GPU; another would only share it
        self._inbox: SimpleQueue[TimedRequest | None] = SimpleQueue()
        self._active = [0] * threads
        self._steps = [0] * threads
        self._busy = [False] * threads  # inside a step, not waiting for texts
        self._ready = [False] * threads  # its runner is built, which may take minutes
        self._busy_s = [0.0] * threads
        self._tokens = [0] * threads
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"engine-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def submit(self, requests: list[TimedRequest]) -> None:
        """Queue requests. Each is answered exactly once, at its current depth if its deadline passes."""
        for request in requests:
            self._inbox.put(request)

    def close(self, timeout_s: float) -> None:
        """Answer what was submitted, then end the threads, waiting at most `timeout_s`.

        Logs the threads that have not ended by then and leaves them running.
        """
        for _ in self._threads:
            self._inbox.put(None)
        deadline_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        left = [thread.name for thread in self._threads if thread.is_alive()]
        if left:
            log.warning("engine.not_ended", threads=left, texts=self._inbox.qsize(), waited_s=timeout_s)

    @property
    def figures(self) -> Values:
        """Totals over all threads; see stream.observability.figures."""
        return {
            "slots.active": sum(self._active),
            "slots.capacity": len(self._threads) * self._engine.slots,
            "engine.threads": len(self._threads),
            "engine.queued": self._inbox.qsize(),
            "engine.passes": sum(self._steps),
            "engine.busy_s": sum(self._busy_s),
            "engine.tokens": sum(self._tokens),
        }

    def progress(self) -> Mapping[str, float | None]:
        """See InferenceThreads.progress. A hung step stands still; a runner being built does not."""
        return {
            thread.name: (self._steps[number] if self._busy[number] else None)
            if self._ready[number]
            else time.monotonic()
            for number, thread in enumerate(self._threads)
        }

    def _run(self, number: int) -> None:
        try:
            self._serve(number, self._engine.runner())
        except BaseException as error:  # the process must end, or texts would wait for ever
            self._fail(Failed(error))

    def _serve(self, number: int, runner: Runner) -> None:
        in_flight: dict[int, tuple[TimedRequest, int]] = {}  # ticket -> request, engine_in_us
        deadlines = Deadlines()
        ending, self._ready[number] = False, True
        while not ending or in_flight:
            self._busy[number] = bool(in_flight)
            requests, ended = self._dequeue(self._engine.in_flight - len(in_flight), wait=not in_flight and not ending)
            ending |= ended
            if not requests and not in_flight:
                continue
            self._busy[number] = True
            now_us = self._clock.now_us()
            in_flight.update((request.ticket, (request, now_us)) for request in requests)
            deadlines.watch(requests)
            began_s = time.perf_counter()
            try:
                runner.submit(requests)
                runner.behind = self._inbox.qsize()
                if late := deadlines.late(now_us, in_flight):
                    runner.expire(late)
                verdicts = runner.step()
            except DeviceLost:
                raise  # no text is at fault: another process computes them
            except Exception as error:
                log.exception("engine.step_failed", texts=len(in_flight))
                self._deliver(Answers(self._one_by_one(number, in_flight, error)))
                self._ready[number] = False
                in_flight, runner = {}, self._engine.runner()
                self._ready[number] = True
                continue
            self._active[number] = runner.active
            self._steps[number] += 1
            self._busy_s[number] += time.perf_counter() - began_s
            if verdicts:
                exited_us, left = self._clock.now_us(), [(v, *in_flight.pop(v.ticket)) for v in verdicts]
                self._tokens[number] += sum(len(request.token_ids) * v.exit_layer for v, request, _ in left)
                self._deliver(Answers([Answer(v.ticket, v, in_us, exited_us) for v, _, in_us in left]))

    def _dequeue(self, room: int, *, wait: bool) -> tuple[list[TimedRequest], bool]:
        """Take up to `room` requests, at most a fair share of those queued.

        Also returns whether the end was reached.
        """
        requests: list[TimedRequest] = []
        share = min(room, self._inbox.qsize() // len(self._threads) + 1)
        try:
            while len(requests) < share:
                request = self._inbox.get(block=wait and not requests)
                if request is None:
                    return requests, True
                requests.append(request)
        except Empty:
            pass
        return requests, False

    def _one_by_one(
        self, number: int, in_flight: dict[int, tuple[TimedRequest, int]], cause: Exception
    ) -> list[Answer]:
        """Compute each text alone after a failed step, to lose only the faulty one."""
        answers, alone = [], self._engine.alone()
        for request, engine_in_us in in_flight.values():
            try:
                alone.submit([request])
                if request.due_us is not None and request.due_us <= self._clock.now_us():
                    alone.expire([request.ticket])
                verdicts: list[Verdict] = []
                while not verdicts:
                    verdicts = alone.step()
                    self._steps[number] += 1
                answers.append(Answer(request.ticket, verdicts[0], engine_in_us, self._clock.now_us()))
            except DeviceLost:
                raise
            except Exception as error:
                alone = self._engine.alone()
                log.error("text.failed", error=str(error), cause=str(cause))
                answers.append(Answer(request.ticket, None, error=f"{type(error).__name__}: {error}"))
        return answers
