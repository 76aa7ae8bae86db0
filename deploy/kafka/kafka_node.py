"""One Kafka broker as a child of this process, from Maven's jars."""

import atexit
import base64
import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from string import Template

HERE = Path(__file__).parent
LIBS = Path.home() / ".cache" / "earlybird" / "kafka-4.3.1"
HOW_TO_GET = "real Kafka needs Java 17 and Maven: `make system-deps`, or apt-get install openjdk-17-jre-headless maven"

# A short-lived broker: the C1 compiler and the serial collector start faster than the defaults.
JVM = ("-Xms128m", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData")
STOP_S = 15.0

_ANY = random.SystemRandom()  # two processes with one seed would try the same ports
_HELD = contextlib.ExitStack()  # ports, until this process ends
atexit.register(_HELD.close)

# The broker is killed when this process's end of the pipe closes, however this process ends; a line on the pipe names a
# gentler signal. $1 is its log file.
LIFELINE = """log=$1; shift; "$@" >>"$log" 2>&1 </dev/null & echo $!
read -r how; kill ${how:--9} $! 2>/dev/null; wait"""


class KafkaUnavailable(Exception):
    """Kafka cannot be started here; the message names the reason and the remedy."""


def libraries() -> Path:
    """Return the folder of Kafka's jars; Maven fetches them once. Raises KafkaUnavailable."""
    if shutil.which("java") is None:
        raise KafkaUnavailable(f"no java on PATH; {HOW_TO_GET}")
    if LIBS.is_dir():
        return LIBS
    if shutil.which("mvn") is None:
        raise KafkaUnavailable(f"no mvn on PATH and no jars in {LIBS}; {HOW_TO_GET}")
    LIBS.parent.mkdir(parents=True, exist_ok=True)
    with (LIBS.parent / "kafka.lock").open("w") as turn, tempfile.TemporaryDirectory(dir=LIBS.parent) as scratch:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if LIBS.is_dir():  # another process was first
            return LIBS
        fetch = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        fetch += ["-DincludeScope=runtime", f"-DoutputDirectory={scratch}/libs"]
        done = subprocess.run(fetch, capture_output=True, text=True, check=False)
        if done.returncode:
            raise KafkaUnavailable(f"Maven could not fetch Kafka's jars:\n{done.stdout[-2000:]}")
        (Path(scratch) / "libs").rename(LIBS)
    return LIBS


class LocalKafka:
    """One broker with its data under `home`, alone or as a node of a cluster.

    Port 0 means any free port, kept over restarts. `options` are further broker properties, in which ${port},
    ${controller_port} and ${data} stand for this broker's own. Unless `detached`, the broker dies with this process.
    """

    def __init__(
        self,
        home: Path,
        port: int = 0,
        options: Mapping[str, str] | None = None,
        *,
        node: int = 1,
        detached: bool = False,
    ) -> None:
        self.home = home
        self.node = node
        self.port, self.controller_port = port or free_port(), free_port()
        self.voters, self.cluster_id = f"{node}@127.0.0.1:{self.controller_port}", new_cluster_id()
        self.options = dict(options or {})
        self.detached = detached
        self.pid: int | None = None
        self._lifeline: subprocess.Popen[str] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Address of the broker as host:port."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """Path of the output of the broker and its JVM."""
        return self.home / "broker.log"

    def start(self, timeout_s: float = 240.0) -> None:
        """Format new storage, start, and wait until the broker answers.

        Raises KafkaUnavailable.
        """
        self.launch()
        self.wait(time.monotonic() + timeout_s)

    def launch(self) -> None:
        """Format new storage and start the process; a node of a cluster answers once a majority runs."""
        properties = self._configure()
        if not (self.home / "data" / "meta.properties").exists():
            self._format(properties)
        command = java("kafka.Kafka", str(properties))
        if self.detached:
            with self.log.open("ab") as log:
                self.pid = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                ).pid
        else:
            self._lifeline = subprocess.Popen(
                ["sh", "-c", LIFELINE, "sh", str(self.log), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # keeps Ctrl-C from the broker, which must outlive a graceful stop
            )
            assert self._lifeline.stdout is not None
            self.pid = int(self._lifeline.stdout.readline())

    def pause(self) -> None:
        """Suspend the process: connections stay open and nothing answers."""
        os.kill(self._running(), signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        os.kill(self._running(), signal.SIGCONT)

    def kill(self) -> None:
        """End the broker at once, as a power failure would."""
        os.kill(self._running(), signal.SIGKILL)
        self._reap()

    def stop(self) -> None:
        """Shut the broker down; does nothing if it is not running."""
        if self._lifeline is not None:
            try:
                self._lifeline.communicate("-15\n", timeout=STOP_S)
            except subprocess.TimeoutExpired:
                os.kill(self._running(), signal.SIGKILL)
        elif self.pid is not None:
            os.kill(self.pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_S
            while alive(self.pid):
                if time.monotonic() > deadline:
                    os.kill(self.pid, signal.SIGKILL)
                time.sleep(0.1)
        self._reap()

    def restart(self) -> None:
        """Restart the broker with the same data and address."""
        self.stop()
        self.start()

    def __enter__(self) -> "LocalKafka":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _running(self) -> int:
        if self.pid is None:
            raise KafkaUnavailable("the broker does not run")
        return self.pid

    def _reap(self) -> None:
        if self._lifeline is not None:
            self._lifeline.communicate()
        self._lifeline, self.pid = None, None

    def _configure(self) -> Path:
        self.home.mkdir(parents=True, exist_ok=True)
        text = (HERE / "broker.properties").read_text()
        text += "".join(f"{name}={value}\n" for name, value in self.options.items())
        properties = self.home / "broker.properties"
        own = {"port": self.port, "controller_port": self.controller_port, "data": self.home / "data"}
        properties.write_text(Template(text).substitute(own, node=self.node, voters=self.voters))
        return properties

    def _format(self, properties: Path) -> None:
        done = subprocess.run(
            java("kafka.tools.StorageTool", "format", "-t", self.cluster_id, "-c", str(properties)),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise KafkaUnavailable(f"the storage could not be formatted:\n{done.stdout}{done.stderr}")

    def wait(self, deadline: float) -> None:
        """Wait until the broker answers; raises KafkaUnavailable with the end of its log."""
        while not answers(self.bootstrap_servers):
            if not alive(self._running()) or time.monotonic() > deadline:
                if alive(self._running()):
                    self.kill()
                tail = self.log.read_text(errors="replace")[-3000:]
                raise KafkaUnavailable(f"the broker did not start; its log ends:\n{tail}")
            time.sleep(0.05)


def new_cluster_id() -> str:
    """Return an identifier as Kafka's own tool makes them."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")


def java(main: str, *arguments: str) -> list[str]:
    """Return the command line that runs one of Kafka's classes."""
    logging = f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"
    return ["java", *JVM, logging, "-cp", f"{libraries()}/*", main, *arguments]


def answers(bootstrap_servers: str) -> bool:
    """Return whether a broker at this address answers a metadata request."""
    host, _, port = bootstrap_servers.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1.0).close()
    except OSError:
        return False
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    try:
        admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
        return bool(admin.list_topics(timeout=5.0).brokers)
    except KafkaException:
        return False


def free_port(count: int = 1) -> int:
    """Return the first of `count` free TCP ports in a row.

    They lie below the range of outgoing connections: a broker that restarts must find its port free, although clients
    try to connect to it all the time. This process holds the UDP ports of the same numbers until it ends, so that no
    other one that looks here is given them.
    """
    while True:
        port = _ANY.randrange(20_000, 32_000)
        with contextlib.ExitStack() as taken, contextlib.suppress(OSError):
            for number in range(port, port + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
                taken.enter_context(socket.socket(type=socket.SOCK_DGRAM)).bind(("127.0.0.1", number))
            _HELD.enter_context(taken.pop_all())
            return port


def alive(pid: int) -> bool:
    """Return whether the process exists and is no zombie."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(shown.strip()) and not shown.startswith("Z")
