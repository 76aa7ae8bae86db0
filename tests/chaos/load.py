"""More than the engine can do, a burst, and a million records: memory stays bounded, and everything has its outcome."""

import time
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from earlybird.stream.adapters.tail import Tail
from earlybird.stream.bench.load import fill
from tests.chaos.crew import SIMULATED, Crew, Worker
from tests.chaos.feed import Feed
from tests.chaos.ledger import Topics
from tests.chaos.setting import Delivery, Setting, audited, environment

SLOW, FAST = (
    Setting("slow", workers=2, step_ms=400, session_ms=10_000, options={"LIMITS__MAX_IN_FLIGHT": "128"}),
    Setting("fast", workers=2, step_ms=0, session_ms=10_000),
)
CAPACITY = 17  # texts a second that two workers with the steps of SLOW can do
# What the resident size may grow by from the first half of a run to the second: records read ahead come to 56 MB.
GROWTH, SLACK_MB = 1.1, 40
PATIENCE_S = 3_600.0
LAG_PATIENCE_S = 30.0  # for the metrics to show what was published last; they are set each second


@dataclass
class Load:
    """What a load did to the workers, and what came of its records."""

    load: str
    delivery: str
    inputs: int = 0
    lost: int = 0
    repeated: int = 0
    seconds: float = 0.0
    per_s: float = 0.0  # outcomes, while it lasted
    lag_max: int = 0  # records, by the workers' metrics
    rss_half_mb: int = 0  # largest of a worker in the first half
    rss_mb: int = 0  # in the second
    rebalances: int = 0
    faults: list[str] = field(default_factory=list)


