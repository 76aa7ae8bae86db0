"""The map in the commit's metadata: what goes in comes out, and nothing else is ever believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earlybird.stream.stage import commit_map

offsets = st.sets(st.integers(0, 30_000), max_size=400)


@given(base=st.integers(0, 2**62), finished=offsets, attempts=st.integers(0, 255))
def test_map_returns_what_was_put_in(base: int, finished: set[int], attempts: int) -> None:
    """Any set of finished offsets survives the way through the metadata, and so does the count of attempts."""
    ordered = sorted(base + 1 + offset for offset in finished)
    text = commit_map.encode(base, ordered, attempts)
    assert text is not None
    assert commit_map.decode(base, text) == (frozenset(ordered), attempts)


@given(base=st.integers(0, 2**40), other=st.integers(0, 2**40), finished=offsets.filter(bool))
def test_map_of_another_base_is_refused(base: int, other: int, finished: set[int]) -> None:
    """An offset reset by hand must not make a stale map skip records."""
    text = commit_map.encode(base, sorted(base + 1 + offset for offset in finished))
    assert text is not None
    if other == base:
        return
    with pytest.raises(commit_map.UnusableMap):
        commit_map.decode(other, text)


@given(base=st.integers(0, 2**40), text=st.text(max_size=300))
def test_foreign_metadata_never_crashes(base: int, text: str) -> None:
    """Groups hold metadata of other tools; whatever it is, it is either empty or refused."""
    for candidate in (text, "eb2" + text):
        try:
            assert commit_map.decode(base, candidate) == (frozenset(), 0) or candidate.startswith("eb2")
        except commit_map.UnusableMap as error:
            assert error.reason in ("foreign", "corrupt")


@given(finished=offsets.filter(bool), data=st.data())
def test_one_changed_character_is_noticed(finished: set[int], data: st.DataObject) -> None:
    """A damaged map is refused by its checksum rather than skipping the wrong records."""
    text = commit_map.encode(5, sorted(6 + offset for offset in finished))
    assert text is not None
    at = data.draw(st.integers(3, len(text) - 1))
    damaged = text[:at] + chr(0x4E00 + (ord(text[at]) - 0x4E00 + 1) % 32_768) + text[at + 1 :]
    with pytest.raises(commit_map.UnusableMap):
        commit_map.decode(5, damaged)


def test_map_of_a_full_span_fits_the_broker() -> None:
    """16,384 delivered records with every second one unfinished, the worst a ledger allows, fit 4,095 characters."""
    text = commit_map.encode(0, list(range(1, 16_384, 2)))
    assert text is not None
    assert len(text) <= commit_map.LONGEST_TEXT


def test_map_that_cannot_fit_is_none() -> None:
    """Random holes over 200,000 offsets carry more than the broker takes: the caller is told, not the broker."""
    import random

    rng = random.Random(7)
    assert commit_map.encode(0, [offset for offset in range(1, 200_000) if rng.random() < 0.5]) is None


def test_map_of_usual_load_is_small() -> None:
    """256 slots on one partition (a span near 1,000, three quarters finished) take some 100 characters."""
    import random

    rng = random.Random(7)
    text = commit_map.encode(1_000, [1_001 + offset for offset in range(1_000) if rng.random() < 0.75])
    assert text is not None
    assert len(text) < 120
