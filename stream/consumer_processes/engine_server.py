"""Serve one engine to many consumer processes."""

import os
import select
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from earlybird.stream.consumer_processes.channel import Channel, TicketMap
from earlybird.stream.ports import Clock
from earlybird.stream.stage.engine_threads import SHUTDOWN_GRACE_S, EngineBackend, EngineThreads
from earlybird.stream.stage.messages import Answer, Answers, Failed


class EngineServer:
    """Engine server with two threads: one takes requests, one puts answers.

    Each consumer's requests are taken in the consumer's order. No consumer process has more requests in flight than its
    channel holds, so none starves the others.
    """

    def __init__(
        self,
        channels: Sequence[Channel],
        engine: EngineBackend,
        threads: int,
        clock: Clock,
        fail: Callable[[Failed], None],
    ) -> None:
        """Connect `channels` to `engine`; `fail` is called when the engine cannot go on."""
        self._ends = [channel.engine_end(TicketMap(len(channels), number)) for number, channel in enumerate(channels)]
        self._answers: SimpleQueue[Answers | None] = SimpleQueue()
        self.threads = EngineThreads(engine, threads, clock, deliver=self._answers.put, fail=fail)
        self._fail = fail
        self.answered = 0  # texts, since the start
        self._ended = os.eventfd(0, os.EFD_CLOEXEC)
        self._intake = threading.Thread(target=self._guarded, args=(self._take_requests,), name="intake", daemon=True)
        self._outlet = threading.Thread(target=self._guarded, args=(self._put_answers,), name="outlet", daemon=True)

    def start(self) -> None:
        """Start the engine's threads and both server threads."""
        self.threads.start()
        self._intake.start()
        self._outlet.start()

    def ports(self) -> list[int]:
        """Return each consumer's health port, see ChannelEnd.port."""
        return [end.port for end in self._ends]

    def close(self, timeout_s: float = SHUTDOWN_GRACE_S) -> None:
        """Answer the requests already taken, then end the threads."""
        os.eventfd_write(self._ended, 1)
        self._intake.join(timeout_s)
        self.threads.close(timeout_s)
        self._answers.put(None)
        self._outlet.join(timeout_s)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # reported, so that the process ends: texts would wait for ever
            self._fail(Failed(error))

    def _take_requests(self) -> None:
        requests = {end.requests.count: end.requests for end in self._ends}
        events = select.poll()
        for descriptor in (*requests, self._ended):
            events.register(descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in events.poll()}
            if self._ended in ready:
                return
            for descriptor in ready:
                self.threads.submit(requests[descriptor].take())

    def _put_answers(self) -> None:
        ended = False
        while not ended:
            batches = [self._answers.get()]
            with suppress(Empty):
                while True:
                    batches.append(self._answers.get_nowait())
            ended = batches[-1] is None
            shares: list[list[Answer]] = [[] for _ in self._ends]
            for answers in batches:
                for answer in answers.answers if answers else ():
                    shares[answer.ticket % len(shares)].append(answer)
            for end, share in zip(self._ends, shares, strict=True):
                end.answers.put(share)
                self.answered += len(share)
