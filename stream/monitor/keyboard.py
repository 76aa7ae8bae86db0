"""Keys as they are pressed, on POSIX terminals; elsewhere nothing can be typed."""

import contextlib
import os
import select
import signal
import sys
from types import FrameType
from typing import Self

try:
    import termios
    import tty
except ImportError:  # not a POSIX system
    _POSIX = False
else:
    _POSIX = True

_MOST_BYTES = 65_536
_CTRL_D = b"\x04"


class Keyboard:
    """Standard input, key by key and without an echo, as a context manager.

    `on` says whether keys can be read: standard input is a terminal and this process is in its foreground. The terminal
    is restored on exit, and set again when a stopped process goes on. Ctrl-C still interrupts, and so does Ctrl-D.
    """

    def __init__(self, wanted: bool) -> None:
        self.on = wanted and _POSIX and sys.stdin is not None and _in_foreground()
        self._before: list[object] | None = None
        self._handler: object = None

    def __enter__(self) -> Self:
        if self.on:
            self._before = list(termios.tcgetattr(sys.stdin.fileno()))
            self._handler = signal.signal(signal.SIGCONT, self._again)
            tty.setcbreak(sys.stdin.fileno())
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            with contextlib.suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSAFLUSH, self._before)  # type: ignore[arg-type]
            self._before = None
            signal.signal(signal.SIGCONT, self._handler)  # type: ignore[arg-type]

    def read(self) -> bytes:
        """Return what was typed since the last call; raises KeyboardInterrupt for Ctrl-D."""
        if not self.on or not select.select([sys.stdin], [], [], 0)[0]:
            return b""
        try:
            typed = os.read(sys.stdin.fileno(), _MOST_BYTES)
        except OSError:
            typed = b""
        if _CTRL_D in typed:
            raise KeyboardInterrupt
        self.on = bool(typed)  # nothing to read from a readable terminal: it was closed
        return typed

    def _again(self, _number: int, _frame: FrameType | None) -> None:
        if _in_foreground():
            tty.setcbreak(sys.stdin.fileno(), termios.TCSANOW)


def _in_foreground() -> bool:
    try:
        return sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False
