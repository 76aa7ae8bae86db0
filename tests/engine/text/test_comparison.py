"""Comparisons: which of two amounts is larger, in the wordings of wires and filings, and what is no comparison."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earlybird.engine.text.comparison import Comparison
from earlybird.engine.text.profiles import profile

compare = Comparison()

COMPARED = [
    ("EPS $1.42 vs $1.19 expected", "EPS higher $1.42 vs $1.19 expected"),
    ("EPS $1.42, est. $1.50", "EPS lower $1.42, est. $1.50"),
    ("EPS $1.42 (consensus: $1.42)", "EPS unchanged $1.42 (consensus: $1.42)"),
    ("profit 12.4 mln from 9.8 mln", "profit higher 12.4 mln from 9.8 mln"),
    ("lifts dividend from $3.10 to $4.20", "lifts dividend from $3.10 to higher $4.20"),
    ("cuts target to $45 from $50", "cuts target to lower $45 from $50"),
    ("sees EPS $5.00-$5.20 vs $5.40 consensus", "sees EPS lower $5.00-$5.20 vs $5.40 consensus"),
    ("net loss EUR 5 mn against a net loss of EUR 8 mn", "net loss lower EUR 5 mn against a net loss of EUR 8 mn"),
    ("revenue $900 million vs $1.1 billion", "revenue lower $900 million vs $1.1 billion"),
    ("sales EUR5.2bn (EUR4.9bn)", "sales higher EUR5.2bn (EUR4.9bn)"),
    ("sales 120.5m (2013: 110.2m)", "sales higher 120.5m (2013: 110.2m)"),
    ("sales 120.5m in Q3 2014 vs 110.2m in Q3 2013", "sales higher 120.5m in Q3 2014 vs 110.2m in Q3 2013"),
    ("EPS ($0.12) vs ($0.20) est", "EPS higher ($0.12) vs ($0.20) est"),
    ("EPS -$0.12 vs -$0.20 est", "EPS higher -$0.12 vs -$0.20 est"),
    ("EPS $-0.12 vs $0.05", "EPS lower $-0.12 vs $0.05"),
    ("CPI 3.2% y/y vs 3.1% expected, prev 3.0%", "CPI higher 3.2% y/y vs 3.1% expected, prev 3.0%"),
    ("claims 215,000 vs 230,000 consensus", "claims lower 215,000 vs 230,000 consensus"),
    ("revenue 5.2 vs 5.0 billion", "revenue higher 5.2 vs 5.0 billion"),
    ("order book: $3 bn -> $2 bn", "order book: $3 bn -> lower $2 bn"),
    ("churn 24,015 previously, 18,394 now", "churn 24,015 previously, lower 18,394 now"),
    ("churn 18,394 now, 24,015 a year ago", "churn lower 18,394 now, 24,015 a year ago"),
    ("instead of 5 mln, now sees 6 mln", "instead of 5 mln, now sees higher 6 mln"),
    ("EPS $2 vs $1; revenue $5 bn vs $6 bn", "EPS higher $2 vs $1; revenue lower $5 bn vs $6 bn"),
]  # fmt: skip
OTHER = [
    "net loss of EUR 5 mn compared with a net profit of EUR 3 mn",  # the words say it
    "sales of $5 million (EUR 4.6 million)",
    "stake 5% from $3 million",
    "Q3 sales up from Q1",
    "sales in 2014 from 2013",
    "quarter to Dec. 31 vs Dec. 28",
    "open from 9 a.m. to 5 p.m.",
    "10-year yield vs 2-year yield",
    "shares fall 5% after 3% drop",
    "$100 vs $1.2 billion",
    "EPS $1.42",
    "",
]


@pytest.mark.parametrize(("text", "compared"), COMPARED)
def test_a_word_says_which_amount_is_larger(text: str, compared: str) -> None:
    """It stands before the newer of the two; capitals do not matter."""
    assert compare(text) == compared
    assert compare(text.upper()).casefold() == compared.casefold()


@pytest.mark.parametrize("text", OTHER)
def test_what_is_no_comparison_stays(text: str) -> None:
    """Other units, dates, quarters, clock times, a profit beside a loss."""
    assert compare(text) == text


@given(st.text(alphabet="0123456789 .,$%-()mbEURvsfromtest€１\n", max_size=200) | st.text(max_size=80))
def test_only_the_three_words_are_added(text: str) -> None:
    """Nothing is lost or changed, for any text."""
    rest = compare(text)
    for word in ("higher ", "lower ", "unchanged "):
        rest = rest.replace(word, "")
    assert rest == text


@pytest.mark.parametrize("unit", ["1 vs ", "from 1 to ", "$1,000 ", "(1) ", "1,1", "1.", " -1", "profit 1 ", "1" * 50])
def test_hostile_texts_take_linear_time(unit: str) -> None:
    """200 KB come back at once (the suite's time limit is the judge)."""
    assert len(compare(unit * (200_000 // len(unit)))) >= 199_000


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("$NRVX to the moon 🚀🚀", "$NRVX to the moon rocket up rocket up"),
        ("💎🙌🏽 holding", "diamond hands holding"),
        ("⚠️ guidance cut ▼3%", "warning guidance cut down 3%"),
        ("RT @a: EPS 1.2 vs 1.3", "EPS lower 1.2 vs 1.3"),
        ("Curaçao café 🦄", "Curaçao café 🦄"),
    ],
)
def test_natural_v3_reads_emoji_and_amounts(text: str, clean: str) -> None:
    """Common emoji become words, skin tones nothing; others stay."""
    assert profile("natural-v3").clean(text) == clean
