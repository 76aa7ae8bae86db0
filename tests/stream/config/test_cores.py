"""Cores by affinity and by cgroup, on trees of files as kernels lay them out."""

import os
from pathlib import Path

import pytest

from earlybird.stream.config.cores import usable_cores
from earlybird.stream.config.engine import Engine

QUOTA, PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"


@pytest.fixture(autouse=True)
def _many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def tree(root: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    """`own`: the lines of /proc/self/cgroup. `files`: by path under the mount."""
    for name, content in files.items():
        path = root / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="ascii")
    (root / "own").write_text(own, encoding="ascii")
    return root / "own", root / "cgroup"


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),  # version 2 in a container
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 8),  # affinity is less
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),  # a limit above us
        ("0::/host/path\n", {"cpu.max": "400000 100000\n"}, 4),  # the host's path, our root
        ("0::/../../x\n", {"cpu.max": "100000 100000\n"}, 1),
        ("4:cpu,cpuacct:/d\n", {f"cpu,cpuacct/d/{QUOTA}": "300000\n", f"cpu,cpuacct/d/{PERIOD}": "100000\n"}, 3),
        ("4:cpu,cpuacct:/d\n", {f"cpu/{QUOTA}": "150000\n", f"cpu/{PERIOD}": "50000\n"}, 3),
        ("4:cpu:/\n", {f"cpu/{QUOTA}": "-1\n", f"cpu/{PERIOD}": "100000\n"}, 8),
        ("3:cpuset:/\n", {f"cpuset/{QUOTA}": "100000\n", f"cpuset/{PERIOD}": "100000\n"}, 8),
        ("5:memory:/\n0::/\n", {"unified/cpu.max": "200000 100000\n"}, 2),  # both versions mounted
        ("0::/\n", {"cpu.max": "garbage\n"}, 8),
        ("0::/\n", {"cpu.max": "100000 0\n"}, 8),
        ("no cgroup\n", {}, 8),
        ("", {}, 8),
    ],
)  # fmt: skip
def test_the_least_of_affinity_and_quotas_counts(tmp_path: Path, own: str, files: dict[str, str], cores: int) -> None:
    """A pod with a limit of 2 cores on a host with 8 gets 2 threads, not 8 that are throttled."""
    assert usable_cores(*tree(tmp_path, own, files)) == cores


def test_no_cgroups_at_all_leave_the_affinity(tmp_path: Path) -> None:
    """Other systems than Linux, and a /proc that is hidden."""
    assert usable_cores(tmp_path / "none", tmp_path / "nowhere") == 8


def test_engine_threads_follow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not set."""
    monkeypatch.setattr("earlybird.stream.config.cores._quotas", lambda *_: iter([3.9]))
    assert Engine().threads == 3
