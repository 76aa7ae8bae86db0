"""The demo's line to its worker: its address, its slots, and a comparison on request."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from earlybird.stream.demo.worker import COMPARE
from earlybird.stream.monitor.passes import Pass

_LARGEST = 262_144  # bytes of a message
_FIRST_FREE = 10  # file descriptors below it may have a use in the shell that starts the worker


class WorkerChannel:
    """Datagram socket to the worker. Not thread-safe.

    Where it is not read for long, the worker leaves out passes; the totals in later ones make up for them.
    """

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for each in (self._ours, self._theirs):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LARGEST)
        self._ours.setblocking(False)
        self.health: str | None = None  # base URL of the worker's health; None until it has come
        self.comparison: dict[str, Any] | None = None  # None until one has come

    @contextmanager
    def end_of_worker(self) -> Iterator[int]:
        """Lend the worker's end, by file descriptor, to the start of its process."""
        number = fcntl.fcntl(self._theirs, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
        self._theirs.close()
        try:
            yield number
        finally:
            os.close(number)

    def passes(self) -> list[Pass]:
        """Return the passes since the last call."""
        found = list[Pass]()
        while True:
            try:
                message = json.loads(self._ours.recv(_LARGEST))
            except (BlockingIOError, ConnectionError):
                return found
            if "pass" in message:
                found.append(Pass.from_fields(message["pass"]))
            elif "health" in message:
                self.health = message["health"]
            else:
                self.comparison = message["comparison"]

    def compare(self) -> None:
        """Ask for a comparison of the texts so far; it arrives in `comparison`.

        A worker that has ended gives none: see DemoStage.check.
        """
        try:
            self._ours.send(COMPARE)
        except OSError:
            self.comparison = {}

    def close(self) -> None:
        """Close this process's handles of both ends."""
        self._ours.close()
        self._theirs.close()
