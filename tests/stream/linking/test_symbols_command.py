"""`earlybird symbols`: a table from the SEC's file, its check, and its measure on labelled items."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from earlybird.stream.cli import main
from earlybird.stream.errors import SettingsError
from earlybird.stream.linking.sec import CONTEXT, build
from earlybird.stream.linking.table import SymbolTable

COMPANIES = [
    (1, "NORVEX SYSTEMS CORP", "NRVX", "Nasdaq"),
    (2, "Haligon Energy Holdings, Inc. /DE/", "HLGN-A", "NYSE"),
    (2, "Haligon Energy Holdings, Inc. /DE/", "HLGN-B", "NYSE"),
    (3, "TARGET CORP", "TGT", "NYSE"),
    (4, "GAP INC", "GPS", "NYSE"),
    (5, "KLQ CORP", "KLQ", "Nasdaq"),
    (6, "AT&Q INC.", "TQ", None),
    (7, "THE VELTHEIM CO/", "VLTH", "OTC"),
    (8, "FIRST CAPITAL INC", "FCA", "OTC"),
    (9, "First Capital Bancorp", "FCB", "OTC"),
    (10, "BRAKWATERS CORP", "BRKW", "OTC"),
    (11, "QUAVEST COM INC", "QVST", "OTC"),
    (12, "BANK OF ORDANE CORP", "ORDN", "OTC"),
]
TICKERS = {str(n): {"cik_str": cik, "ticker": t, "title": name} for n, (cik, name, t, _) in enumerate(COMPANIES)}
EXCHANGE = {"fields": ["cik", "name", "ticker", "exchange"], "data": [[c, n, t, e] for c, n, t, e in COMPANIES]}


@pytest.mark.parametrize("form", [TICKERS, EXCHANGE])
def test_names_of_the_secs_file_are_those_that_texts_use(form: dict[str, Any]) -> None:
    """Without legal forms; common words need context, shared names and further share classes are left out."""
    built = build(json.dumps(form).encode())
    named: dict[str, list[str]] = {}
    for name, symbol, _, context in built.rows:
        named.setdefault(symbol, []).append(f"{name}?" if context else name)
    assert {symbol: sorted(names) for symbol, names in named.items()} == {
        "NRVX": ["Norvex", "Norvex Systems", "Norvex Systems Corp"],
        "HLGN.A": ["Haligon Energy", "Haligon Energy Holdings", "Haligon Energy Holdings Inc"],
        "TGT": ["Target Corp", "Target?"],
        "GPS": ["Gap Inc", "Gap?"],
        "KLQ": ["KLQ", "KLQ Corp"],
        "TQ": ["AT&Q", "AT&Q Inc"],
        "VLTH": ["Veltheim", "Veltheim Co"],
        "FCA": ["First Capital Inc"],
        "FCB": ["First Capital Bancorp"],
        "BRKW": ["Brakwater's", "Brakwaters", "Brakwaters Corp"],
        "QVST": ["Quavest", "Quavest.com", "Quavest.com Inc"],
        "ORDN": ["Bank of Ordane", "Bank of Ordane Corp"],
    }
    assert built.shared == ["First Capital"]
    exchanges = {symbol: exchange for _, symbol, exchange, _ in built.rows}
    assert exchanges["NRVX"] == ("Nasdaq" if form is EXCHANGE else "") and exchanges["TQ"] == ""


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"0": {"title": "x"}}', b'{"fields": ["cik"], "data": [[1, 2]]}'])
def test_another_file_is_refused(content: bytes) -> None:
    """With what is wrong."""
    with pytest.raises(SettingsError, match="not the SEC's company file"):
        build(content)


def test_a_built_table_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Built, checked, tried on a text and measured."""
    source, table = tmp_path / "company_tickers.json", tmp_path / "table.csv"
    source.write_text(json.dumps(TICKERS))
    assert main(["symbols", "build", "--sec", str(source), "--output", str(table)]) == 0
    assert "26 names, 2 of them with context words; 1 left out" in capsys.readouterr().err
    assert main(["symbols", "check", str(table)]) == 0
    shown = capsys.readouterr().out
    assert f"{table}: ok, 26 names of 12 symbols, 26 without valid_from" in shown and "symbols.link=every" in shown
    texts = ["Target shares fall", "a Target"]
    assert main(["symbols", "link", *texts, "--table", str(table), "--at", "2026-01-01"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said[0]["symbols"] == [{"symbol": "TGT", "origin": "linked", "relevance": 1.0}] and not said[1]["symbols"]
    assert {alias.context for alias in SymbolTable.read(table).aliases} == {
        (), tuple(sorted(f" {word} " for word in CONTEXT.split()))
    }  # fmt: skip
    with table.open(newline="") as file:
        assert next(csv.reader(file)) == ["alias", "symbol", "exchange", "context"]


def test_precision_and_recall_are_those_of_the_items(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Symbols that no item carries are not judged; a line that cannot be read is named, and the status says so."""
    table, items = tmp_path / "table.csv", tmp_path / "items.jsonl"
    table.write_text("alias,symbol\nNorvex,NRVX\nHaligon,HLGN\nOrdane,ORDN\nVeltheim,VLTH\n")
    rows = [
        ("Norvex and Haligon", ["NRVX", "HLGN"]),  # two right
        ("Norvex and Ordane", ["NRVX"]),  # one right, one unjudged
        ("Norvex falls", []),  # wrong
        ("Its outlook is cut", ["HLGN"]),  # missed
        ("nothing", []),
    ]
    lines = [
        json.dumps({"kind": "news", "text": text, "published_at": "2026-01-01T00:00:00Z", "symbols": symbols,
                    "source": "wire", "id": str(number)})
        for number, (text, symbols) in enumerate(rows)
    ]  # fmt: skip
    items.write_text("\n".join([*lines, "no JSON"]) + "\n")
    command = ["symbols", "evaluate", str(items), "--preset", "flat", "--table", str(table)]
    assert main([*command, "--json"]) == 1
    printed = capsys.readouterr()
    assert f"left out: {items}:6: no JSON" in printed.err
    found = json.loads(printed.out)
    counts = {name: found[name] for name in ("texts", "with_symbols", "linked", "right", "wrong", "missed", "unjudged")}
    assert counts == {
        "texts": 5, "with_symbols": 3, "linked": 3, "right": 3, "wrong": 1, "missed": 1, "unjudged": 1,
    }  # fmt: skip
    assert (found["precision"], found["recall"], found["f1"]) == (0.75, 0.75, 0.75)
    assert (found["most_wrong"], found["most_missed"]) == ({"NRVX": 1}, {"HLGN": 1})
    assert main([*command, "--labelled-only", "--examples"]) == 1
    told = capsys.readouterr().out
    assert "3 right, 0 wrong, 1 missed: precision 1.000  recall 0.750" in told
    assert "missed  HLGN  Its outlook is cut" in told


@pytest.mark.parametrize("command", [["build"], ["check"], ["link", "x"], ["evaluate", "x"]])
def test_what_a_verb_needs_is_said(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """In one line."""
    assert main(["symbols", *command]) == 2
    assert f"symbols {command[0]}: " in capsys.readouterr().err


def test_the_settings_show_the_path_of_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the text that it was given as."""
    monkeypatch.setenv("EARLYBIRD_SYMBOLS__TABLE", str(tmp_path / "table.csv"))
    assert main(["config", "show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["symbols.table"] == str(tmp_path / "table.csv")
