"""Assembly and tokenising: any item becomes a bounded run of ids, or is said to hold nothing."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earlybird.engine.engine import BUNDLED_FOLDER
from earlybird.engine.text import markup, tokenizer
from earlybird.engine.text.assembly import Text, assembly
from earlybird.engine.text.encoder import Encoded, TextEncoder
from earlybird.engine.text.profiles import NATURAL, NATURAL_2
from earlybird.engine.text.tokenizer import duplicate_key

ENCODER = TextEncoder(NATURAL_2, assembly("parts-v2"), tokenizer.bundled(BUNDLED_FOLDER), max_tokens=80)
FORMER = TextEncoder(NATURAL, assembly("parts-v1"), ENCODER.tokenizer, max_tokens=80)
ANY_TEXT = st.text(st.characters(codec=None, categories=None), max_size=300)  # lone surrogates and NULs too


def encode(*parts: str, html: bool = False) -> Encoded:
    (encoded,) = ENCODER.encode([Text(parts, html)])
    assert encoded is not None
    return encoded


def test_parts_are_joined_into_sentences() -> None:
    """Headline, summary, body, in this order, each a sentence."""
    whole, truncated = ENCODER.assemble(Text(("Acme cuts outlook", "Shares fall!", "", "Details follow")))
    assert (whole, truncated) == ("Acme cuts outlook. Shares fall! Details follow", False)


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        (("Acme cuts outlook", "ACME CUTS OUTLOOK. Shares fell."), "Acme cuts outlook. Shares fell."),
        (("Acme cuts outlook", "", "Acme cuts outlook"), "Acme cuts outlook"),
        (("Acme cuts", "Why it matters", "Acme cuts - Why it matters: jobs"), "Acme cuts. Why it matters. jobs"),
        (("Acme cut", "Acme cuts jobs"), "Acme cut. Acme cuts jobs"),
        (("Acme &amp; Sons", "Acme & Sons rise"), "Acme & Sons. rise"),
    ],
)
def test_a_part_does_not_repeat_what_was_said(parts: tuple[str, ...], whole: str) -> None:
    """Bodies that begin with their headline are common and would fill the model with it twice."""
    assert ENCODER.assemble(Text(parts))[0] == whole


def test_markup_is_read_after_the_headline_only() -> None:
    """A headline "a < b" is no tag; a body is text without scripts, styles and comments."""
    body = "<html><style>p{}</style><p>Profit <b>rose</b>er&nbsp;5 &lt; 6<br>x</p><script>if(a<b)</script><!-- no --> y"
    whole, _ = ENCODER.assemble(Text(("Margin <5%> of sales", body), html=True))
    assert whole == "Margin <5%> of sales. Profit roseer 5 < 6 x y"


@given(ANY_TEXT)
def test_markup_never_fails(text: str) -> None:
    """Whatever a feed calls HTML becomes text."""
    assert isinstance(markup.to_text(text), str)
    assert isinstance(markup.read(text, 100)[0], str)


@pytest.mark.parametrize(
    "text", ["", " \n\t", "\0\0", "https://t.co/x", "RT @a:", "\u200b", "\U0001f680\U0001f680", "\ud800"]
)
def test_nothing_to_read_is_none(text: str) -> None:
    """No piece that the model knows is left: there is nothing to judge."""
    assert ENCODER.encode([Text((text,))]) == [None]
    assert ENCODER.encode([Text((text, text), html=True)]) == [None]


def test_no_parts_is_none() -> None:
    """A text without parts is an empty text."""
    assert ENCODER.encode([Text(()), Text(("Acme rises",))])[0] is None
    assert ENCODER.encode([]) == []


def test_long_text_keeps_its_beginning_and_the_final_separator() -> None:
    """Cut to 80 tokens and flagged; the frame is whole."""
    short, long = encode("Acme rises"), encode("Acme rises " * 200)
    assert len(long.token_ids) == 80 and long.truncated and not short.truncated
    assert long.token_ids[-1] == short.token_ids[-1] and long.token_ids[:3] == short.token_ids[:3]


@pytest.mark.parametrize("words", [39, 78, 79])
def test_truncated_says_exactly_whether_something_is_missing(words: int) -> None:
    """78 words fit between the two special tokens, 79 do not."""
    encoded = encode("up " * words)
    assert (len(encoded.token_ids), encoded.truncated) == (min(words, 78) + 2, words > 78)


@pytest.mark.parametrize("html", [False, True])
def test_ten_megabytes_cost_no_more_than_a_page(html: bool) -> None:
    """What lies beyond the caps is never looked at: a body of 10 MB gives what its first page gives."""
    page = "Profit rose at the group. " * 2000
    assert encode("Acme", page * 200, html=html) == encode("Acme", page, html=html)


def test_left_out_part_is_flagged() -> None:
    """A body that finds the model full is missing, and that is said."""
    full = "word " * 400
    assert ENCODER.assemble(Text((full, "body")))[1]
    assert not ENCODER.assemble(Text(("head", " ")))[1]


def test_special_tokens_cannot_be_written_into_a_text() -> None:
    """ "[SEP]" in a tweet is five characters of text, not the end of it."""
    inside = encode("Acme [SEP] [PAD] [MASK] rises").token_ids[1:-1]
    assert not ENCODER.tokenizer.specials & set(inside)


def test_text_hash_names_what_was_read() -> None:
    """sha256 of the cleaned, assembled text in UTF-8: links and spacing do not count, words do."""
    assert encode("Acme  rises https://t.co/x").text_sha256 == hashlib.sha256(b"Acme rises").hexdigest()
    assert encode("Acme rises").text_sha256 != encode("Acme falls").text_sha256


def test_surrogate_halves_are_joined_or_replaced() -> None:
    """A pair that came apart is its character again, a lone half is the replacement character."""
    assert ENCODER.assemble(Text(("a \ud83d\ude80 b",)))[0] == "a \U0001f680 b"
    assert ENCODER.assemble(Text(("a \ud83d b\0c",)))[0] == "a \ufffd b c"


@given(st.lists(ANY_TEXT, max_size=4), st.booleans())
def test_any_text_is_encoded(parts: list[str], html: bool) -> None:
    """Never an exception, never more tokens than fit, ids within the vocabulary, and alone as in a batch."""
    text = Text(tuple(parts), html)
    first, _, again = ENCODER.encode([text, Text(("Acme rises",)), text])
    assert first == again == ENCODER.encode([text])[0]
    if first is not None:
        assert 3 <= len(first.token_ids) <= 80
        assert all(0 <= number < ENCODER.tokenizer.size for number in first.token_ids)


def test_duplicate_key_depends_on_all_it_names() -> None:
    """Equal ids, model, configuration and numerics: equal key. Anything else: another."""
    keys = {
        duplicate_key(ids, model, config, numerics)
        for ids in [(1, 2), (1, 2, 0), (258,), (2, 1)]
        for model in "ab"
        for config in "cd"
        for numerics in "ef"
    }
    assert len(keys) == 32 and all(len(key) == 32 for key in keys)
    assert duplicate_key([1, 2], "a", "c", "e") == duplicate_key((1, 2), "a", "c", "e")


def test_description_can_be_hashed() -> None:
    """It enters the configuration's hash: JSON without floats, and it moves with max_tokens and the assembly rule."""
    described = json.dumps(ENCODER.describe())
    assert described != json.dumps(TextEncoder(NATURAL_2, ENCODER.assembly, ENCODER.tokenizer, 40).describe())
    assert described != json.dumps(TextEncoder(NATURAL_2, FORMER.assembly, ENCODER.tokenizer, 80).describe())
