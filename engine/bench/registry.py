"""All rows by name, and the default rows of a run."""

from collections.abc import Iterable

from earlybird.engine.bench import idle, ours, ours_resident, peers_hf, peers_hf_device, peers_ort
from earlybird.engine.bench.row import Build

BUILDS: dict[str, Build] = {
    **peers_hf.ROWS,
    **peers_hf_device.ROWS,
    **peers_ort.ROWS,
    **ours.ROWS,
    **ours_resident.ROWS,
}

_SCHEDULES = ("exit_b1", "static_b32", "shrinking_b32", "algorithm1", "algorithm1_stream")
_PLAIN = tuple(name for name in peers_hf.ROWS if name not in _SCHEDULES)


def _without_idle(names: Iterable[str]) -> list[str]:
    """Drop the idle rows, which engine.bench.idle runs in turn, text by text."""
    pairs = {name for pairs in idle.PAIRS.values() for pair in pairs.items() for name in pair}
    return [name for name in names if name not in pairs]


ROWS: dict[str, tuple[str, ...]] = {
    "cpu": (*_PLAIN, *peers_ort.ROWS, *_SCHEDULES, *_without_idle(ours.ROWS), "resident_fp32"),
    "cuda": (
        "hf_b1",
        "hf_b32",
        *peers_hf_device.ROWS,
        *_SCHEDULES,
        "packed_host_bf16",
        *(name for name in _without_idle(ours_resident.ROWS) if not name.startswith("packed_host")),
    ),
}
