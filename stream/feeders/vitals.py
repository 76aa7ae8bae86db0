"""Health and metrics of all feeders as those of one service: asked of each when somebody asks."""

import json
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPConnection, HTTPException

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from stream.health import Readiness
from stream.telemetry import page_of

ASK_S = 1.0  # a feeder answers from memory
UNHEARD_S = 3_600.0  # the beat of a feeder that does not answer


class Vitals:
    """`ports`: of each feeder's health on 127.0.0.1, 0 while it starts. `own`: the exposition of the engine's process.
    Safe to call from any thread."""

    def __init__(self, ports: Callable[[], Sequence[int]], own: Callable[[], bytes]) -> None:
        self._ports, self._own = ports, own

    def beat_age_s(self) -> float:
        """Of the feeder whose loop has not come round for the longest time; one that starts is well."""
        return max((self._beat_age_s(port) for port in self._ports() if port), default=0.0)

    def readiness(self) -> Readiness:
        """Every feeder must be ready."""
        waiting, degraded = list[str](), list[str]()
        for number, port in enumerate(self._ports()):
            said = _asked(port, "/readyz")
            lacks = json.loads(said) if said else {"waiting": ["start"], "degraded": []}
            waiting += [f"feeder {number}: {one}" for one in lacks["waiting"]]
            degraded += [f"feeder {number}: {one}" for one in lacks["degraded"]]
        return Readiness(tuple(waiting), tuple(degraded))

    def page(self, accepted: str = "") -> tuple[str, bytes]:
        """As `page_of`, all series: those of the feeders with a label `feeder`, those of the engine without."""
        said = {str(number): _asked(port, "/metrics") for number, port in enumerate(self._ports())}
        return page_of(_Merged({"": self._own(), **said}), accepted)

    def _beat_age_s(self, port: int) -> float:
        said = _asked(port, "/healthz")
        return float(json.loads(said)["beat_age_s"]) if said else UNHEARD_S


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
