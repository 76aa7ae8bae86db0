"""Control of measured workers: start together, hold, release, and collect their measurements."""

import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from earlybird.stream.config.client_options import KafkaEndpoint
from earlybird.stream.config.settings import child_environment
from earlybird.stream.consumer_processes.channel import Channel
from earlybird.stream.errors import StreamError

Delivery = Literal["at_least_once", "exactly_once"]


@dataclass(frozen=True, slots=True)
class BenchTarget:
    """Broker and topics that one run of the bench uses."""

    endpoint: KafkaEndpoint
    raw: str
    partitions: int
    signals: str
    redis_url: str | None = None
    delivery: Delivery = "at_least_once"


class Child:
    """Process that starts on `go` from stdin and prints one JSON object per line."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], pass_fds: Sequence[int] = ()) -> None:
        """Start the process. `pass_fds` are descriptors that it inherits."""
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

    def next_message(self, patience_s: float = 120.0) -> dict[str, Any]:
        """Return the next JSON object that it prints.

        Raises StreamError when the process ended instead. It is killed when it prints nothing for `patience_s`.
        """
        assert self._process.stdout is not None
        watchdog = threading.Timer(patience_s, self._process.kill)
        watchdog.start()
        try:
            for line in self._process.stdout:
                start = line.find('{"')
                if start >= 0:  # Faust prints to the terminal before the object
                    message: dict[str, Any] = json.loads(line[start:])
                    return message
                sys.stderr.write(line)
        finally:
            watchdog.cancel()
        raise StreamError(f"a measured process ended with status {self._process.wait()}; its message is above")

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """End the process; leaving its group may take seconds."""
        self._process.communicate()


class Workers:
    """`count` members of a new group, as a context manager.

    On entry all of them hold their partitions.
    """

    def __init__(
        self,
        target: BenchTarget,
        engine: str,
        count: int = 1,
        *,
        tokenise: bool = False,
        idle: bool = True,
        channels: Sequence[Channel] = (),
    ) -> None:
        """Prepare the command and the settings of the workers.

        `idle`: they end when nothing is left to read, else when they are closed. `channels`: one per worker, to the
        process that holds the engine.
        """
        command = ["earlybird.stream.bench.worker", "--engine", engine, "--encoder", "bundled" if tokenise else "null"]
        self._command = [*command, *(["--until-idle"] if idle else [])]
        variables = {
            "group": f"bench-{uuid.uuid4().hex[:8]}",
            "kafka__bootstrap_servers": target.endpoint.bootstrap_servers,
            "kafka__options": json.dumps(dict(target.endpoint.options)),
            "topics__raw": json.dumps([{"name": target.raw}]),
            "topics__signals": target.signals,
            "topics__control": f"{target.signals}.control",
            "topics__dlq": f"{target.signals}.dlq",
            "delivery": target.delivery,
        }
        if engine != "bundled":
            variables["engine__threads"] = "1"
        if target.redis_url is not None:
            variables["redis__url"] = target.redis_url
        self._environment = child_environment(("engine", "model", "policy"), **variables)
        self._target, self._count, self._channels = target, count, channels
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            for number in range(self._count):
                command, descriptors = self._command, list[int]()
                if self._channels:
                    command = [*command, "--channel", self._channels[number].argument()]
                    descriptors += self._channels[number].descriptors
                child = Child(command, self._environment | {"EARLYBIRD_INSTANCE": str(number)}, descriptors)
                starting.callback(child.close)
                self._children.append(child)
            self._await_shares()
            starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.close()

    def go(self) -> None:
        for child in self._children:
            child.go()

    def measured(self, patience_s: float = 120.0) -> list[dict[str, Any]]:
        """Wait until all have ended by themselves and return their last messages."""
        results = []
        for child in self._children:
            message = child.next_message(patience_s)
            while "texts" not in message:
                message = child.next_message(patience_s)
            results.append(message)
        return results

    def _await_shares(self) -> None:
        """Wait until the partitions are spread evenly."""
        share, more = divmod(self._target.partitions, self._count)
        for child in self._children:
            while child.next_message().get("assigned") not in (share, share + bool(more)):
                pass
