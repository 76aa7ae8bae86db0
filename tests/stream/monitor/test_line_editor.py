"""One line of typed text: what a person does, and what a keyboard sends."""

import pytest

from earlybird.stream.monitor.line_editor import LONGEST_LINE, LineEditor


@pytest.mark.parametrize(
    ("typed", "lines", "left"),
    [
        (b"Norvex cuts\r", ["Norvex cuts"], ""),
        (b"Norvex cuts\nand lifts", ["Norvex cuts"], "and lifts"),
        (b"\r\n   \r", [], ""),
        ("caf\u00e9 \U0001f680\r".encode(), ["caf\u00e9 \U0001f680"], ""),
        (b"ab\x7f\x08c\r", ["c"], ""),
        (b"\x7f\x7f", [], ""),
        (b"one two\x17three\r", ["one three"], ""),
        (b"one\x15two\r", ["two"], ""),
        (b"a\x1b[D\x1b[3~\x1bOAb\x1b[200~c\x1b[201~\r", ["abc"], ""),
        (b"a\x00\x01\x07\x0cb\r", ["ab"], ""),
        (b"a\tb\r", ["a b"], ""),
        (b"\xff\xfea\r", ["\ufffd\ufffda"], ""),
        (b"\x1b", [], ""),
        (b"a\x1b\r", ["a"], ""),
    ],
)
def test_bytes_become_lines(typed: bytes, lines: list[str], left: str) -> None:
    """Blank lines are none; keys that are no text leave no trace, whether they come at once or byte by byte."""
    at_once, singly = LineEditor(), LineEditor()
    assert at_once.feed(typed) == lines and at_once.text == left
    assert [line for byte in typed for line in singly.feed(bytes([byte]))] == lines and singly.text == left


def test_a_lone_escape_does_not_swallow_the_rest() -> None:
    """The key Esc, then text: at most its next character is lost."""
    editor = LineEditor()
    editor.feed(b"\x1b")
    assert editor.feed(b"xNorvex\r") == ["Norvex"]


def test_a_whole_article_can_be_pasted_and_no_more() -> None:
    """Beyond the limit nothing is kept; Enter still ends the line."""
    assert LineEditor().feed(b"x" * 5_000 + b"\r") == ["x" * 5_000]
    assert LineEditor().feed(b"x" * (LONGEST_LINE + 5) + b"\r") == ["x" * LONGEST_LINE]
