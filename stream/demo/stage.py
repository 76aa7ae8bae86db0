"""Demo environment: an embedded broker, an embedded Redis and one worker process."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self

from earlybird.stream.adapters.embedded import CLIENT_OPTIONS, EmbeddedBroker, EmbeddedRedis
from earlybird.stream.config.client_options import KafkaEndpoint
from earlybird.stream.config.settings import child_environment
from earlybird.stream.demo.channel import WorkerChannel
from earlybird.stream.demo.worker import CANNOT_START
from earlybird.stream.errors import StreamError

TOPICS = {"news.raw": 4, "tweets.raw": 4, "signals": 4, "signals.control": 1, "raw.dlq": 1}
_STOP_S = 60.0

# The worker stops when this process's end of the pipe closes, however this process ends. A Ctrl-C does not reach it.
_LIFELINE = 'exec 3<&0; "$@" </dev/null & worker=$!; (read -r _ <&3; kill -TERM $worker) & wait $worker'


class DemoStage:
    """Complete stage on this machine, as a context manager; ready on entry."""

    def __init__(
        self,
        patience_s: float,
        tell: Callable[[str], None] = lambda _: None,
        *,
        pass_ms: float = 0.0,
        engine: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare the stage; `tell` is called with each part before it starts.

        `pass_ms`: the time to which each pass is stretched, 0: full speed. `engine`: settings of the worker's engine.
        """
        self._patience_s, self._tell = patience_s, tell
        self._pass_ms, self._engine = pass_ms, dict(engine or {})
        self._parts = ExitStack()
        self._worker: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self.kafka = KafkaEndpoint("")
        self.redis_url = ""
        self.slots = WorkerChannel()

    def __enter__(self) -> Self:
        """Start all parts and wait until the worker is ready.

        Raises StreamError with the end of the worker's log when it is not ready in time.
        """
        with ExitStack() as starting:
            self._tell("an embedded Kafka broker")
            broker = starting.enter_context(EmbeddedBroker(TOPICS))
            self._tell("an embedded Redis")
            redis = starting.enter_context(EmbeddedRedis())
            self._log = starting.enter_context(tempfile.TemporaryFile())
            self.kafka = KafkaEndpoint(broker.bootstrap_servers, CLIENT_OPTIONS)
            self.redis_url = redis.url
            starting.callback(self.slots.close)
            starting.callback(self._kill)
            self._tell("a worker: reads the model, warms it up, joins its group (about 10 s)")
            self._start_worker()
            self._parts = starting.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._parts:
            if kind is None:
                self.stop_worker()

    def check(self) -> None:
        """Raise StreamError if the worker has died."""
        if self._worker is not None and self._worker.poll() is not None:
            raise StreamError(self._how_it_ended(self._worker.returncode))

    def stop_worker(self) -> None:
        """Ask the worker to finish, commit and leave its group.

        Raises StreamError when it does not end cleanly.
        """
        worker, self._worker = self._worker, None
        if worker is None:
            return
        try:
            worker.communicate(timeout=_STOP_S)  # closes the pipe, which asks the worker to stop
        except subprocess.TimeoutExpired:
            self._worker = worker
            raise StreamError(f"the worker did not stop within {_STOP_S:.0f} s:\n{self._last_words()}") from None
        if worker.returncode != 0:
            raise StreamError(self._how_it_ended(worker.returncode))

    def _start_worker(self) -> None:
        environment = child_environment(
            ("model", "policy", "engine"),
            kafka__bootstrap_servers=self.kafka.bootstrap_servers,
            kafka__options=json.dumps(dict(self.kafka.options)),
            redis__url=self.redis_url,
            redis__budget_ms="2000",  # a copy is a hit on a busy machine, too
            symbols__table=str(Path(__file__).with_name("symbols.csv")),
            http__port="0",
            log__format="json",
            timing__drain_timeout_s="5",  # whoever interrupts the demo does not wait for slowed passes
            **{f"engine__{name}": value for name, value in self._engine.items()},
        )
        command = [sys.executable, "-m", "earlybird.stream.demo.worker", "--pass-ms", str(self._pass_ms)]
        with self.slots.end_of_worker() as number:
            self._worker = subprocess.Popen(
                ["sh", "-c", _LIFELINE, "sh", *command, "--socket", str(number)],
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
                env=environment,
                cwd=Path(__file__).parents[1],
                pass_fds=(number,),
                start_new_session=True,
            )
        deadline = time.monotonic() + self._patience_s
        while not self._ready():
            self.check()
            if time.monotonic() > deadline:
                raise StreamError(f"the worker was not ready within {self._patience_s:.0f} s:\n{self._last_words()}")
            time.sleep(0.05)

    def _ready(self) -> bool:
        self.slots.passes()  # the worker tells its address on the same line
        if self.slots.health is None:
            return False
        try:
            with urllib.request.urlopen(f"{self.slots.health}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _kill(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)  # loading libraries it hears no SIGTERM; its broker ends as well
        worker.communicate()

    def _how_it_ended(self, status: int) -> str:
        if status == CANNOT_START and (lines := self._logged()):
            return lines[-1]
        return f"the worker ended with status {status}:\n{self._last_words()}"

    def _last_words(self) -> str:
        return "\n".join(f"  | {line[:400]}" for line in self._logged()[-12:])

    def _logged(self) -> list[str]:
        assert self._log is not None
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace").splitlines()
