"""The bench of linking: every way on the same texts, and what it says is what it measured."""

import json
from pathlib import Path

import pytest

from earlybird.stream.bench.link_command import invented_names, linker_of, measure
from earlybird.stream.cli import main


def test_every_way_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON object on stdout, the table on stderr; texts may come from a file."""
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"{name} lifts its outlook\n" for name in invented_names(50)))
    assert main(["bench", "link", "--names", "50", "--texts", "20", "--file", str(texts), "--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["names"] == 50 and "20 texts of" in printed.err
    linking, library, _, loop = found["ways"]
    assert linking["linked"] == library["linked"] == 20 and loop["linked"] == 5
    assert all(way["us"] > 0 for way in found["ways"])


def test_the_library_alone_finds_names_inside_of_words() -> None:
    """Which is why its time is no rival's."""
    names = invented_names(10)
    linking, library, *_ = measure(linker_of(names), names, [f"x{names[0]}x"])
    assert (linking.linked, library.linked) == (0, 1)


def test_invented_names_are_different() -> None:
    """Also where the words have run out of new ones."""
    assert len(set(invented_names(2_000))) == 2_000
