"""Reports about settings: faults, effective values with secrets hidden, and the reference table."""

import difflib
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

HIDDEN = "<hidden>"
# Names of client options that hold secrets. Our own settings that may hold secrets are declared with repr=False.
_SECRET_NAME = re.compile(
    r"password|passphrase|secret|token|credential|private|\bkey\b|\.pem$|sasl\.jaas|oauthbearer\.config", re.IGNORECASE
)
# Only the address of a URL is shown. Everything up to the last @ is hidden, since passwords with /, @ and spaces are
# often put into URLs unescaped. Everything from the first option on is hidden, since names of options vary in spelling.
_URL_SECRET = re.compile(
    r"(?<=://)(?P<user>.*@)?(?P<address>[^?#&;=]*[?#&;=]?)(?P<options>.*)|(?<=password=).+", re.DOTALL | re.IGNORECASE
)


def explain(
    error: ValidationError,
    model: type[BaseModel],
    prefix: str,
    path: Path | None,
    environment: Mapping[str, str],
) -> list[str]:
    """Return one line per fault: its place, its origin and the nearest known name.

    The nearest name is given for unknown names only.
    """
    known = dict(fields(model))
    present = {name.upper() for name in environment}
    lines = []
    faults = error.errors(include_url=False)
    places = [_place(fault) for fault in faults]
    for place, fault in zip(places, faults, strict=True):
        if any(other.startswith(place + ".") for other in places):
            continue  # a list that is too short only because its faulty element was dropped
        variable = prefix + place.replace(".", "__").upper()
        lines.append(f"{place}: {_complaint(fault, place, known)}{origin(variable, present, path)}")
    return lines


def as_message(faults: Sequence[str]) -> str:
    """Return all faults as one block of text."""
    count = "1 setting" if len(faults) == 1 else f"{len(faults)} settings"
    return "\n  ".join([f"{count} cannot work:", *faults])


def misspelt(environment: Mapping[str, str], model: type[BaseModel], prefix: str, others: set[str]) -> list[str]:
    """Return complaints about variables whose names nearly match a setting's.

    Other unknown variables are ignored, since Kubernetes sets variables like EARLYBIRD_SERVICE_HOST when a service
    has our name.
    """
    known = [prefix + name.replace(".", "__").upper() for name, _ in fields(model)]
    accepted = {prefix + name.upper() for name in model.model_fields} | others
    complaints = []
    for name in sorted(environment):
        whole = name.removesuffix("_FILE")
        if not name.startswith(prefix) or "__" in name or whole in accepted:
            continue
        near = difflib.get_close_matches(whole, [*known, *accepted], n=1, cutoff=0.85)
        if near:
            complaints.append(f"{name}: no such setting; did you mean {near[0]}?")
    return complaints


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting by dotted name, groups expanded, in source order."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from fields(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def effective(settings: BaseModel) -> dict[str, Any]:
    """Return every setting's value by dotted name, passwords and credentials hidden."""
    shown: dict[str, Any] = {}
    for name, field in fields(type(settings)):
        value: Any = settings
        for part in name.split("."):
            value = getattr(value, part)
        shown[name] = _shown(value) if field.repr else _without_secrets(name, value)
    return shown


def table(model: type[BaseModel]) -> str:
    """Return every setting with default and meaning as a Markdown table."""
    rows = ["| Setting | Default | Meaning |", "|---|---|---|"]
    rows += [f"| `{name}` | {_default(field)} | {field.description} |" for name, field in fields(model)]
    return "\n".join(rows)


def variables(model: type[BaseModel], prefix: str, names: Sequence[str]) -> str:
    """Return these settings' environment variables with default and meaning, for a help text."""
    known = dict(fields(model))
    variable = {name: prefix + name.replace(".", "__").upper() for name in names}
    column = max(map(len, variable.values())) + 4
    return "\n".join(
        textwrap.fill(
            f"{known[name].description} [{_default(known[name]).replace('`', '')}]",
            width=110,
            initial_indent=f"  {variable[name]}".ljust(column),
            subsequent_indent=" " * column,
            break_on_hyphens=False,
        )
        for name in names
    )


def _place(fault: ErrorDetails) -> str:
    return ".".join(str(part) for part in fault["loc"]) or "settings"


def origin(variable: str, present: set[str], path: Path | None = None) -> str:
    """Return in parentheses the variable that is set, else the file; else nothing."""
    # A list is one variable, although its fault may lie in one element.
    parts = variable.split("__")
    for depth in range(len(parts), 0, -1):
        for candidate in ("__".join(parts[:depth]), "__".join(parts[:depth]) + "_FILE"):
            if candidate in present:
                return f" ({candidate})"
    return "" if path is None else f" ({path})"


def _complaint(fault: ErrorDetails, place: str, known: Mapping[str, FieldInfo]) -> str:
    if fault["type"] == "extra_forbidden":
        near = _nearest(place, list(known))
        return "no such setting" + (f"; did you mean {near}?" if near else "")
    message = fault["msg"][0].lower() + fault["msg"][1:]
    message = message.replace("input should be ", "must be ").replace("value error, ", "")
    given = fault.get("input")
    secrets = [f"{name}." for name, field in known.items() if not field.repr]
    # The place lies inside a secret setting, or a text stands where a whole group with a secret should be.
    secret = any(f"{place}.".startswith(name) or name.startswith(f"{place}.") for name in secrets) or "@" in str(given)
    if isinstance(given, str | int | float | bool) and not secret and _shown(given) == given:
        return f"{message}, was {given!r}"
    return message


def _nearest(place: str, known: list[str]) -> str | None:
    leaf = place.rpartition(".")[2]
    by_leaf = {name.rpartition(".")[2]: name for name in known}
    if leaf in by_leaf:  # the right name in the wrong group
        return by_leaf[leaf]
    near = difflib.get_close_matches(place, known, n=1) or difflib.get_close_matches(leaf, by_leaf, n=1)
    return by_leaf.get(near[0], near[0]) if near else None


def _shown(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_shown(content) for content in value]
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    return _URL_SECRET.sub(_hidden, value) if isinstance(value, str) else value


def _hidden(found: re.Match[str]) -> str:
    if found["address"] is None:
        return HIDDEN
    return f"{HIDDEN}@" * bool(found["user"]) + found["address"] + HIDDEN * bool(found["options"])


def _without_secrets(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {part: _without_secrets(part, content) for part, content in value.items()}
    return HIDDEN if value is not None and _SECRET_NAME.search(name) else _shown(value)


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        value: Any = {} if field.annotation is not int else "one per core"
        return value if isinstance(value, str) else "none"
    value = field.default
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ", ".join(f"`{part.name}`" for part in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
