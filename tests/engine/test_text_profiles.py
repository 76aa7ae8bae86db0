"""Text profiles: what each removes, what it must never remove, and that no rule changes unnoticed."""

import dataclasses
import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.text.profiles import FINANCE, KEPT, NATURAL, NLTK, PAPER, PROFILES, Lower, Profile, profile

TABLE_I = [
    (
        "In the first nine months of 2010 , the company 's net profit rose to EUR41m from EUR30m for the corresponding "
        "period in 2009 .",
        "first nine months 2010 company 's net profit rose eur41m eur30m corresponding period 2009",
    ),
    (
        "The shops are located in the capital region and the Paijat-Hame region .",
        "shops located capital region paijat-hame region",
    ),
    (
        "Net sales for the whole fiscal year 2008 will be lower than in 2007 and operating profit is estimated to be "
        "negative .",
        "net sales whole fiscal year 2008 lower 2007 operating profit estimated negative",
    ),
]


@pytest.mark.parametrize(("sentence", "printed"), TABLE_I)
def test_paper_profile_gives_the_printed_rows(sentence: str, printed: str) -> None:
    """Table I of the ELBERT paper, character for character."""
    assert PAPER.clean(sentence) == printed


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("RT @desk: $ACME up 5% https://t.co/x via @bob", "$ACME up 5% via @user"),
        ("rt  Acme &amp; Sons\n\tjump", "Acme & Sons jump"),
        ("mail bob@acme.com, not @acme", "mail bob@acme.com, not @user"),
        ("pic.twitter.com/abc www.acme.com http…", ""),
        ("Not up, never DOWN: -5 %", "Not up, never DOWN: -5 %"),
    ],
)
def test_natural_profile_keeps_every_word(text: str, clean: str) -> None:
    """Only entities, RT, links, handles and spacing change."""
    assert NATURAL.clean(text) == clean


@given(st.text())
def test_natural_profile_is_the_cleaning_of_the_training_script(text: str) -> None:
    """Weights were trained behind exactly these five substitutions, in this order."""
    trained = re.sub(r"^RT\s+(@\w+:?)?\s*", "", html.unescape(text), flags=re.I)
    trained = re.sub(r"https?://\S*|https?…|\bhttp…|www\.\S+|\bpic\.twitter\.com\S*", " ", trained)
    trained = re.sub(r"\s+", " ", re.sub(r"(?<!\w)@\w+", "@user", trained)).strip()
    assert NATURAL.clean(text) == trained


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("HELSINKI (AFX) - Acme profit down 5 %", "Acme profit down 5 %"),
        ("LONDON, Nov 20 (Reuters) - Acme not for sale", "Acme not sale"),
        ("(Reuters) - Acme cuts outlook", "Acme cuts outlook"),
        ("NEW YORK, May 3 /PRNewswire/ -- Acme wins contract", "Acme wins contract"),
        ("Acme won a $5 mn contract - Reuters", "Acme won $5 mn contract"),
        ("UPDATE 1-Acme shares fall below $10", "Acme shares fall below $10"),
        ("BREAKING: Acme recalls cars", "Acme recalls cars"),
        ("REFILE-UPDATE 2-Acme recalls cars", "Acme recalls cars"),
        ("RT @desk: Acme beats https://t.co/x via @bob", "Acme beats"),
        ("Acme (ACM) - profit up", "Acme (ACM) profit up"),
        ("Profit was EUR 4.0 mn , down from EUR 4.9 mn .", "Profit EUR 4.0 mn down from EUR 4.9 mn"),
        ("Sales changed by - 5 % , EUR13 .1 m", "Sales changed -5 % EUR13.1 m"),
        ("Growth of 3 - 5 % is expected", "Growth 3 5 % expected"),
        (
            "Acme plans no more than 3 stores, sources say - sources",
            "Acme plans no more than 3 stores, sources say sources",
        ),
    ],
)
def test_finance_profile_drops_the_agency_and_keeps_the_direction(text: str, clean: str) -> None:
    """Where a story came from goes; negation, direction, comparison, quantity and signs stay."""
    assert FINANCE.clean(text) == clean


def test_finance_profile_keeps_every_word_that_turns_a_sentence_round() -> None:
    """The kept words are stop words of NLTK's list, each survives, and every other one does not."""
    assert KEPT < NLTK and len(NLTK) == 179
    for word in NLTK:
        assert FINANCE.clean(f"Acme {word} x") == ("Acme x" if word not in KEPT else f"Acme {word} x")


@given(st.text())
def test_profiles_take_any_text(text: str) -> None:
    """No input raises, and no result has white space at its ends."""
    for each in PROFILES.values():
        assert each.clean(text) == each.clean(text).strip()


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize(
    "unit", ["@", "RT ", "RT @a ", "&", "&amp;", " - AP", "www.", "http", "( ", "A ", "UPDATE ", "- 5", " via @a", "\n"]
)
def test_hostile_repetition_is_read_to_the_end(name: str, unit: str) -> None:
    """Every rule is linear: 200 KB of the start of a match come back at once (the suite's time limit is the judge)."""
    PROFILES[name].clean(unit * (200_000 // len(unit)))


def test_hash_covers_rules_and_words() -> None:
    """A step more, a word less or another name is another profile."""
    assert len({each.hash for each in PROFILES.values()}) == len(PROFILES)
    longer = Profile(PAPER.name, (*PAPER.steps, Lower()))
    *rules, tokens = PAPER.steps
    fewer = Profile(PAPER.name, (*rules, dataclasses.replace(tokens, stop_words=NLTK - {"not"})))  # type: ignore[type-var]
    assert len({PAPER.hash, longer.hash, fewer.hash}) == 3
    assert Profile(PAPER.name, PAPER.steps).hash == PAPER.hash


def test_released_profiles_are_frozen() -> None:
    """Models name these hashes: a changed rule needs a new name, e.g. natural-v2."""
    assert {name: each.hash[:16] for name, each in PROFILES.items()} == {
        "natural-v1": "af01afbb228d8cfa",
        "paper-v1": "6d87902f02c9beb6",
        "finance-v1": "258eee8af8e40d72",
    }


def test_unknown_profile_is_refused() -> None:
    """The error names what there is."""
    with pytest.raises(ConfigError, match="natural-v1, paper-v1, finance-v1 required, was 'natural-v9'"):
        profile("natural-v9")
