"""One session: topics, workers, a feed and the ledger, through a row of faults that are counted one by one."""

import random
import re
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from earlybird.stream.adapters.embedded import EmbeddedRedis
from tests.chaos.crew import REAL, SIMULATED, Crew, Worker
from tests.chaos.feed import Feed
from tests.chaos.ledger import Ledger, Topics, now_us
from tests.chaos.setting import Delivery, Setting, audited, complete, environment

START_S = 240.0  # for workers to serve, whatever patience there is with records


@dataclass(frozen=True)
class Strike:
    """One fault that was made, and what came of it."""

    fault: str
    inputs: int  # elements published from the fault on, until everything from before its end had an outcome
    lost: int  # open when patience ended, whichever fault of the session left it open
    repeated: int
    recovered_s: float  # from the end of the fault until everything published by then had an outcome
    silence_s: float  # longest time between two outcomes of a raw partition; 0 where none came


class Session:
    """Use as a context manager; `finish` is the audit of the whole."""

    def __init__(
        self, kafka: Any, setting: Setting, delivery: Delivery, seed: int, folder: Path, patience_s: float
    ) -> None:
        self.kafka, self.setting, self.delivery, self.patience_s = kafka, setting, delivery, patience_s
        self.rng = random.Random(seed)
        self.nodes = getattr(kafka, "nodes", [kafka])
        self.began_us = 0  # the fault that is being made
        self._since_us = 0  # outcomes before are of a former topic
        self.elements = self.lost = self.repeated = self.differing = self.strays = 0  # of topics that are gone
        place = re.sub(r"\W+", "-", setting.name)  # as Kafka allows for topics
        self._folder = folder / f"{place}-{delivery}"
        self._folder.mkdir(parents=True)
        self._stack = ExitStack()
        name = f"{place}-{uuid.uuid4().hex[:6]}"
        self.topics = Topics.create(kafka.bootstrap_servers, name, replication=len(self.nodes))

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            if self.setting.redis:
                self.redis = starting.enter_context(EmbeddedRedis())
            self.ledger = self._open_ledger()
            command = REAL if self.setting.real_engine else SIMULATED
            self.crew = Crew(self.setting.workers, command, self._environment, self._folder)
            starting.callback(self.crew.kill)
            self.feed = Feed(self.topics.bootstrap_servers, self.topics.raw, self.setting.rate)
            starting.callback(lambda: self.feed.close())
            starting.callback(lambda: self.ledger.close())
            self.until(lambda: all(worker.ready for worker in self.crew.workers), START_S)
            self.until(lambda: len(self.ledger.first) > 50, START_S)
            self._stack = starting.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def strike(self, name: str, fault: "Callable[[Session], None]") -> Strike:
        """Make a fault under load at a random moment and wait until its consequences are over."""
        self.run(self.rng.uniform(0.2, 1.2))
        if self.rng.random() < 0.5:  # while it catches up
            self.feed.burst(self.rng.randrange(500, 1500))
            self.run(self.rng.uniform(0.1, 0.6))
        published, repeated = self.feed.acknowledged, self.repeats()
        self.began_us = now_us()
        fault(self)
        ended_us = now_us()
        acknowledged = self.feed.acknowledged
        lost = 0
        try:
            self.until(lambda: self.feed.acknowledged > published)
            self.until(lambda: len(self.ledger.audit.raw) + self.elements >= acknowledged)
            self.until(lambda: not self.ledger.older(ended_us))
        except TimeoutError:
            lost = len(self.ledger.older(ended_us))
        return Strike(
            name,
            self.feed.acknowledged - published,
            lost,
            self.repeats() - repeated,
            self.ledger.recovered_s(ended_us),
            self.ledger.silence_s(self.began_us),
        )

    def repeats(self) -> int:
        """Repeated outcomes since the session began."""
        return self.repeated + self.ledger.audit.repeated

    def run(self, seconds: float) -> None:
        """Let it go on for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.turn()

    def turn(self) -> None:
        """Read what came; start dead workers again."""
        self.ledger.read()
        self.crew.mend()

    def until(self, condition: Callable[[], object], patience_s: float | None = None) -> None:
        """Go on until it holds; TimeoutError when it never does."""
        deadline = time.monotonic() + (self.patience_s if patience_s is None else patience_s)
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"never came: {self.ledger.audit.report()}; logs: {self._folder}")
            self.turn()

    def one(self) -> Worker:
        """Any worker that serves."""
        self.until(lambda: any(worker.ready for worker in self.crew.workers), START_S)
        return self.rng.choice([worker for worker in self.crew.workers if worker.ready])

    def reopen(self) -> None:
        """Read everything once more, new partitions, too."""
        self.ledger.close()
        self.ledger = self._open_ledger()

    def close_chapter(self, since_us: int) -> None:
        """The raw topic is another one: what is known of the former one is added up and forgotten."""
        audit = self.ledger.audit
        self.elements += len(audit.raw)
        self.lost += len(audit.missing)
        self.repeated += audit.repeated
        self.differing += len(audit.disagreeing)
        self.strays += len(audit.strays)
        self._since_us = since_us
        self.reopen()

    def finish(self) -> dict[str, Any]:
        """Stop feed and workers and audit by raw position, twice: here, and with `earlybird audit`."""
        chapters = self.elements
        self.feed.close()
        wanted = self.feed.acknowledged - chapters
        late = 0
        try:
            self.until(lambda: len(self.ledger.audit.raw) >= wanted and not self.ledger.waiting)
            self.until(lambda: all(worker.ready for worker in self.crew.workers))
        except TimeoutError:
            late = len(self.ledger.waiting)
        statuses = self.crew.close()
        while self.ledger.read():
            pass
        self.close_chapter(now_us())
        return {
            "session": self.setting.name,
            "delivery": self.delivery,
            "inputs": self.elements,
            "lost": max(self.lost, late),
            "repeated": self.repeated,
            "differing": self.differing,
            "strays": self.strays,
            "killed": self.crew.killed,
            "statuses": statuses,
            "died": dict(self.crew.deaths),
            "audit": None if chapters else complete(audited(self._environment(0))),
        }

    def _open_ledger(self) -> Ledger:
        return Ledger(self.topics, self._since_us, at_arrival=self.delivery == "exactly_once")

    def _environment(self, slot: int) -> dict[str, str]:
        url = self.redis.url if self.setting.redis else None
        return environment(self.topics, self.setting, self.delivery, slot, url)
