"""Health and metrics of all feeders as those of one service: asked of each all the time, told at once."""

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

LOOK_S = 0.5  # between two looks at a feeder
ASK_S = 1.0  # a feeder answers from memory
UNHEARD_S = 3.0  # then it is not ready; what is done with it is the crew's affair


class Vitals:
    """`ports`: of each feeder's health on 127.0.0.1, 0 while it starts. `own`: the exposition of the engine's process.
    Looks from construction until `close`, at each feeder on a thread of its own, so that one that does not answer keeps
    no probe waiting. Safe to call from any thread."""

    def __init__(self, ports: Callable[[], Sequence[int]], own: Callable[[], bytes]) -> None:
        self._ports, self._own = ports, own
        self._feeders = [_Feeder() for _ in ports()]
        self._closed = threading.Event()
        for number in range(len(self._feeders)):
            threading.Thread(target=self._look, args=(number,), name=f"vitals-{number}", daemon=True).start()

    def loop_age_s(self) -> float:
        """Of the feeder whose loop has not come round for the longest time; one that starts is well."""
        return max((feeder.loop_age_s() for feeder in self._feeders), default=0.0)

    def readiness(self) -> Readiness:
        """Every feeder must be ready."""
        waiting, degraded = list[str](), list[str]()
        for number, feeder in enumerate(self._feeders):
            lacks = feeder.readiness
            unheard = feeder.unheard_s() > UNHEARD_S
            waiting += [f"feeder {number}: {one}" for one in (["answer"] if unheard else lacks["waiting"])]
            degraded += [f"feeder {number}: {one}" for one in lacks["degraded"]]
        return Readiness(tuple(waiting), tuple(degraded))

    def page(self, accepted: str = "") -> tuple[str, bytes]:
        """As `page_of`, all series: those of the feeders with a label `feeder`, those of the engine without. A feeder
        that does not answer has those that it told last."""
        threads = [threading.Thread(target=self._read, args=(number,)) for number in range(len(self._feeders))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told = {str(number): feeder.exposition for number, feeder in enumerate(self._feeders)}
        return page_of(_Merged({"": self._own(), **told}), accepted)

    def silent(self, timeout_s: float) -> list[int]:
        """Feeders that have not answered for so long, all looks together."""
        return [number for number, feeder in enumerate(self._feeders) if feeder.missed * (LOOK_S + ASK_S) >= timeout_s]

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    def _look(self, number: int) -> None:
        while not self._closed.wait(LOOK_S):
            if port := self._ports()[number]:
                self._feeders[number].hear(_asked(port, "/healthz"), _asked(port, "/readyz"))

    def _read(self, number: int) -> None:
        if (port := self._ports()[number]) and (told := _asked(port, "/metrics")):
            self._feeders[number].exposition = told


class _Feeder:
    """What one of them told last. Written by one thread, read by any."""

    def __init__(self) -> None:
        self.readiness: dict[str, list[str]] = {"waiting": ["start"], "degraded": []}
        self.exposition = b""
        self.missed = 0  # looks in a row without an answer
        self._beat: tuple[float, float] | None = None  # when we heard, and how old its beat was

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
    """Expositions as one: each family once, with the samples of all."""

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
    """What a feeder answers, whatever the status; nothing when it does not."""
    connection = HTTPConnection("127.0.0.1", port, timeout=ASK_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    except (OSError, HTTPException):
        return b""
    finally:
        connection.close()
