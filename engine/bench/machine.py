"""Description of the machine that the figures were measured on."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

PACKAGES = ("earlybird", "torch", "transformers", "tokenizers", "onnxruntime", "onnx", "numpy")
_FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_tile")
_CPUS, _NODES = Path("/sys/devices/system/cpu"), Path("/sys/devices/system/node")


def machine(threads: int, device: str = "cpu") -> dict[str, object]:
    """Describe the CPU, torch's view of it, the card and the versions.

    The CPU has name, cores, caches and vector units; the card is described if one is measured, and the versions are
    those of the packages that ran.
    """
    facts = _cpu_facts()
    flags = set(facts.get("flags", "").split())
    return {
        "cpu": facts.get("model name", platform.processor() or platform.machine()),
        "family_model": f"{facts.get('cpu family', '?')}/{facts.get('model', '?')}",
        "topology": _topology(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads,
        "caches": _caches(),
        "units": [name for name in _FEATURES if name in flags],
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "load_average": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": {name: _version(name) for name in PACKAGES},
        **({"card": _card()} if device == "cuda" else {}),
    }


def _cpu_facts() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _topology() -> dict[str, int]:
    """Count sockets, cores, hardware threads and memory nodes; zeros where Linux reports none."""
    places = [
        tuple((folder / "topology" / name).read_text().strip() for name in ("physical_package_id", "core_id"))
        for folder in _CPUS.glob("cpu[0-9]*")
        if (folder / "topology" / "core_id").exists()
    ]
    return {
        "sockets": len({socket for socket, _ in places}),
        "cores": len(set(places)),
        "hardware_threads": len(places),
        "memory_nodes": len(list(_NODES.glob("node[0-9]*"))),
    }


def _caches() -> dict[str, str]:
    found = {}
    for folder in sorted((_CPUS / "cpu0/cache").glob("index*")):
        level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        found[f"L{level}{'' if kind == 'Unified' else kind[0].lower()}"] = size
    return found


def _card() -> dict[str, object]:
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "driver_clocks_power": _driver(),
    }


def _driver() -> str:
    """Return driver version, highest clock and power limit, as reported by nvidia-smi."""
    command = ["nvidia-smi", "--query-gpu=driver_version,clocks.max.sm,power.limit", "--format=csv,noheader", "--id=0"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
