"""Orderly end of a command that publishes, on SIGINT or SIGTERM."""

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

_SHOW_CURSOR = b"\x1b[?25h"

Line = TypeVar("Line")


class Interruption:
    """Context in which the first SIGINT or SIGTERM asks for an orderly end.

    The second one ends the process. An exception breaks off only a wait for lines: one that is raised while the client
    reports a delivery is swallowed by its C code.
    """

    def __init__(self) -> None:
        self._number = 0
        self._reading = False

    def __enter__(self) -> "Interruption":
        self._before = {number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def status(self) -> int:
        """Exit status for the received signal; 0 without one."""
        return 128 + self._number if self._number else 0

    def came(self) -> bool:
        """Return whether a signal was received."""
        return self._number != 0

    def until(self, lines: Iterable[Line]) -> Iterator[Line]:
        """Yield lines until a signal is received."""
        source = iter(lines)
        try:
            while True:
                self._reading = True  # set before the check, so that a signal in between raises
                if self._number:
                    return
                line = next(source)
                self._reading = False
                yield line
        except (StopIteration, KeyboardInterrupt):
            return
        finally:
            self._reading = False

    def _take(self, number: int, _frame: object) -> None:
        if self._number:
            if sys.stderr.isatty():
                os.write(sys.stderr.fileno(), _SHOW_CURSOR)  # the progress bar hides the cursor
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._number = number
        if self._reading:
            raise KeyboardInterrupt
