"""Challenge set: the shipped texts keep their rules; scores are what a hand count gives."""

import json
import re
from collections import Counter
from dataclasses import astuple
from pathlib import Path

import pytest
import torch

from earlybird.engine.engine import BUNDLED_FOLDER
from earlybird.engine.errors import DataError
from earlybird.engine.evaluation import challenge as module
from earlybird.engine.evaluation.challenge import Challenge, read_challenge, score_probabilities, swaps
from earlybird.engine.manifest import LABELS, read
from earlybird.engine.training.data import normal_form, read_examples
from earlybird.stream.cli import main
from project import ROOT

REAL_TICKERS = "AAPL AMC AMD AMZN BA BABA BTC COIN F GE GM GME GOOG GOOGL INTC JPM META MSFT MU NFLX NIO NVDA PFE PLTR"
REAL_TICKERS += " QQQ SPY T TSLA TSM WMT XOM"
REAL_COMPANIES = "Apple Amazon Boeing Google Microsoft Netflix Nokia Nvidia Pfizer Siemens Tesla Toyota Walmart"
NEGATIVE, NEUTRAL, POSITIVE = range(3)


def test_the_shipped_set_is_large_balanced_and_paired() -> None:
    """At least 600 texts, 20 to 40 of each phenomenon, no label with more than 70 % but in the notices."""
    items = read_challenge()
    counts = Counter(item.phenomenon for item in items)
    assert len(items) >= 600 and len(counts) >= 28
    assert all(20 <= count <= 40 for count in counts.values()), counts
    for phenomenon, count in counts.items():
        labels = Counter(item.label for item in items if item.phenomenon == phenomenon)
        assert labels[NEGATIVE] >= 3 and labels[POSITIVE] >= 3, phenomenon
        assert max(labels.values()) <= 0.7 * count or phenomenon == "neutral_notices", phenomenon
    assert len({item.pair for item in items if item.pair}) >= 120
    assert [item.label for item in items] == [example.label for example in read_examples(module.FILE)]


def test_the_shipped_set_names_no_real_company_or_ticker() -> None:
    """As far as a short list goes; each name belongs to one text or one pair."""
    items = read_challenge()
    words = {word for item in items for word in re.findall(r"\w+", item.text)}
    tickers = {tag for item in items for tag in re.findall(r"\$([A-Z]+)", item.text)}
    assert len(tickers) > 15 and not tickers & set(REAL_TICKERS.split())
    assert not words & set(REAL_COMPANIES.split())
    owners: dict[str, set[str]] = {}
    for item in items:
        owners.setdefault(item.name, set()).add(item.pair or item.text)
    assert [name for name, texts in owners.items() if name and len(texts) > 1] == []
    assert not {*module.COMPANIES, *module.CASHTAGS} & owners.keys()


def test_the_page_shows_the_bundled_model_on_these_texts() -> None:
    """Run `earlybird evaluate --challenge` and copy its figures after a change of the model or of the texts."""
    page = (ROOT / "docs" / "model.md").read_text("utf-8")
    assert f"`{read(BUNDLED_FOLDER).weights_sha256[:12]}`" in page
    for phenomenon, count in Counter(item.phenomenon for item in read_challenge()).items():
        assert f"| {phenomenon.replace('_', ' ')} | {count} |" in page


def test_swaps_change_the_name_alone() -> None:
    """A text without a name is not swapped; a cashtag becomes a cashtag."""
    items = [
        Challenge("Jobless claims spike", NEGATIVE, "macro"),
        Challenge("Norvex up, says Norvex", POSITIVE, "x", name="Norvex"),
        Challenge("$NRVX up", POSITIVE, "x", name="$NRVX"),
    ]
    found = swaps(items)
    assert [row for row, _ in found] == [1, 1, 1, 2, 2, 2]
    assert found[0][1] == "Ellumar up, says Ellumar" and found[3][1] == "$QZLV up"
    originals = read_challenge()
    assert all(
        normal_form(text) != normal_form(originals[row].text) and originals[row].name not in text
        for row, text in swaps(originals)
    )


