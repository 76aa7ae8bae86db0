"""The documentation: it builds without a warning, its links lead somewhere, and what is generated is up to date."""

import argparse
import ast
import importlib
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from earlybird import Signals
from earlybird.schemas.rejection import Reason
from earlybird.stream.cli import COMMANDS
from earlybird.stream.client import Filters
from earlybird.stream.commands import bench
from earlybird.stream.subscription.selection import Wanted
from earlybird.stream.subscription.stage_monitor import Condition
from earlybird.stream.views.lease import Lease
from earlybird.stream.views.state import State
from project import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
OUTSIDE = [
    ROOT / name
    for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "examples/README.md")
]
FOLDERS = "schemas|engine|stream|tests|docs|examples|deploy"
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """docs/generate.py."""
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        spec.loader.exec_module(module)
    return module


def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    """Strict: a page outside of the navigation, a dead link or an unknown anchor ends the build."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert (tmp_path / "index.html").exists()


@pytest.mark.parametrize("part", ["settings", "permissions", "metrics", "messages"])
def test_generated_parts_are_up_to_date(generate: ModuleType, part: str) -> None:
    """`make docs` writes them."""
    file, make = generate.PARTS[part]
    page = (ROOT / file).read_text(encoding="utf-8")
    assert page == generate.updated(page, part, make()), f"run: python docs/generate.py ({file})"


def test_files_that_are_shown_are_up_to_date(generate: ModuleType) -> None:
    """Examples and the model card, as they are."""
    for path in generate.PAGES:
        page = path.read_text(encoding="utf-8")
        assert page == generate.included(page), f"run: python docs/generate.py ({path.name})"


@pytest.mark.parametrize("page", OUTSIDE, ids=lambda path: path.name)
def test_links_of_the_repository_lead_to_files_and_headings(page: Path) -> None:
    """Relative ones, with their anchors."""
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text(encoding="utf-8")))
    for link in links:
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists() and target.is_relative_to(ROOT), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{page.name}: {link}"


@pytest.mark.parametrize("page", [*OUTSIDE, *PAGES], ids=lambda path: path.name)
def test_files_that_are_named_exist(page: Path) -> None:
    """`engine/slots/packed.py` and the like, in running text and in commands."""
    for name in re.findall(rf"[`\s]((?:{FOLDERS})/[\w/.-]*[\w/])[`\s]", page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_every_log_event_stands_in_the_table() -> None:
    """With each level that it has; and the table names none that is not there."""
    section = (DOCS / "deploy.md").read_text(encoding="utf-8").partition("## Log events")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    documented = {event for row in rows for event in re.findall(r"`([a-z_.]+)`", row.split("|")[1])}
    assert documented == {event for path in sources() for event in events(path)}


def test_every_metric_in_the_text_exists(generate: ModuleType) -> None:
    """Alerts and troubleshooting name series that are there."""
    known = set(re.findall(r"`(earlybird_\w+)`", generate.metrics()))
    web = pytest.importorskip("earlybird.stream.views.web", reason="extra views")
    known |= set(re.findall(r"^(earlybird_\w+)", web.exposition(State(1, Lease(1.0), "")), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"\bearlybird_\w+", page.read_text(encoding="utf-8")))
        assert named <= known, f"{page.name}: {named - known}"


def test_every_setting_in_the_text_exists(generate: ModuleType) -> None:
    """In code, as `group.name` or as EARLYBIRD_GROUP__NAME."""
    known = set(re.findall(r"^\| `([a-z_.]+)`", generate.settings(), re.MULTILINE))
    groups = {name.partition(".")[0] for name in known if "." in name} - {"log"}
    variables = {"EARLYBIRD_" + name.replace(".", "__").upper() for name in known} | {"EARLYBIRD_CONFIG"}
    others = {"views.sentiment"} | message_fields() | {event for path in sources() for event in events(path)}
    for page in [*PAGES, ROOT / "README.md"]:
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(rf"`((?:{'|'.join(groups)})\.[a-z_]+)[`=]", text)) - others
        assert named <= known, f"{page.name}: {named - known}"
        named = {name.removesuffix("_FILE") for name in re.findall(r"\bEARLYBIRD_[A-Z_]*[A-Z]", text)}
        named = {name for name in named if not name.startswith("EARLYBIRD_KAFKA__OPTIONS__")}
        assert named <= variables, f"{page.name}: {named - variables}"


@pytest.mark.parametrize("page", [*PAGES, *OUTSIDE], ids=lambda path: path.name)
def test_commands_in_the_text_exist_with_their_options(page: Path) -> None:
    """`earlybird COMMAND --option`, in code."""
    code = re.findall(r"```.*?```|`[^`\n]*`", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = re.sub(r"\\\n", " ", "\n".join(code)).replace("`", "\n")
    for command, rest in re.findall(r"(?:^|[|&] )earlybird ([a-z]+)([^\n#|&]*)", lines, re.MULTILINE):
        assert command in COMMANDS, f"{page.name}: earlybird {command}"
        options = set(re.findall(r"(?<= )--[a-z-]+", rest)) - {"--help"}
        assert options <= options_of(command, rest.split()), f"{page.name}: earlybird {command}{rest}"


def test_tables_of_enumerations_are_whole() -> None:
    """Reasons of dead letters, and conditions of the stage, each with a row or a part of one."""
    reasons = column("feed.md", "Dead letters")
    assert reasons == {reason.value for reason in Reason}
    assert column("strategy.md", "Live", "condition") == {each.value for each in Condition}


def test_arguments_of_a_strategy_exist() -> None:
    """The table's names are those of Signals.live and of its filters, all of them but a few."""
    known = {*inspect.signature(Signals.live).parameters, *Filters.__annotations__, *Wanted.__annotations__}
    named = column("strategy.md", "Live", "argument")
    assert named <= known and known - named <= {"bootstrap_servers", "clock", "filters", "remember"}


