"""The tape: what a line shows, in how many columns, and what it all adds up to."""

import json
import re
from io import StringIO

import pytest
from rich.console import Console

from earlybird.schemas.signal import Label
from earlybird.stream.monitor.summary import TapeTally
from earlybird.stream.monitor.tape import Kind, Row, bar, depth, heading, headline, legend, line

T0 = 1_700_000_000_000_000


def row(kind: Kind = Kind.SIGNAL, **about: object) -> Row:
    """A computed signal unless something else is said."""
    computed = kind in (Kind.SIGNAL, Kind.CORRECTION)
    fields: dict[str, object] = {"symbol": "NRVX", "headline": "Norvex opens plant"}
    if kind in (Kind.SIGNAL, Kind.DUPLICATE, Kind.CORRECTION):
        fields |= {"label": Label.POSITIVE, "score": 0.81, "confidence": 0.9, "exit_layer": 2, "max_layers": 8}
    return Row(**({"at_us": T0, "kind": kind, "age_us": 4_100, "computed": computed} | fields | about))  # type: ignore[arg-type]


def test_a_line_shows_time_symbol_sentiment_confidence_depth_age_and_headline() -> None:
    """Everything one wants to know at a glance, in a hundred columns."""
    assert line(row(), 100).plain == ("22:13:20  NRVX   ▲ +0.81 ····│███·  90% ▰▰▱▱▱▱▱▱    4.1 ms  Norvex opens plant")


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("width", [100, 80])
def test_no_line_is_wider_than_the_screen_and_headlines_start_in_one_column(kind: Kind, width: int) -> None:
    """A table, whatever became of the text."""
    drawn = line(row(kind, headline="Norvex " * 40, reason="malformed"), width).plain
    assert len(drawn) <= width
    assert drawn.index("Norvex") - len({Kind.DUPLICATE: "≡ ", Kind.CORRECTION: "✎ "}.get(kind, "")) == (
        heading(width).plain.index("headline")
    )


def test_what_has_no_result_says_why() -> None:
    """Retracted, or a dead letter with its reason; and duplicates show no depth, since no layer ran."""
    assert "✕ retracted" in line(row(Kind.RETRACTION), 80).plain
    assert "! bad time" in line(row(Kind.REJECTION, reason="bad_time"), 80).plain
    assert "duplicate" in line(row(Kind.DUPLICATE), 80).plain
    assert "▰" not in line(row(Kind.DUPLICATE), 80).plain


@pytest.mark.parametrize(
    ("score", "drawn"),
    [(0.0, "····│····"), (1.0, "····│████"), (-1.0, "████│····"), (0.125, "····│▌···"), (-0.375, "··▐█│····")],
)
def test_the_bar_grows_from_the_middle_in_half_cells(score: float, drawn: str) -> None:
    """Left is negative, right is positive."""
    assert bar(score) == drawn


def test_depth_is_drawn_pass_by_pass() -> None:
    """Full marks for passes that were needed, hollow ones for those that were saved."""
    assert depth(row(exit_layer=3)) == "▰▰▰▱▱▱▱▱"


def test_a_texts_control_characters_do_not_reach_the_terminal() -> None:
    """A feed must not be able to move the cursor or turn the line around."""
    drawn = line(row(headline="a\x1b[2Jb\u202ec\r\nd\x00e"), 200).plain
    assert drawn.endswith("a [2Jb c d e")


def test_a_symbols_control_characters_do_not_reach_the_terminal() -> None:
    """A symbol is the provider's, too."""
    assert "\x1b" not in line(Row(0, Kind.REJECTION, 0, symbol="N\x1b[31m"), 80).plain


def test_the_tally_counts_every_outcome_once() -> None:
    """Computed results, duplicates, retractions and dead letters account for all texts."""
    tally = TapeTally()
    corrections = [row(Kind.CORRECTION), row(Kind.CORRECTION, computed=False)]
    others = [row(Kind.DUPLICATE), row(Kind.RETRACTION), row(Kind.REJECTION, reason="malformed")]
    for one in [row(), row(exit_layer=5), *corrections, *others]:
        tally.add(one)
    tally.texts = 7
    told = json.loads(json.dumps(tally.as_json(2.0)))
    assert told == {
        "texts": 7, "texts_per_s": 3.5, "latency_ms": {"p50": 4.1, "p99": 4.1}, "exit_layers": {"2": 2, "5": 1},
        "cache_hits": 2, "corrections": 2, "retractions": 1, "rejections": {"malformed": 1},
    }  # fmt: skip
    accounted = sum(told["exit_layers"].values()) + told["cache_hits"] + told["retractions"]
    assert accounted + sum(told["rejections"].values()) == told["texts"]


@pytest.mark.parametrize("width", [100, 80])
def test_a_usual_terminal_shows_all_totals(width: int) -> None:
    """The line at the top holds a long run with slow texts, its latencies and every mark of the legend."""
    tally = TapeTally()
    letters = [row(Kind.REJECTION, reason="malformed")] * 99
    for one in [row(age_us=99_900_000), *[row(Kind.DUPLICATE)] * 999, *[row(Kind.RETRACTION)] * 99, *letters]:
        tally.add(one)
    tally.texts = 99_999
    status, marks = tally.status(100.0).plain, legend(width).plain
    assert status == "earlybird  99999 texts  1000/s  p50 4.1 ms  p99 4.1 ms  ≡ 999  ✎ 0  ✕ 99  ! 99"
    assert max(len(status), len(marks)) <= width
    assert all(f"{mark} " in marks and f"{mark} " in status for mark in "≡✎✕!")


def test_percentiles_are_ages_that_really_occurred() -> None:
    """Nearest rank: no interpolation between a fast and a slow text."""
    tally = TapeTally()
    for age_ms in range(1, 101):
        tally.add(row(age_us=age_ms * 1000))
    assert (tally.age_ms(0.5), tally.age_ms(0.99), tally.age_ms(1.0)) == (50, 99, 100)
    assert TapeTally().age_ms(0.5) == 0


def test_a_raw_records_headline_is_found_whatever_it_holds() -> None:
    """News, tweets, deletes and rubbish."""
    found = [headline(value) for value in (b'{"headline":"H"}', b'{"text":"T"}', b"[1]", b"rubb\xff", None, b"")]
    assert found == ["H", "T", "[1]", "rubb\ufffd", "", ""]


def test_a_raw_record_that_no_parser_takes_is_shown_all_the_same() -> None:
    """It is in the topic, and whoever looks at the topic must not fall over it."""
    assert headline(b"[" * 100_000) == "[" * 80


def test_the_closing_picture_adds_up() -> None:
    """A bar per layer, as long as texts left there are many, and a line per reason of a dead letter."""
    tally = TapeTally()
    rows = [row(exit_layer=1, max_layers=3)] * 4 + [row(exit_layer=3, max_layers=3), row(Kind.DUPLICATE)]
    for one in [*rows, row(Kind.RETRACTION), row(Kind.REJECTION, reason="bad_time")]:
        tally.add(one)
    console = Console(width=100, record=True, file=StringIO())
    console.print(tally.picture(2.0))
    shown = console.export_text()
    bars = [len(found) for found in re.findall(r"^ \d (█*) \d", shown, re.MULTILINE)]
    assert bars[0] == 4 * bars[2] > 0 == bars[1] == sum(bars[3:])
    for said in ("1 duplicates", "1 retractions", "1 dead letters", "1 bad time"):
        assert said in shown, shown