def test_scores_are_those_of_a_hand_count() -> None:
    """Four texts of two phenomena, one pair, one name read under three others."""
    items = [
        Challenge("Norvex profit up", POSITIVE, "profit", "profit-1", "Norvex"),
        Challenge("profit down", NEGATIVE, "profit", "profit-1"),
        Challenge("meeting on Monday", NEUTRAL, "notices"),
        Challenge("a hole in the accounts", NEGATIVE, "notices"),
    ]
    own = [[0.1, 0.1, 0.8], [0.7, 0.2, 0.1], [0.2, 0.3, 0.5], [0.1, 0.2, 0.7]]
    others = [[0.1, 0.1, 0.8], [0.5, 0.3, 0.2], [0.3, 0.4, 0.3]]
    found = score_probabilities("full", items, torch.tensor(own + others), 3.0)
    profit, notices = found.phenomena
    assert astuple(profit) == ("profit", 2, 2, 0, 0, pytest.approx(0.75), None)
    assert astuple(notices) == ("notices", 2, 0, 1, 1, None, pytest.approx(0.6))
    assert astuple(found.total) == ("all", 4, 2, 1, 1, pytest.approx(0.75), pytest.approx(0.6))
    assert (found.pairs, found.pairs_right, found.swapped, found.swapped_changed) == (1, 1, 3, 2)
    # Bins of a fifteenth: 0.5 wrong; both 0.7 in one bin, one right; 0.8 right.
    assert found.calibration_error == pytest.approx((0.5 + abs(1.4 - 1) + 0.2) / 4)


GOOD = {"text": "Norvex up", "label": "positive", "phenomenon": "x", "pair": "x-1", "name": "Norvex"}
MIRROR = GOOD | {"text": "Norvex down", "label": "negative"}


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "at least one text"),
        (["nothing"], "line 1: no JSON"),
        ([GOOD, MIRROR | {"label": "bad"}], "line 2: a label of negative"),
        ([GOOD, MIRROR | {"name": "Veltrix"}], "a name that occurs in the text"),
        ([GOOD, MIRROR | {"source": "me"}], "text, label, phenomenon"),
        ([GOOD, MIRROR | {"text": " "}], "strings that are not empty"),
        ([GOOD, MIRROR | {"text": "...Norvex UP!"}], "was twice"),
        ([GOOD], "pair x-1: two texts"),
        ([GOOD, MIRROR | {"label": "positive"}], "pair x-1"),
        ([GOOD, MIRROR | {"phenomenon": "y"}], "pair x-1"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused(tmp_path: Path, rows: list[object], reason: str) -> None:
    """With the line or the pair; the file without the fault is read."""
    path = tmp_path / "challenge.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), "utf-8")
    with pytest.raises(DataError, match=reason):
        read_challenge(path)
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps(MIRROR)}\n", "utf-8")
    assert [item.label for item in read_challenge(path)] == [POSITIVE, NEGATIVE]


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(DataError, match="cannot be read"):
        read_challenge(tmp_path / "none.jsonl")


def test_the_fresh_set_is_apart_from_the_challenge_set() -> None:
    """Three sets of wire headlines, posts and plain news; at least 30 of each label, no text in both sets."""
    fresh, known = read_challenge(module.FRESH), {normal_form(item.text) for item in read_challenge()}
    counts = Counter((item.phenomenon, item.label) for item in fresh)
    sources = ("wire", "posts", "second_wire", "second_posts", "second_plain", "third")
    assert set(counts) == {(source, label) for source in sources for label in (NEGATIVE, NEUTRAL, POSITIVE)}
    assert min(counts.values()) >= 30 and len(fresh) == len({normal_form(item.text) for item in fresh})
    assert not known & {normal_form(item.text) for item in fresh}


def test_the_command_scores_the_fresh_set_by_source(capsys: pytest.CaptureFixture[str]) -> None:
    """Of all texts, with a table named after it."""
    assert main(["evaluate", "--fresh", "--policies", "fixed:1"]) == 0
    shown = capsys.readouterr().out
    assert "fresh set, fixed:1" in shown and "pairs" not in shown
    assert re.search(r"wire\D+170\b", shown) and re.search(r"second plain\D+\d+\b", shown)


def test_the_command_scores_the_bundled_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As JSON and as a table, over every tenth text; a file of texts beside it is refused."""
    every_tenth = [item for row, item in enumerate(read_challenge()) if row % 10 == 0]
    monkeypatch.setattr(module, "read_challenge", lambda _: every_tenth)
    assert main(["evaluate", "--challenge", "--policies", "fixed:1", "full", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [each["policy"] for each in report["policies"]] == ["fixed:1", "full"]
    first, last = report["policies"]
    assert (first["mean_depth"], first["total"]["texts"]) == (1.0, len(every_tenth))
    assert last["total"]["right"] == sum(row["right"] for row in last["phenomena"]) > len(every_tenth) / len(LABELS)
    assert last["swapped"] == 3 * sum(bool(item.name) for item in every_tenth)
    assert main(["evaluate", "--challenge"]) == 0
    shown = capsys.readouterr().out
    assert "figures without verb" in shown and "changed by another company name" in shown
    assert main(["evaluate", str(tmp_path / "texts.jsonl"), "--challenge"]) == 2
    assert "its own texts" in capsys.readouterr().err
