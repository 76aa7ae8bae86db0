"""Number of cores this process may use, by affinity and cgroup CPU quota."""

import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def usable_cores(own: Path = OWN, cgroups: Path = CGROUPS) -> int:
    """Return how many cores this process may use, at least 1.

    A quota of 2.5 cores counts as 2, since a throttled thread keeps its texts waiting. `own`: the file that names
    this process's cgroups; `cgroups`: where they are mounted.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([affinity, *_quotas(own, cgroups)])))


def _quotas(own: Path, cgroups: Path) -> Iterator[float]:
    """Yield the quota, in cores, of this process's cgroups and their ancestors."""
    for line in _read(own).splitlines():
        _, _, named = line.partition(":")
        controllers, _, path = named.partition(":")
        if not controllers:  # version 2 has one tree
            roots = [cgroups, cgroups / "unified"]
        elif "cpu" in controllers.split(","):
            roots = [cgroups / controllers, cgroups / "cpu"]
        else:
            continue
        for root in roots:
            for folder in _and_above(root, path):
                yield from _quota_of(folder)


def _and_above(root: Path, path: str) -> Iterator[Path]:
    """Yield the folder of a cgroup and all folders above it, up to `root`.

    In a container the path may be the host's, of which only the root is mounted.
    """
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    for depth in range(len(parts), -1, -1):
        yield root.joinpath(*parts[:depth])


def _quota_of(folder: Path) -> Iterator[float]:
    quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
    if not quota:
        quota, period = _read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()
    if quota.isdigit() and period.isdigit() and int(period) > 0:  # `max` and -1 mean no quota
        yield int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
