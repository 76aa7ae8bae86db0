"""End a process that hangs, or that does not end when it was told to.

What hangs cannot be mended from inside. The process says which part stands, writes where each thread is, and ends: its
partitions go to others, and a supervisor starts it again. Nothing is lost by that, as by any death.
"""

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Hashable, Mapping
from types import TracebackType
from typing import Self

import structlog

log = structlog.get_logger(__name__)

Progress = Mapping[str, Hashable | None]
"""By part: anything that differs once it has gone a step further; None: it has nothing to do."""

LOOK_S = 1.0
SLOW_S = 15.0  # without a step: no longer ready
HUNG_S = 60.0  # then the process ends. The slowest step there is, a large model's on a slow core, takes ten
END_S = 15.0  # on top of the time to drain: to commit, to leave the group, for the last acknowledgements
STATUS = 70  # of a process that was ended so; EX_SOFTWARE
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Watchdog:
    """Looks every second, from construction until `close`. Looks are counted, and not the time between them, so that
    nobody is taken for hung because the whole machine stood still. Use as a context manager."""

    def __init__(
        self,
        progress: Callable[[], Progress],
        stop: threading.Event,
        end_s: float,
        *,
        look_s: float = LOOK_S,
        end: Callable[[], None] | None = None,
    ) -> None:
        """`progress` is called on this object's thread and must only read. `end_s`: how long the process may take to
        end once `stop` is set. `end`: what ends it."""
        self._progress, self._stop, self._end_s, self._look_s = progress, stop, end_s, look_s
        self._end = end or _end_process
        self._seen: dict[str, Hashable] = {}
        self._looks: dict[str, int] = {}  # that a part with work in hand has not moved
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    @property
    def standing(self) -> tuple[str, ...]:
        """Parts that have work in hand and have not moved for a while. Any thread."""
        return tuple(part for part, looks in list(self._looks.items()) if looks * LOOK_S >= SLOW_S)

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        looks_since_stop = 0
        while not self._closed.wait(self._look_s):
            # For a thread that never gives the interpreter back, so that this one cannot look.
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
    """An event that SIGTERM and SIGINT set, even while the main thread is inside a call that does not come back."""
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


def _end_process() -> None:
    faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
    os._exit(STATUS)
