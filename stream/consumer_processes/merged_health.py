"""Merge health and metrics of all feeders into those of one service.

Feeders are asked continuously, so that a probe is answered at once.
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

LOOK_S = 0.5  # between two polls of a feeder
ASK_S = 1.0  # time-out of one request; a feeder answers from memory
UNHEARD_S = 3.0  # without an answer for so long a feeder is not ready; only Crew ends it


class Vitals:
    """Latest health, readiness and metrics of every feeder.

    `ports`: each feeder's health port on 127.0.0.1, 0 while it starts. `own`: the exposition of the engine's
    process. Polls from construction until `close`, each feeder on a thread of its own, so that a feeder that does
    not answer delays no probe. Safe to call from any thread.
    """

    def __init__(self, ports: Callable[[], Sequence[int]], own: Callable[[], bytes]) -> None:
        self._ports, self._own = ports, own
        self._feeders = [_Feeder() for _ in ports()]
        self._closed = threading.Event()
        for number in range(len(self._feeders)):
            threading.Thread(target=self._look, args=(number,), name=f"vitals-{number}", daemon=True).start()

    def loop_age_s(self) -> float:
        """Return the age of the oldest feeder loop; a starting feeder counts as 0."""
        return max((feeder.loop_age_s() for feeder in self._feeders), default=0.0)

    def readiness(self) -> Readiness:
        """Return the combined readiness: every feeder must be ready."""
        waiting, degraded = list[str](), list[str]()
        for number, feeder in enumerate(self._feeders):
            lacks = feeder.readiness
            unheard = feeder.unheard_s() > UNHEARD_S
            waiting += [f"feeder {number}: {one}" for one in (["answer"] if unheard else lacks["waiting"])]
            degraded += [f"feeder {number}: {one}" for one in lacks["degraded"]]
        return Readiness(tuple(waiting), tuple(degraded))

    def page(self, accepted: str = "") -> tuple[str, bytes]:
        """Return all series in one page, see `page_of`.

        Series of the feeders have a label `feeder`, those of the engine do not. A feeder that does not answer keeps
        the values of its last answer.
        """
        threads = [threading.Thread(target=self._read, args=(number,)) for number in range(len(self._feeders))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told = {str(number): feeder.exposition for number, feeder in enumerate(self._feeders)}
        return page_of(_Merged({"": self._own(), **told}), accepted)

    def silent(self, timeout_s: float) -> list[int]:
        """Return the feeders that have missed polls for `timeout_s`.

        The time is counted in missed polls of LOOK_S + ASK_S each.
        """
        return [number for number, feeder in enumerate(self._feeders) if feeder.missed * (LOOK_S + ASK_S) >= timeout_s]

    def close(self) -> None:
        """Stop polling."""
        self._closed.set()

    def _look(self, number: int) -> None:
        while not self._closed.wait(LOOK_S):
            if port := self._ports()[number]:
                self._feeders[number].hear(_asked(port, "/healthz"), _asked(port, "/readyz"))

    def _read(self, number: int) -> None:
        if (port := self._ports()[number]) and (told := _asked(port, "/metrics")):
            self._feeders[number].exposition = told


class _Feeder:
    """Last answers of one feeder, written by one thread and read by any."""

    def __init__(self) -> None:
        self.readiness: dict[str, list[str]] = {"waiting": ["start"], "degraded": []}
        self.exposition = b""
        self.missed = 0  # polls in a row without an answer
        self._beat: tuple[float, float] | None = None  # time of the last answer, and the loop's age in it

    def hear(self, health: bytes, readiness: bytes) -> None:
        self.missed = 0 if health else self.missed + 1
        if health:
            self._beat = time.monotonic(), float(json.loads(health)["loop_age_s"])
        if readiness:
            self.readiness = json.loads(readiness)

    def unheard_s(self) -> float:
        return 0.0 if self._beat is None else time.monotonic() - self._beat[0]

    def loop_age_s(self) -> float:
        return 0.0 if self._beat is None else self.unheard_s() + self._beat[1]


class _Merged(Collector):
    """Several expositions as one: each family once, with the samples of all."""

    def __init__(self, expositions: dict[str, bytes]) -> None:
        self._expositions = expositions

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for feeder, text in self._expositions.items():
            for family in text_string_to_metric_families(text.decode()):
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                label = {"feeder": feeder} if feeder else {}
                merged.samples += [sample._replace(labels=sample.labels | label) for sample in family.samples]
        yield from families.values()


def _asked(port: int, path: str) -> bytes:
    """Return a feeder's response body, whatever its status; empty without a response."""
    connection = HTTPConnection("127.0.0.1", port, timeout=ASK_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    except (OSError, HTTPException):
        return b""
    finally:
        connection.close()
