"""End a process that hangs, or that does not end when told to.

A hang cannot be repaired from inside. The watchdog logs which part hangs, dumps the stack of every thread, and ends
the process: its partitions move to other workers, and a supervisor restarts it. As after any crash, nothing is lost.
"""

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from typing import NoReturn, Self

import structlog

log = structlog.get_logger(__name__)

Progress = Mapping[str, Hashable | None]
"""Progress marker per part: any value that changes with each step; None while the part is idle."""

LOOK_S = 1.0
SLOW_S = 15.0  # without progress for so long: not ready
HUNG_S = 60.0  # without progress for so long: ended. The slowest step, a large model on a slow core, takes ten seconds
END_S = 25.0  # beyond the drain time: a commit, the last acknowledgements, leaving the group; each has a limit
STATUS = 70  # exit status of a process that the watchdog ended; EX_SOFTWARE
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Watchdog:
    """Thread that checks progress every second, from construction until `close`.

    It counts checks instead of elapsed time, so that a machine that stood still as a whole does not count as a hang,
    unless for longer than 2 * HUNG_S by the monotonic clock: the timer for a stuck interpreter measures time.
    Use as a context manager.
    """

    def __init__(
        self,
        progress: Callable[[], Progress],
        stop: threading.Event,
        end_s: float,
        *,
        look_s: float = LOOK_S,
        end: Callable[[], None] | None = None,
    ) -> None:
        """Watch `progress`, called on this object's thread; it must only read.

        `end_s`: how long the process may take to end once `stop` is set. `end`: ends the process.
        """
        self._progress, self._stop, self._end_s, self._look_s = progress, stop, end_s, look_s
        self._end = end or _end_process
        self._seen: dict[str, Hashable] = {}
        self._looks: dict[str, int] = {}  # checks in a row in which a part with work made no progress
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    @property
    def standing(self) -> tuple[str, ...]:
        """Parts with pending work that made no progress for SLOW_S; any thread."""
        return tuple(part for part, looks in list(self._looks.items()) if looks * LOOK_S >= SLOW_S)

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        looks_since_stop = 0
        while not self._closed.wait(self._look_s):
            # For a thread that never releases the interpreter, so that this one cannot check.
            faulthandler.dump_traceback_later(2 * HUNG_S, exit=True)
            self._look()
            hung = [part for part, looks in self._looks.items() if looks * LOOK_S >= HUNG_S]
            if hung:
                log.critical("service.hung", parts=hung, without_progress_s=HUNG_S, status=STATUS)
                self._end()
            looks_since_stop += self._stop.is_set()
            if looks_since_stop * LOOK_S >= self._end_s:
                log.critical("service.not_ended", told_s_ago=self._end_s, standing=self.standing, status=STATUS)
                self._end()

    def _look(self) -> None:
        progress = self._progress()
        for part, now in progress.items():
            stands = now is not None and self._seen.get(part) == now
            self._looks[part] = self._looks.get(part, 0) + 1 if stands else 0
            self._seen[part] = now


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set.

    They set it even while the main thread is inside a call that never returns.
    """
    stop = threading.Event()
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, lambda *_: stop.set())

    def wait() -> None:
        while os.read(read, 1)[0] not in SIGNALS:
            pass
        stop.set()

    threading.Thread(target=wait, name="signals", daemon=True).start()
    return stop


def leave(status: int) -> NoReturn:
    """End the process at once, without the interpreter's finalisation.

    Every promise is kept by now. Threads that stand inside a C++ library (an engine that was still loading, a client
    that never answers) would abort the process while the interpreter takes itself apart.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _end_process() -> None:
    faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
    os._exit(STATUS)
