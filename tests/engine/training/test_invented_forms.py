"""Verb forms and figures of invented texts."""

import re

import pytest

from earlybird.engine.manifest import LABELS
from earlybird.engine.training.invented import tables
from earlybird.engine.training.invented.invent import _written
from earlybird.engine.training.invented.numbers import change
from earlybird.engine.training.invented.verbs import verb


@pytest.mark.parametrize(
    ("cell", "forms"),
    [
        ("rise/rose/risen/rising", ("rises", "rose", "risen", "rising")),
        ("jump", ("jumps", "jumped", "jumped", "jumping")),
        ("edge up", ("edges up", "edged up", "edged up", "edging up")),
        ("crash", ("crashes", "crashed", "crashed", "crashing")),
        ("rally/rallied/rallied/rallying", ("rallies", "rallied", "rallied", "rallying")),
        ("narrowly miss", ("narrowly misses",)),
        ("more than double/more than doubled/more than doubled/more than doubling", ("more than doubles",)),
    ],
)
def test_verb_forms(cell: str, forms: tuple[str, ...]) -> None:
    """Regular forms need not stand in the table."""
    found = verb(cell)
    assert (found.s, found.past, found.perf, found.ing)[: len(forms)] == forms


def test_figures_agree_with_their_direction() -> None:
    """The later figure is above the earlier one for a rise, in every unit, also after rounding."""
    from random import Random

    def value(text: str) -> float:
        found = re.search(r"[\d,]+(\.\d+)?", text)
        assert found is not None
        scale = 1000 if re.search(r"(billion|bln|bn|B)\b", text) else 1
        return float(found[0].replace(",", "")) * scale

    for unit in sorted({each.unit for each in tables.subjects()}):
        for strength in ("slight", "normal", "strong"):
            for seed in range(60):
                up, down = (change(unit, strength, sign, Random(seed)) for sign in (1, -1))
                assert value(up.now) > value(up.then), (unit, up)
                assert value(down.now) < value(down.then), (unit, down)
                assert value(down.now) >= 0, (unit, down)
                assert value(up.now) > value(up.est) >= 0, (unit, up)
                assert value(down.now) < value(down.est), (unit, down)


def test_verb_tables_agree_with_themselves() -> None:
    """Every verb has one direction: none is a rise in one row and a fall in another."""
    ups = {move.up.base for move in tables.moves() if move.kind not in ("quality", "please")}
    downs = {move.down.base for move in tables.moves() if move.kind not in ("quality", "please")}
    assert not ups & downs


def test_every_written_row_fills_and_keeps_its_label() -> None:
    """Each row is told with several keys; no two rows say the same."""
    rows = tables.written()
    assert len({text.lower() for *_, text in rows}) == len(rows) > 20_000
    assert {label for _, label, _ in rows} == set(LABELS)
    for row in rows:
        for key in range(5):
            told = _written(row, key)
            assert LABELS[told.label] == row[1]
            assert not re.search(r"[{}\[\]<>|]", told.text.replace("->", "")), row