def test_the_readme_is_short() -> None:
    """Three minutes: some 150 lines, and figures in one table of at most ten rows."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 160
    start, end = lines.index("<!-- figures -->"), lines.index("<!-- /figures -->")
    rows = [line for line in lines[start:end] if line.startswith("|")]
    assert len(rows) - 2 <= 10


def test_the_glossary_is_short() -> None:
    """Words that stay ours are few."""
    glossary = (DOCS / "concepts.md").read_text(encoding="utf-8").partition("## Glossary")[2]
    assert len([line for line in glossary.splitlines() if line.startswith("|")]) <= 25


def column(page: str, section: str, head: str = "") -> set[str]:
    """Names in code in the first column of the table in a section whose head begins so."""
    text = (DOCS / page).read_text(encoding="utf-8").partition(f"## {section}\n")[2].partition("\n## ")[0]
    table = next(part for part in text.split("\n\n") if part.startswith(f"| {head}"))
    return {name for row in table.splitlines()[2:] for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])}


def options_of(command: str, words: Sequence[str]) -> set[str]:
    """Option strings of a command, or of the bench that the first word names."""
    name = bench.MODULES.get(words[0]) if command == "bench" and words else f"earlybird.stream.commands.{command}"
    assert name is not None, f"earlybird {command} {' '.join(words)}"
    parser = argparse.ArgumentParser()
    importlib.import_module(name).add_arguments(parser)
    return set(parser._option_string_actions)


def sources() -> list[Path]:
    return [path for package in ("engine", "stream") for path in sorted((ROOT / package).rglob("*.py"))]


def events(path: Path) -> set[str]:
    """Names of the log events of a file, also where a variable or a method of its own stands for the logger."""
    text = path.read_text(encoding="utf-8")
    return {
        given.value
        for call in ast.walk(ast.parse(text))
        if "get_logger" in text and isinstance(call, ast.Call) and may_log(call.func)
        for given in call.args
        if isinstance(given, ast.Constant)
        and isinstance(given.value, str)
        and re.fullmatch(r"[a-z_]+\.[a-z_]+", given.value)
    }


def may_log(called: ast.expr) -> bool:
    """Whether it is `log.info`, `say` or `self.report`, or looks like one of these."""
    if isinstance(called, ast.Attribute):
        own = isinstance(called.value, ast.Name) and called.value.id == "self"
        return own or called.attr in LEVELS | {"log"}
    return isinstance(called, ast.Name)


def test_events_are_found_however_they_are_logged() -> None:
    """Those of a variable, of a parameter, and of a level that is computed."""
    found = {event for path in sources() for event in events(path)}
    assert found >= {"text.rejected", "partitions.revoked", "client.log", "offsets.awaited"}


def message_fields() -> set[str]:
    """Dotted fields of signals, which look like settings."""
    text = (DOCS / "messages.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `([a-z_.\[\]]+)`", text, re.MULTILINE))


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def anchors(text: str) -> set[str]:
    """Of headings, as hosts make them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
