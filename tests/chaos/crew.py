"""Workers as processes, and the supervisor that starts the dead ones again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from project import ROOT

SIMULATED = ("-m", "tests.chaos.worker")
REAL = ("-m", "earlybird.stream.cli", "run")


class Worker:
    """One process, its log, and what a driver does to it."""

    def __init__(self, slot: int, command: Sequence[str], settings: Mapping[str, str], log: Path) -> None:
        self.slot, self.log = slot, log
        self.told = False  # to end, by us
        self.killed = False  # by signal 9, by us
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, *command], env=os.environ | dict(settings), stdout=out, stderr=out, cwd=ROOT
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, once it has ended."""
        return self._process.poll()

    @property
    def ready(self) -> bool:
        """Whether it serves and can be told things by signals."""
        return self.status is None and bool(self.events("service.started"))

    def events(self, name: str) -> list[dict[str, Any]]:
        """What it logged under this name."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and f'"{name}"' in line]

    def tell(self, number: int) -> None:
        """Send a signal; one that ends it is no surprise later."""
        self.told |= number in (signal.SIGKILL, signal.SIGTERM)
        self.killed |= number == signal.SIGKILL and self.status is None
        if self.status is None:
            os.kill(self.pid, number)

    def wait(self, timeout_s: float = 60.0) -> int:
        return self._process.wait(timeout_s)


class Crew:
    """Members of a group by slot. `mend` starts those again that have ended, as Kubernetes or systemd would."""

    def __init__(
        self, count: int, command: Sequence[str], settings: Callable[[int], Mapping[str, str]], folder: Path
    ) -> None:
        self.killed = 0  # processes by signal 9, in all
        self.deaths: Counter[str] = Counter()  # of those that were not told to end, by exit status
        self._command, self._settings, self._folder = command, settings, folder
        self._starts = 0
        self.workers = [self._start(slot) for slot in range(count)]

    def mend(self) -> None:
        """Start each again that has ended."""
        for place, worker in enumerate(self.workers):
            if worker.status is not None:
                self.killed += worker.killed
                if not worker.told:
                    self.deaths[str(worker.status)] += 1
                self.workers[place] = self._start(worker.slot)

    def add(self) -> Worker:
        """Start one more worker of the group."""
        self.workers.append(self._start(max(worker.slot for worker in self.workers) + 1))
        return self.workers[-1]

    def remove(self, worker: Worker) -> int:
        """Tell it to end and wait; its exit status."""
        self.workers.remove(worker)
        worker.tell(signal.SIGTERM)
        return worker.wait()

    def close(self) -> list[int]:
        """Tell all to end; their exit statuses. Those that do not are killed."""
        for worker in self.workers:
            worker.tell(signal.SIGCONT)
            worker.tell(signal.SIGTERM)
        return [worker.wait() for worker in self.workers]

    def kill(self) -> None:
        """End all at once."""
        for worker in self.workers:
            worker.tell(signal.SIGKILL)
            worker.wait()

    def until(self, condition: Callable[[], bool], timeout_s: float = 240.0) -> None:
        """Fails when it does not come to hold."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"workers never got so far; their logs: {self._folder}"
            self.mend()
            time.sleep(0.05)

    def _start(self, slot: int) -> Worker:
        self._starts += 1
        return Worker(slot, self._command, self._settings(slot), self._folder / f"worker-{slot}-{self._starts}.log")
