"""What others wrote reaches neither terminal nor log as it came: it forges no line and drives no terminal."""

import io
import json
import sys
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from earlybird.schemas.rejection import Reason, Rejection
from earlybird.schemas.signal import RawPosition
from earlybird.stream.monitor.display import Display
from earlybird.stream.monitor.tape import Row, headline
from earlybird.stream.observability.escape import escaped, escaped_lines, json_line, plain
from earlybird.stream.observability.logging import configure_logging, failure

HOSTILE = "de\n2026-01-01 [info] forged\x1b[31m\x1b]0;owned\x07\x9b2J\u202ecod.exe\u2028\r\x00\ud800"


@pytest.fixture(params=["console", "json"])
def lines(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What was logged."""
    form: Literal["console", "json"] = request.param
    out = io.StringIO()
    configure_logging("info", form, out)
    yield out


def printable(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("value", [HOSTILE, [HOSTILE], {HOSTILE: HOSTILE}, (HOSTILE, [HOSTILE]), ValueError(HOSTILE)])
def test_a_value_is_one_printable_line(lines: io.StringIO, value: Any) -> None:
    """In a field of its own, in a list, in a mapping, in an exception."""
    structlog.get_logger().info("text.rejected", detail=value)
    logged = lines.getvalue()
    assert logged.count("\n") == 1 and printable(logged) and "forged" in logged


def test_a_field_name_is_printable_too(lines: io.StringIO) -> None:
    """A host's context may hold names that it took from elsewhere."""
    structlog.get_logger().info("text.rejected", **{HOSTILE: 1})
    logged = lines.getvalue()
    assert logged.count("\n") == 1 and printable(logged) and "forged" in logged


LONG: dict[str, Any] = {
    "text": "x" * 900_000,
    "list": ["x" * 900_000] * 900,
    "mapping": {"x" * 900_000: 1},
    "integer": 10**400_000,
    "nested": [[[[[["x"]]]]]],
}


@pytest.mark.parametrize("value", LONG.values(), ids=LONG.keys())
def test_a_value_is_bounded(lines: io.StringIO, value: Any) -> None:
    """A megabyte in a message is not a megabyte in the log."""
    structlog.get_logger().info("text.rejected", detail=value)
    assert len(lines.getvalue()) < 150_000


def test_a_trace_forges_no_line(lines: io.StringIO) -> None:
    """Its own lines are indented, whatever stands in the exception's text; locals are not in it."""
    licensed = "Norvex cuts its outlook".upper()
    try:
        assert licensed
        raise ValueError(HOSTILE + "x" * 100_000)
    except ValueError:
        structlog.get_logger().exception("stage.failed")
    logged = lines.getvalue()
    first, _, rest = logged.rstrip("\n").partition("\n")
    assert printable(logged) and "stage.failed" in first
    assert all(line.startswith("    ") for line in rest.split("\n")) if rest else json.loads(first)["exception"]
    assert licensed not in logged and "ValueError" in logged and len(logged) < 30_000


def test_a_failure_tells_where_but_not_what() -> None:
    """The text of an exception that a message caused may quote it."""
    try:
        int("Norvex cuts")
    except ValueError as error:
        said = failure(error)
    assert said["error"] == "ValueError" and "test_escape.py" in said["raised_at"] and "Norvex" not in str(said)


@given(st.text(), st.integers(0, 50))
def test_escaped_text_is_one_bounded_printable_line(text: str, longest: int) -> None:
    """And printable text as it was."""
    shown = escaped(text, longest)
    assert shown.isprintable() and len(shown) <= 10 * longest + 40
    assert shown == text or not text.isprintable() or len(text) > longest
    assert plain(text, longest).isprintable()
    assert escaped_lines("a\nb\x1b") == "a\nb\\x1b"


@given(
    st.recursive(st.text() | st.integers() | st.none(), lambda part: st.lists(part) | st.dictionaries(st.text(), part))
)
def test_json_on_one_printable_line_says_the_same(value: Any) -> None:
    """However its writer laid it out."""
    for written in (json.dumps(value, indent=1), json.dumps(value, ensure_ascii=False, indent="\t")):
        line = json_line(written)
        assert line.isprintable()
        if not any("\ud800" <= char <= "\udfff" for char in written):
            assert json.loads(line) == value


def test_the_tape_shows_nothing_raw(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither what a record says nor what its dead letter does."""
    letter = Rejection(
        reason=Reason.LANGUAGE, detail=HOSTILE, raw=RawPosition(topic="t", partition=0, offset=1), rejected_us=2**50
    )
    tape = Display(Console(file=sys.stdout, width=100))
    for said in (
        headline(json.dumps({"headline": HOSTILE + "x" * 900_000}).encode()),
        headline(HOSTILE.encode("utf-8", "surrogatepass")),
    ):
        tape.add([Row.of_rejection(letter, at_us=0, age_us=0, headline=said)])
    tape.add([Row.of_rejection(letter, at_us=0, age_us=0, headline=letter.detail)])
    shown = capsys.readouterr().out
    assert shown.count("\n") == 3 and printable(shown) and len(shown) < 2_000
