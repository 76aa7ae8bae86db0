"""Read settings from files named by `_FILE`, as orchestrators mount secrets.

The files are read when the settings are loaded. For Kafka's password the path is kept, too: clients follow that file
(stream.adapters.credentials).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FOLLOWED = "sasl.password.file"


def tree_with_secrets(tree: Mapping[str, Any], faults: list[str], within: str = "") -> dict[str, Any]:
    """Replace `NAME_file = "PATH"` by NAME and the file's content.

    A file that cannot be read is added to `faults`. `within` is the tree's own name.
    """
    result: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{within}.{name}".replace("_", ".")
        if isinstance(value, Mapping):
            result[name] = tree_with_secrets(value, faults, path)
        elif name.endswith("_file"):
            if (secret := _secret(name, str(value), faults)) is not None:
                result[name.removesuffix("_file")] = secret
            if path.endswith(_FOLLOWED):
                result[name.replace("_", ".")] = value
        else:
            result[name] = value
    return result


def variables_with_secrets(
    variables: Mapping[str, str | None], prefix: str, faults: list[str]
) -> dict[str, str | None]:
    """Replace EARLYBIRD_..._FILE by the variable without _FILE and the file's content.

    A file that cannot be read is added to `faults`. Names of variables are in lower case here.
    """
    prefix, result = prefix.lower(), dict(variables)
    for name, value in variables.items():
        if name.startswith(prefix) and name.endswith("_file") and value:
            if not name.replace("_", ".").endswith(_FOLLOWED):
                del result[name]
            if (secret := _secret(name.upper(), value, faults)) is not None:
                result[name.removesuffix("_file")] = secret
    return result


def _secret(name: str, path: str, faults: list[str]) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        faults.append(f"{name}: cannot read {path}: {reason}")
        return None
