"""Apicurio from Maven as a child process: a schema registry with the API of confluent_kafka's client."""

import fcntl
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from kafka_node import JVM, LIFELINE, free_port

VERSION = "2.6.13.Final"
CACHE = Path.home() / ".cache" / "earlybird"
HOME = CACHE / f"apicurio-{VERSION}"
START_S = 240.0


class RegistryUnavailable(Exception):
    """No registry can be started here; the message names the reason."""


def files() -> Path:
    """Return the folder of the registry; Maven fetches it once."""
    if HOME.is_dir():
        return HOME
    if shutil.which("mvn") is None or shutil.which("java") is None:
        raise RegistryUnavailable("a schema registry needs Java 17 and Maven: make system-deps")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "apicurio.lock").open("w") as turn, tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if HOME.is_dir():
            return HOME
        artifact = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
        fetch = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={scratch}"]
        done = subprocess.run(fetch, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RegistryUnavailable(f"Maven could not fetch the registry:\n{done.stdout[-2000:]}")
        unpacked = Path(scratch) / "unpacked"
        with tarfile.open(next(Path(scratch).glob("*.tar.gz"))) as archive:
            archive.extractall(unpacked, filter="data")
        unpacked.rename(HOME)
    return HOME


class Apicurio:
    """One registry in memory; it ends with this process."""

    def __init__(self, folder: Path) -> None:
        self.port, self._log = free_port(), folder / "registry.log"
        self.url = f"http://127.0.0.1:{self.port}/apis/ccompat/v7"
        self._jar = files() / f"apicurio-registry-app-{VERSION}-runner.jar"
        self._life: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def start(self) -> "Apicurio":
        options = ("-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={self.port}")
        command = ["sh", "-c", LIFELINE, "sh", str(self._log), "java", *JVM, *options, "-jar", str(self._jar)]
        self._life = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._life.stdout is not None
        self.pid = int(self._life.stdout.readline())
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert time.monotonic() < deadline and self._life.poll() is None, self._log.read_text()[-2000:]
            time.sleep(0.2)
        return self

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        if self._life is not None:
            self._life.communicate(b"-9\n")

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/subjects", timeout=5).close()
        except (urllib.error.URLError, OSError):
            return False
        return True
