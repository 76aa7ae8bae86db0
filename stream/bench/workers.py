"""Workers under measurement, from outside: started together, held at the line, let go, and asked what they measured."""

import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from earlybird.stream.config.settings import child_environment
from earlybird.stream.consumer_processes.channel import Line
from earlybird.stream.errors import StreamError


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bench runs: a broker with topics of its own."""

    bootstrap_servers: str
    options: Mapping[str, str | int]  # librdkafka's, that this broker needs
    raw: str
    partitions: int
    signals: str
    redis_url: str | None = None


class Child:
    """A process that is told `go` on stdin and says one JSON object a line on stdout."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], pass_fds: Sequence[int] = ()) -> None:
        """`pass_fds`: descriptors that it inherits."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
            pass_fds=pass_fds,
        )

    def hear(self, patience_s: float = 120.0) -> dict[str, Any]:
        """Its next line. Raises StreamError when it ended instead; it is killed when it says nothing for too long."""
        assert self._process.stdout is not None
        watchdog = threading.Timer(patience_s, self._process.kill)
        watchdog.start()
        try:
            for line in self._process.stdout:
                start = line.find('{"')
                if start >= 0:  # Faust writes to the terminal before it
                    said: dict[str, Any] = json.loads(line[start:])
                    return said
                sys.stderr.write(line)
        finally:
            watchdog.cancel()
        raise StreamError(f"a measured process ended with status {self._process.wait()}; its message is above")

    def go(self) -> None:
        """Let it begin."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """End it; it may take seconds to leave its group."""
        self._process.communicate()


class Workers:
    """`count` members of a new group. Use as a context manager: they hold their partitions when it is entered."""

    def __init__(
        self,
        place: Place,
        engine: str,
        count: int = 1,
        *,
        tokenise: bool = False,
        idle: bool = True,
        lines: Sequence[Line] = (),
    ) -> None:
        """`idle`: they end when nothing is left to read; else when they are closed. `lines`: one for each, to an engine
        that another process has."""
        command = ["earlybird.stream.bench.worker", "--engine", engine, "--encoder", "bundled" if tokenise else "null"]
        self._command = [*command, *(["--until-idle"] if idle else [])]
        variables = {
            "group": f"bench-{uuid.uuid4().hex[:8]}",
            "kafka__bootstrap_servers": place.bootstrap_servers,
            "kafka__options": json.dumps(dict(place.options)),
            "topics__raw": json.dumps([{"name": place.raw}]),
            "topics__signals": place.signals,
            "topics__control": f"{place.signals}.control",
            "topics__dlq": f"{place.signals}.dlq",
        }
        if engine != "bundled":
            variables["engine__threads"] = "1"
        if place.redis_url is not None:
            variables["redis__url"] = place.redis_url
        self._environment = child_environment(("engine", "model", "policy"), **variables)
        self._place, self._count, self._lines = place, count, lines
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            for number in range(self._count):
                command, descriptors = self._command, list[int]()
                if self._lines:
                    command = [*command, "--line", self._lines[number].spelt()]
                    descriptors += self._lines[number].descriptors
                child = Child(command, self._environment, descriptors)
                starting.callback(child.close)
                self._children.append(child)
            self._await_shares()
            starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.close()

    def go(self) -> None:
        """All begin."""
        for child in self._children:
            child.go()

    def measured(self, patience_s: float = 120.0) -> list[dict[str, Any]]:
        """What each said last, once all have ended by themselves."""
        results = []
        for child in self._children:
            said = child.hear(patience_s)
            while "texts" not in said:
                said = child.hear(patience_s)
            results.append(said)
        return results

    def _await_shares(self) -> None:
        """Until the partitions are spread evenly."""
        share, more = divmod(self._place.partitions, self._count)
        for child in self._children:
            while child.hear().get("assigned") not in (share, share + bool(more)):
                pass