class Stand:
    """Topics, workers and their figures; what became of the records is for `earlybird audit` to say."""

    def __init__(
        self, kafka: Any, delivery: Delivery, folder: Path, setting: Setting, options: Mapping[str, str]
    ) -> None:
        self.delivery, self._folder, self._options = delivery, folder / uuid.uuid4().hex[:6], options
        self.topics = Topics.create(kafka.bootstrap_servers, f"load-{self._folder.name}")
        self._tail = Tail(kafka.bootstrap_servers, [self.topics.signals, self.topics.dlq], start="end")
        settings = {"bootstrap.servers": kafka.bootstrap_servers, "group.id": self.topics.group}
        self._group = Consumer(settings | {"isolation.level": "read_uncommitted"})
        self._places = [TopicPartition(self.topics.raw, number) for number in range(6)]
        self.replace(setting)

    def replace(self, setting: Setting) -> None:
        """Workers of this setting in the place of those that are there, when each has its share."""
        if hasattr(self, "crew"):
            self.close()
        folder = self._folder / setting.name
        folder.mkdir(parents=True)
        self.crew = Crew(setting.workers, SIMULATED, lambda slot: self._environment(setting, slot), folder)
        self.crew.until(lambda: [partitions(worker) for worker in self.crew.workers] == [3, 3])
        self._handed_over = self._revocations()

    def outcomes(self) -> int:
        """Records in the topics of outcomes; retractions and the markers of transactions are among them."""
        return sum(self._tail.ends().values())

    def drained(self) -> bool:
        """Whether the group has committed all raw records, and so all have their outcomes."""
        committed = self._group.committed([TopicPartition(tp.topic, tp.partition) for tp in self._places], timeout=10)
        return all(tp.offset == end for tp, end in zip(committed, self._ends(), strict=True))

    def lag(self) -> int:
        """Records that no worker has read, by the workers' metrics."""
        return self._metric("earlybird_consumer_lag_messages")

    def unread(self) -> int:
        """At least so many records no worker has read: one record may hold several texts."""
        return sum(self._ends()) - self._metric("earlybird_texts_consumed_total")

    def watch(self, name: str, done: Callable[[], bool]) -> Load:
        """Sample memory and lag each second until it is done."""
        began_s, before = time.monotonic(), self.outcomes()
        sizes, lags = list[int](), list[int]()
        while not done():
            assert time.monotonic() < began_s + PATIENCE_S, f"{name}: it never came to an end"
            sizes.append(max(resident_mb(worker) for worker in self.crew.workers))
            lags.append(self.lag())
            time.sleep(1)
        found, half = Load(name, self.delivery), len(sizes) // 2
        found.seconds = round(time.monotonic() - began_s, 1)
        found.per_s = round((self.outcomes() - before) / found.seconds, 1)
        found.lag_max = max(lags, default=0)
        found.rss_half_mb, found.rss_mb = max(sizes[half // 4 : half], default=0), max(sizes[half:], default=0)
        found.rebalances = self._revocations() - self._handed_over
        if half and found.rss_mb > found.rss_half_mb * GROWTH + SLACK_MB:
            found.faults.append(f"memory grew from {found.rss_half_mb} to {found.rss_mb} MB")
        if found.rebalances:
            found.faults.append(f"{found.rebalances} rebalances")
        return found

    def audit(self, load: Load) -> Load:
        """Stop the workers and say what became of the records."""
        self.close()
        said = audited(self._environment(FAST, 0))
        load.inputs, load.lost, load.repeated = said["records"], said["missing"], said["repeated"]
        if not said["balanced"]:
            load.faults.append(f"{load.lost} without an outcome, {said['disagreeing']} repeated with other digests")
        return load

    def close(self) -> None:
        assert not any(self.crew.close()), "a worker did not end in order"

    def _ends(self) -> list[int]:
        return [self._group.get_watermark_offsets(place, timeout=10)[1] for place in self._places]

    def _metric(self, name: str) -> int:
        return sum(metric(worker, name) for worker in self.crew.workers)

    def _environment(self, setting: Setting, slot: int) -> dict[str, str]:
        setting = replace(setting, options={**setting.options, **self._options})
        return environment(self.topics, setting, self.delivery, slot)

    def _revocations(self) -> int:
        events = ("partitions.revoked", "partitions.lost")
        return sum(len(worker.events(event)) for worker in self.crew.workers for event in events)


def overload(
    kafka: Any, delivery: Delivery, folder: Path, minutes: float, rate: float, options: Mapping[str, str]
) -> Load:
    """More records a second than the engine can do; then a faster one does the rest."""
    stand = Stand(kafka, delivery, folder, SLOW, options)
    feed = Feed(stand.topics.bootstrap_servers, stand.topics.raw, rate)
    until = time.monotonic() + 60 * minutes
    found = stand.watch(f"{rate:,.0f} records/s for {minutes:g} min", lambda: time.monotonic() > until)
    feed.close()
    patient_until = time.monotonic() + LAG_PATIENCE_S
    while (shown := stand.lag()) < (unread := stand.unread()):
        if time.monotonic() > patient_until:
            found.faults.append(f"a lag of {shown} shown with {unread} records unread")
            break
        time.sleep(0.1)
    stand.replace(FAST)
    stand.watch("the rest", stand.drained)
    return stand.audit(found)


def burst(kafka: Any, delivery: Delivery, folder: Path, records: int, options: Mapping[str, str]) -> Load:
    """So many at once."""
    stand = Stand(kafka, delivery, folder, FAST, options)
    fill(stand.topics.bootstrap_servers, stand.topics.raw, records)
    return stand.audit(stand.watch(f"{records:,} at once", stand.drained))


def partitions(worker: Worker) -> int:
    return metric(worker, "earlybird_partitions_assigned") if worker.ready else 0


def metric(worker: Worker, name: str) -> int:
    """The sum of this metric over its labels."""
    (started,) = worker.events("service.started")
    with urllib.request.urlopen(f"{started['health']}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return round(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name}{{", f"{name} "))))


def resident_mb(worker: Worker) -> int:
    """Resident memory of the process, in MB."""
    (line,) = [each for each in Path(f"/proc/{worker.pid}/status").read_text().splitlines() if each[:5] == "VmRSS"]
    return int(line.split()[1]) // 1024
