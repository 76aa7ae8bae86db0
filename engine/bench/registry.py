"""All rows by name, the default rows, and what `--all` adds."""

from earlybird.engine.bench import ours, ours_resident, peers_hf, peers_hf_device, peers_ort
from earlybird.engine.bench.row import Build

BUILDS: dict[str, Build] = {
    **peers_hf.ROWS,
    **peers_hf_device.ROWS,
    **peers_ort.ROWS,
    **ours.ROWS,
    **ours_resident.ROWS,
}

_SCHEDULES = (
    "hf_exit_batch1",
    "hf_exit_batch32_together",
    "hf_exit_batch32_shrinking",
    "algorithm1",
    "algorithm1_stream",
)

ROWS: dict[str, tuple[str, ...]] = {
    "cpu": (
        "hf_batch1",
        "hf_batch32",
        "hf_pipeline_batch1",
        "hf_pipeline_batch32",
        *peers_ort.ROWS,
        *_SCHEDULES,
        "packed_fp32",
        "packed_fp32_deterministic",
        "packed_int8",
        "packed_int8_deterministic",
    ),
    "cuda": (
        "hf_batch1",
        "hf_batch32",
        *peers_hf_device.ROWS,
        *_SCHEDULES,
        "packed_on_device_bf16",
        "resident_bf16",
        "resident_bf16_deterministic",
        "resident_bf16_compiled",
        "resident_bf16_compiled_deterministic",
    ),
}
"""Default rows by device type: what others run, and what is shipped."""

MORE: dict[str, tuple[str, ...]] = {
    "cpu": ("packed_bf16", "packed_bf16_deterministic", "resident_fp32"),
    "cuda": tuple(name for name in ours_resident.ROWS if name not in ROWS["cuda"]),
}
"""Rows that `--all` adds: dtypes and tilings that are not the default."""

IDLE: dict[str, tuple[str, ...]] = {"cpu": ("packed_fp32", "packed_int8"), "cuda": ("resident_bf16",)}
"""Engines whose latency is measured idle, by device type; `--all` takes every one of the device."""
