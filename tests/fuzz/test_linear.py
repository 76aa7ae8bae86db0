"""No input makes anything work quadratically: eight times the bytes are about eight times the CPU time."""

import time
from collections.abc import Callable, Mapping

import pytest

# ruff: noqa: E501  (tables)
from fuzz_targets import TARGETS, Target
from raw_records import NEWS, written

SMALL, TIMES = 12_000, 8
FLOOR_S = 5e-4  # below it a clock measures nothing
UNITS = (
    b"a", b" ", b"\\", b'"', b"[", b"{", b"]", b",", b"[0,", b'{"a":', b"<", b"<p>", b"<a href='", b"<!--", b"<script>", b"</", b"&", b"&amp;lt;",
    b"&#1", b"A" * 63 + b" ", b"$A ", b"@a ", b"#a ", b"http://a ", b"RT @a: ", b"0", b"9.", b"1e", b"-", b"\\u0000", b"\\ud800", "é".encode(),
    "e\u0301".encode(), "\u0301".encode(), "\u200d".encode(), "😀".encode(), "Ａ".encode(), "â€™".encode(), b"\xff", b"\x00", b"\r\n", b"a.b",
    b"data:a;base64,", b"(", b"A's ", b"a=b,", b"00-", b"% ", b"T", b":", b"vs $1 ",
)  # fmt: skip
SHAPES: Mapping[str, Callable[[bytes], bytes]] = {
    "bare": lambda text: text,
    "headline": lambda text: _with("headline", text),
    "body": lambda text: written([*NEWS, ("body_format", '"html"')]).replace(
        b'"headline":', b'"body":"' + _inner(text) + b'","headline":'
    ),
    "array": lambda text: b"[" + text + b"]",
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", [name for name in TARGETS if name != "outcomes"])
def test_work_grows_with_the_bytes(name: str, shape: str) -> None:
    """A ratio between two sizes, so that a slow machine changes nothing; each doubt is measured again."""
    target, found = TARGETS[name], {}
    for unit in UNITS:
        if (ratio := _ratio(target, shape, unit, 1)) > 3 * TIMES and (
            ratio := _ratio(target, shape, unit, 7)
        ) > 3 * TIMES:
            found[unit] = round(ratio)
    assert not found, f"times the CPU time at {TIMES} times the bytes, by unit: {found}"


def test_quadratic_work_is_found() -> None:
    """What looks at the rest of the text at every hundredth byte."""
    quadratic = _ratio(lambda value: [value[at:].count(b"x") for at in range(0, len(value), 100)], "bare", b"x", 3)
    linear = _ratio(lambda value: [value[at : at + 100].count(b"x") for at in range(len(value))], "bare", b"x", 3)
    assert linear < 3 * TIMES < quadratic


def _ratio(target: Target, shape: str, unit: bytes, calls: int) -> float:
    small, large = (SHAPES[shape](unit * (size // len(unit))) for size in (SMALL, TIMES * SMALL))
    return _least_cpu_s(target, large, calls) / max(_least_cpu_s(target, small, max(2, calls)), FLOOR_S)


def _least_cpu_s(target: Target, value: bytes, calls: int) -> float:
    found = []
    for _ in range(calls):
        begun = time.process_time()
        target(value)
        found.append(time.process_time() - begun)
    return min(found)


def _with(field: str, text: bytes) -> bytes:
    return written([*NEWS[:5], (field, '"@"')]).replace(b"@", _inner(text))


def _inner(text: bytes) -> bytes:
    """The text inside of a JSON string, with the signs that would end it escaped."""
    return text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
