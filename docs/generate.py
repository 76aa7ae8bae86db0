"""Write the generated parts of the documentation: python docs/generate.py [--check]

Each stands in its page between <!-- NAME --> and <!-- /NAME -->; a file is shown between <!-- include PATH --> and
<!-- /include -->. With --check nothing is written, and the exit status is 1 if a page is out of date.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from field_meanings import MEANINGS
from permissions import PERMISSIONS

ROOT = Path(__file__).parents[1]
RELEASED = ROOT / "schemas" / "released"

# Title, topic and the sentence in front of the table of a message.
MESSAGES: dict[str, tuple[str, str]] = {
    "signal": ("Signal", "On `signals`; Kafka key: `item_key`."),
    "raw-news": ("Raw news", "On `news.raw`; Kafka key: `item_key`."),
    "raw-tweet": ("Raw tweet", "On `tweets.raw`; Kafka key: `item_key`."),
    "rejection": ("Dead letter", "`rejection` on `raw.dlq`; one per record or element that cannot become a signal."),
    "sentiment": ("Sentiment", "On `views.sentiment`, compacted; Kafka key: the symbol. See [views](views.md)."),
    "heartbeat": ("Heartbeat", "On `signals.control`; one per second and worker."),
    "replay-complete": ("End of a replay", "On `TOPIC.control` of a replay with `--format topic`."),
}


def settings() -> str:
    """All settings, as `earlybird config table` prints them."""
    command = [sys.executable, "-m", "earlybird.stream.cli", "config", "table"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def metrics() -> str:
    """All metrics with their labels and help texts."""
    from prometheus_client.metrics import MetricWrapperBase

    from earlybird.stream.observability.figures import FIGURES
    from earlybird.stream.observability.metrics import Metrics

    made = Metrics(max_layers=3)
    made.watch(lambda: dict.fromkeys(FIGURES, 0.0))
    labels = {each._name: each._labelnames for each in vars(made).values() if isinstance(each, MetricWrapperBase)}
    rows = []
    for family in made.registry.collect():
        if not family.name.startswith("earlybird_"):
            continue  # of the process, as prometheus_client has them
        names = labels.get(family.name) or sorted(
            {name for sample in family.samples for name in sample.labels} - {"le"}
        )
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows.append(f"| `{name}` | {family.type} | {_code(names)} | {family.documentation} |")
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *sorted(rows)])


def permissions() -> str:
    """The Kafka permissions that each command needs."""
    rows = [
        f"| {'a strategy' if command == 'strategy' else f'`{command}`'} "
        f"| {'; '.join(f'{operation} {_code(names)}' for operation, names in needed.items())} | {remark} |"
        for command, (needed, remark) in PERMISSIONS.items()
    ]
    return "\n".join(["| command | permissions | |", "|---|---|---|", *rows])


def messages() -> str:
    """All message schemas, field by field; their newest version and since when each field exists."""
    assert {path.stem.rpartition("-")[0] for path in RELEASED.glob("*.json")} == set(MESSAGES)
    return "\n\n".join(_message(name, *about) for name, about in MESSAGES.items())


def _message(name: str, title: str, place: str) -> str:
    versions = sorted(RELEASED.glob(f"{name}-*.json"), key=lambda path: _version(path.stem))
    since: dict[str, str] = {}
    for path in versions:
        for field, _, _ in _fields(json.loads(path.read_text(encoding="utf-8"))):
            since.setdefault(field, path.stem.rpartition("-")[2])
    schema = json.loads(versions[-1].read_text(encoding="utf-8"))
    released = ", ".join(f"`{path.name}`" for path in versions)
    rows = [
        f"| `{field}` | {kind} | {'yes' if required else ''} | {since[field]} | {_meaning(name, field)} |"
        for field, kind, required in _fields(schema)
    ]
    head = [f"### {title}", "", place, f"Released: {released}.", ""]
    return "\n".join([*head, "| field | type | always there | since | meaning |", "|---|---|---|---|---|", *rows])


def _meaning(message: str, field: str) -> str:
    return MEANINGS[key] if (key := f"{message}:{field}") in MEANINGS else MEANINGS[field]


def _version(stem: str) -> tuple[int, ...]:
    return tuple(int(part) for part in stem.rpartition("-")[2].split("."))


def _fields(schema: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Name (dotted), type and whether it is required, of all fields at any depth."""
    definitions = schema.get("$defs", {})

    def walk(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str, bool]]:
        for name, field in node.get("properties", {}).items():
            path = f"{prefix}{name}"
            yield path, _kind(field, definitions), name in node.get("required", ())
            inner, suffix = _inner(field, definitions)
            yield from walk(inner, path + suffix)

    return walk(schema, "")


def _inner(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """The object behind a field, if any, and what joins its path to the field's."""
    for choice in field.get("anyOf", [field]):
        if "$ref" in choice:
            return definitions[choice["$ref"].rpartition("/")[2]], "."
        if choice.get("type") == "array":
            return _inner(choice.get("items", {}), definitions)[0], "[]."
    return {}, "."


def _kind(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "$ref" in field:
        return _kind(definitions[field["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_kind(choice, definitions) for choice in field["anyOf"]))
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}), definitions)}"
    if field.get("minimum", 0) >= 1e14:
        return "epoch microseconds"
    return _bounded(field)


def _bounded(field: Mapping[str, Any]) -> str:
    kind = str(field.get("type", "any"))
    low, high, longest = field.get("minimum"), field.get("maximum"), field.get("maxLength")
    if longest is not None:
        return f"{kind}, at most {longest:,} characters"
    if low is not None and high is not None and high < 1e15:
        return f"{kind}, {low:g} to {high:g}"
    return f"{kind}, {low:g} or more" if low is not None and low > -1e15 else kind


def _code(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


PARTS: dict[str, tuple[str, Callable[[], str]]] = {
    "settings": ("docs/settings.md", settings),
    "permissions": ("docs/deploy.md", permissions),
    "metrics": ("docs/deploy.md", metrics),
    "messages": ("docs/messages.md", messages),
}
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
INCLUDE = re.compile(r"(<!-- include (\S+) -->\n).*?(<!-- /include -->)", re.DOTALL)
LANGUAGES = {".py": "python", ".sh": "bash"}


def updated(page: str, name: str, part: str) -> str:
    """The page with this part between its markers."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    assert len(pattern.findall(page)) == 1, f"<!-- {name} --> ... <!-- /{name} --> required once"
    return pattern.sub(lambda found: f"{found[1]}{part}\n{found[2]}", page)


def included(page: str) -> str:
    """The page with the files that it shows: Markdown as it is, others as code."""

    def show(found: re.Match[str]) -> str:
        path = ROOT / found[2]
        text = path.read_text(encoding="utf-8").strip()
        if path.suffix != ".md":
            text = f"```{LANGUAGES[path.suffix]}\n{text}\n```"
        return f"{found[1]}{text}\n{found[3]}"

    return INCLUDE.sub(show, page)


def main() -> int:
    """Write, or only compare."""
    check, stale = "--check" in sys.argv, []
    for path in PAGES:
        before = page = path.read_text(encoding="utf-8")
        for name, (file, make) in PARTS.items():
            if path == ROOT / file:
                page = updated(page, name, make())
        page = included(page)
        if page != before:
            stale.append(path.name)
            if not check:
                path.write_text(page, encoding="utf-8")
    if stale:
        print("out of date:" if check else "written:", ", ".join(stale))
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
