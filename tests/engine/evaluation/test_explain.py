"""An explanation says what the engine does, and nothing of a text can break its page."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from earlybird.engine.config import EngineConfig
from earlybird.engine.engine import BUNDLED_FOLDER, Engine
from earlybird.engine.errors import ConfigError
from earlybird.engine.evaluation.explain import explain, runs
from earlybird.engine.evaluation.explain_page import page
from earlybird.engine.slots.reference import trace
from earlybird.engine.text.assembly import Text
from earlybird.engine.types import Request
from earlybird.stream.cli import main
from project import ROOT

TEXT = "Norvex Robotics cuts full-year outlook as <demand> weakens & margins fall 12%"


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(EngineConfig(policy="patience:count=1", runner="reference", device="cpu"))


def test_passes_are_those_of_the_oracle(engine: Engine) -> None:
    """The exit, its reason and the probabilities until then; later passes are shown as well."""
    found = explain(engine, TEXT)
    (encoded,) = engine.encoder.encode([Text((TEXT,))])
    assert encoded is not None
    oracle = trace(engine.model, engine.policy, Request(0, encoded.token_ids))
    assert found.exit_layer == oracle.verdict.exit_layer
    assert [each.layer for each in found.passes if each.exits] == [found.exit_layer]
    assert found.passes[found.exit_layer - 1].reason == oracle.verdict.exit_reason.value
    for each, logits in zip(found.passes, oracle.logits, strict=False):
        assert each.probs == pytest.approx(logits.softmax(dim=-1).tolist(), abs=1e-5)
    assert len(found.passes) == engine.max_layers
    assert sum(last - first + 1 for _, first, last in runs(found)) == engine.max_layers


def by_hand(rule: str, labels: list[str], tops: list[float]) -> list[str]:
    """Counts in a row after each pass, of three needed, as the rule's definition has them."""
    found, held = list[str](), 0
    for layer, label in enumerate(labels):
        same = layer > 0 and label == labels[layer - 1]
        if rule == "patience":
            held = held + 1 if same else 0
        else:
            held = held + 1 if same and tops[layer] >= tops[layer - 1] else 1
        found.append(f"{min(held, 3)}/3")
    return found


@pytest.mark.parametrize(("spec", "rules"), [
    ("cwb:delta=0.1,window=3", ["cwb"]),
    ("patience:count=3|entropy:threshold=0.1|cwb:delta=0,window=3", ["patience", "cwb"]),
    ("fixed:2", []),
])  # fmt: skip
def test_the_window_is_what_the_rule_has_counted(tmp_path: Path, spec: str, rules: list[str]) -> None:
    """Over five passes of a model whose answers change."""
    checkpoint = json.loads((BUNDLED_FOLDER / "manifest.json").read_text())
    checkpoint["geometry"]["layers"], checkpoint["policy"] = 5, "full"
    for file in BUNDLED_FOLDER.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "manifest.json").write_text(json.dumps(checkpoint))
    engine = Engine.load(EngineConfig(model=str(tmp_path), policy=spec, runner="reference", device="cpu"))
    seen = set[str]()
    for text in (TEXT, "Norvex cuts outlook as costs fall", "Oil falls 3 pct"):
        passes = explain(engine, text).passes
        labels, tops = [each.label for each in passes], [max(each.probs) for each in passes]
        columns = [by_hand(rule, labels, tops) for rule in rules]
        expected = [" | ".join(row) for row in zip(*columns, strict=True)] or [""] * 5
        assert [each.window for each in passes] == expected
        seen.update(each.window for each in passes)
    assert len(seen) > 1 or not rules, "the counts never move: this test says nothing"


def test_attention_is_shared_out_among_the_words(engine: Engine) -> None:
    """It adds up to 1 after every pass; the words are those of the cleaned text, in order."""
    found = explain(engine, TEXT)
    for each in found.passes:
        assert len(each.attention) == len(found.words)
        assert sum(each.attention) == pytest.approx(1.0, abs=1e-5)
        assert min(each.attention) >= 0
    place = 0
    for word in found.words:
        place = found.text.index(word, place) + len(word)


def test_the_plain_formula_is_the_models_attention(engine: Engine) -> None:
    """The weights that are shown, applied to the values, give what the layer's own attention gives."""
    model, config = engine.model, engine.checkpoint.config
    ids = torch.tensor([5, 9, 17, 33])
    hidden = model.embed(ids, [4])
    size = config.hidden_size // config.heads
    query, key, value = model.layer(1).query_key_value(hidden).view(-1, 3, config.heads, size).unbind(dim=1)
    weights = (torch.einsum("qhs,khs->hqk", query, key) / size**0.5).softmax(dim=-1)
    ours = torch.einsum("hqk,khs->qhs", weights, value).reshape(4, -1)
    theirs = model._attention(model.layer(1), hidden, [4], hidden.new_zeros(0, config.hidden_size))
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_page_escapes_the_text_and_loads_nothing(engine: Engine) -> None:
    """Markup in a text stays text."""
    html = page(explain(engine, 'Norvex <script>alert(1)</script> & "Sons" cuts outlook'))
    assert "<script" not in html
    assert "http" not in html and "src=" not in html


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table, a page and JSON; a text of nothing is refused."""
    assert main(["explain", TEXT, "--html", str(tmp_path / "way.html")]) == 0
    assert "exit" in capsys.readouterr().out
    assert (tmp_path / "way.html").read_text().startswith("<!doctype html>")
    assert main(["explain", TEXT, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["exit_layer"] >= 1
    assert main(["explain", "   "]) == 2
    with pytest.raises(ConfigError):
        explain(Engine.load(EngineConfig()), "")


def test_the_command_reads_utf_8_in_an_ascii_locale() -> None:
    """The model sees the text as it was typed."""
    text = "Müller übernimmt €5bn"
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command: list[str | bytes] = [sys.executable, "-m", "earlybird.stream.cli", "explain", "--json", text.encode()]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | ascii_only, capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert (found["text"], found["words"]) == (text, ["Müller", "übernimmt", "€5bn"])


def test_the_first_page_shows_what_the_command_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/first-signal.md, word by word, on any CPU: probabilities to two digits, the order of the words apart."""
    monkeypatch.setenv("COLUMNS", "80")
    page_text = (ROOT / "docs" / "first-signal.md").read_text(encoding="utf-8")
    text, shown = re.findall(
        r'^earlybird explain "(.*)"\n```\n\n```text\n(.*?)```', page_text, re.MULTILINE | re.DOTALL
    )[0]
    assert main(["explain", text]) == 0
    printed, number = capsys.readouterr().out, re.compile(r"\d+\.\d+")
    assert sorted(number.sub("N", printed).split()) == sorted(number.sub("N", shown).split())
    numbers = [[float(each) for each in number.findall(part)] for part in (printed, shown)]
    assert numbers[0] == pytest.approx(numbers[1], abs=0.02)
