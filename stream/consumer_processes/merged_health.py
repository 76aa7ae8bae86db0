"""Merge health and metrics of all consumer processes into those of one service.

Consumer processes are asked continuously, so that a probe is answered at once.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPConnection, HTTPException

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from earlybird.stream.observability.health import Readiness
from earlybird.stream.observability.metrics import page_of

POLL_S = 0.5  # between two polls of a consumer process
REQUEST_TIMEOUT_S = 1.0  # time-out of one request; a consumer process answers from memory
SILENT_S = 3.0  # without an answer for so long a consumer process is not ready; only Supervisor ends it


class MergedHealth:
    """Latest health, readiness and metrics of every consumer process.

    `ports`: each consumer's health port on 127.0.0.1, 0 while it starts. `own`: the exposition of the engine's process.
    Polls from construction until `close`, each consumer process on a thread of its own, so that a consumer process that
    does not answer delays no probe. Safe to call from any thread.
    """

    def __init__(self, ports: Callable[[], Sequence[int]], own: Callable[[], bytes]) -> None:
        self._ports, self._own = ports, own
        self._processes = [_ProcessHealth() for _ in ports()]
        self._closed = threading.Event()
        for number in range(len(self._processes)):
            threading.Thread(target=self._poll, args=(number,), name=f"health-poll-{number}", daemon=True).start()

    def loop_age_s(self) -> float:
        """Return the age of the oldest loop; a starting consumer process counts as 0."""
        return max((process.loop_age_s() for process in self._processes), default=0.0)

    def readiness(self) -> Readiness:
        """Return the combined readiness: every consumer process must be ready."""
        waiting, degraded = list[str](), list[str]()
        for number, process in enumerate(self._processes):
            state = process.readiness
            silent = process.silence_s() > SILENT_S
            waiting += [f"consumer process {number}: {one}" for one in (["answer"] if silent else state["waiting"])]
            degraded += [f"consumer process {number}: {one}" for one in state["degraded"]]
        return Readiness(tuple(waiting), tuple(degraded))

    def page(self, accepted: str = "") -> tuple[str, bytes]:
        """Return all series in one page, see `page_of`.

        Series of the consumer processes have a label `consumer_process`, those of the engine do not. A consumer process
        that does not answer keeps the values of its last answer.
        """
        threads = [threading.Thread(target=self._read, args=(number,)) for number in range(len(self._processes))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        pages = {str(number): process.exposition for number, process in enumerate(self._processes)}
        return page_of(_Merged({"": self._own(), **pages}), accepted)

    def silent(self, timeout_s: float) -> list[int]:
        """Return the consumer processes that have missed polls for `timeout_s`.

        The time is counted in missed polls of LOOK_S + ASK_S each.
        """
        return [
            number
            for number, process in enumerate(self._processes)
            if process.missed * (POLL_S + REQUEST_TIMEOUT_S) >= timeout_s
        ]

    def close(self) -> None:
        self._closed.set()

    def _poll(self, number: int) -> None:
        while not self._closed.wait(POLL_S):
            if port := self._ports()[number]:
                self._processes[number].note(_response(port, "/healthz"), _response(port, "/readyz"))

    def _read(self, number: int) -> None:
        if (port := self._ports()[number]) and (page := _response(port, "/metrics")):
            self._processes[number].exposition = page


class _ProcessHealth:
    """Last answers of one consumer process, written by one thread and read by any."""

    def __init__(self) -> None:
        self.readiness: dict[str, list[str]] = {"waiting": ["start"], "degraded": []}
        self.exposition = b""
        self.missed = 0  # polls in a row without an answer
        self._last_answer: tuple[float, float] | None = None  # time of the last answer, and the loop's age in it

    def note(self, health: bytes, readiness: bytes) -> None:
        self.missed = 0 if health else self.missed + 1
        if health:
            self._last_answer = time.monotonic(), float(json.loads(health)["loop_age_s"])
        if readiness:
            self.readiness = json.loads(readiness)

    def silence_s(self) -> float:
        return 0.0 if self._last_answer is None else time.monotonic() - self._last_answer[0]

    def loop_age_s(self) -> float:
        return 0.0 if self._last_answer is None else self.silence_s() + self._last_answer[1]


class _Merged(Collector):
    """Several expositions as one: each family once, with the samples of all."""

    def __init__(self, expositions: dict[str, bytes]) -> None:
        self._expositions = expositions

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for process, text in self._expositions.items():
            for family in text_string_to_metric_families(text.decode()):
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                label = {"consumer_process": process} if process else {}
                merged.samples += [sample._replace(labels=sample.labels | label) for sample in family.samples]
        yield from families.values()


def _response(port: int, path: str) -> bytes:
    """Return a consumer's response body, whatever its status; empty without a response."""
    connection = HTTPConnection("127.0.0.1", port, timeout=REQUEST_TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    except (OSError, HTTPException):
        return b""
    finally:
        connection.close()
