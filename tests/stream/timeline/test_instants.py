"""Instants and durations: one grammar everywhere, and no zone is ever guessed."""

import os
import subprocess
import sys
from argparse import ArgumentTypeError
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earlybird.stream import cli
from earlybird.stream.commands.arguments import seconds
from earlybird.stream.errors import FeedError, InvalidTime, SettingsError
from earlybird.stream.publishing.field_map import FieldMap
from earlybird.stream.publishing.files import FeedFile, merged
from earlybird.stream.publishing.line_format import BadLine, LineFormat
from earlybird.stream.timeline.instants import duration_us, feed_us, instant_us
from earlybird.stream.timeline.merge import parse_bounds
from project import ROOT

NINE = datetime(2024, 5, 1, 9, tzinfo=UTC)
T0 = int(NINE.timestamp()) * 1_000_000
HOUR_US = 3_600_000_000
DAY = "Wed, 01 May 2024 09:00:00"


@pytest.mark.parametrize(
    ("given_as", "expected"),
    [
        ("2024-05-01T09:00", T0),
        ("2024-05-01 09:00:00Z", T0),
        ("2024-05-01T11:00+02:00", T0),
        ("20240501T090000z", T0),
        ("2024-05-01", T0 - 9 * HOUR_US),
        (date(2024, 5, 1), T0 - 9 * HOUR_US),
        ("2024-05-01T09:00:00.0000019Z", T0 + 1),
        (str(T0 // 1_000_000), T0),
        (str(T0 // 1_000), T0),
        (str(T0), T0),
        (str(T0 * 1_000), T0),
        (T0 // 1_000, T0),
        (T0, T0),
        (NINE, T0),
        (datetime(2024, 5, 1, 4, tzinfo=timezone(timedelta(hours=-5))), T0),
        ("now", T0),
        ("-2h", T0 - 2 * HOUR_US),
        ("now-1.5d", T0 - 36 * HOUR_US),
        ("-0", T0),
    ],
)
def test_an_instant_in_every_form(given_as: str | int | date, expected: int) -> None:
    """What commands and the client take."""
    assert instant_us(given_as, T0) == expected


@pytest.mark.parametrize(
    ("given_as", "reason"),
    [
        ("yesterday", "yesterday"),
        ("2024-05-01T09:00 ET", "zone 'ET'"),
        ("2024-05-01T09:00 EST", "zone 'EST'"),
        ("2024-05-01T09:00[Europe/Berlin]", "ISO 8601"),
        ("2024-05-01+02:00", "ISO 8601"),
        ("2024-05-01T24:00", "hour"),
        ("2024-05-01T09:00:60Z", "second"),
        ("0000-01-01", "year 0"),
        ("1850-01-01", "1973 to 2100"),
        ("", "ISO 8601"),
        ("2024-05-01T09:00+25:00", r"zone '\+25:00'"),
        (12, "1973 to 2100"),
        (True, "an instant"),
        (10**40, "1973"),
        (datetime(2024, 5, 1), "local time"),
        ("-5", "250ms"),
        ("-2 hours", "250ms"),
        ("-20000d", "1973"),
        ("9" * 5_000, "ISO"),
    ],
)
def test_what_is_no_instant_is_refused_with_the_forms(given_as: str | int | date, reason: str) -> None:
    """The place, the text, and what may be written; short whatever was given."""
    with pytest.raises(InvalidTime, match=reason) as refused:
        instant_us(given_as, T0, "--from")
    assert str(refused.value).startswith("--from: ") and str(refused.value).endswith("now or -2h")
    assert len(str(refused.value)) < 300 and isinstance(refused.value, SettingsError | ValueError)


@given(st.datetimes(datetime(1974, 1, 1), datetime(2099, 1, 1)), st.integers(-23 * 60, 23 * 60))
def test_iso_agrees_with_the_standard_library(moment: datetime, offset_min: int) -> None:
    """In any zone, to the microsecond."""
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=offset_min)))
    expected = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert instant_us(aware.isoformat(), T0) == feed_us(aware.isoformat(), None) == instant_us(aware, T0) == expected


def test_durations_have_their_unit() -> None:
    """A bare number would be seconds to one and microseconds to another."""
    lengths = {
        "40us": 40,
        "250ms": 250_000,
        "1.5s": 1_500_000,
        "5m": 300_000_000,
        "2h": 2 * HOUR_US,
        "1d": 24 * HOUR_US,
    }
    assert {text: duration_us(text) for text in lengths} == lengths
    assert duration_us("0") == 0 and duration_us(timedelta(seconds=2)) == 2_000_000
    for wrong in ("5", "-1s", "1 s", "fast", "1e3s", "1h30m", "9" * 30 + "d", "99999999d", "", timedelta(-1)):
        with pytest.raises(InvalidTime, match="--latency: a duration"):
            duration_us(wrong, "--latency")


def test_options_in_seconds_take_durations_too() -> None:
    """`--flush 300` names its unit in the help; `--flush 5m` in itself."""
    assert [seconds(text) for text in ("300", "0.5", "5m", "250ms")] == [300.0, 0.5, 300.0, 0.25]
    for wrong in ("soon", "-1", "inf", "nan", ""):
        with pytest.raises(ArgumentTypeError, match="seconds"):
            seconds(wrong)


@pytest.mark.parametrize("command", [["replay", "--output", "x"], ["replay", "--output", "x", "--to", "now"]])
def test_a_bound_that_is_no_instant_names_its_option(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Not the words of another command."""
    with pytest.raises(SettingsError, match=r"--from: .*was '2024-05-01T09:00 ET'"):
        parse_bounds(["2024-05-01T09:00 ET"], T0, "--from")
    assert cli.main([*command, "--from", "2024-13-01", "--archive", "."]) == 2
    assert "--from: month must be in 1..12, was '2024-13-01'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("zone", "hour"),
    [
        ("GMT", 9),
        ("UT", 9),
        ("UTC", 9),
        ("Z", 9),
        ("gmt", 9),
        ("+0000", 9),
        ("-0000", 9),
        ("+0000 (Greenwich (GMT))", 9),
        ("-0400", 13),
        ("-0400 (EDT)", 13),
        ("EST", 14),
        ("EDT", 13),
        ("CST", 15),
        ("CDT", 14),
        ("MST", 16),
        ("MDT", 15),
        ("PST", 17),
        ("PDT", 16),
        ("+05:30", 3.5),
    ],
)
def test_zones_that_are_certain_are_read(zone: str, hour: float) -> None:
    """Offsets, UTC by any name, and the American names of RFC 2822. -0000 is UTC, says RFC 5322, 3.3."""
    assert feed_us(f"{DAY} {zone}", "rfc2822") == T0 + round((hour - 9) * HOUR_US)


UNCERTAIN = [
    "ET",
    "PT",
    "AKDT",
    "AKST",
    "HST",
    "BST",
    "CET",
    "CEST",
    "JST",
    "IST",
    "MSK",
    "A",
    "GMT+2",
    "UTC-5",
    "(EDT)",
    "",
    "Europe/Berlin",
    "local",
    "+25:00",
    "+0075",
    "+2",
    "EST5EDT",
]


@pytest.mark.parametrize("zone", UNCERTAIN)
def test_no_zone_is_taken_for_utc(zone: str) -> None:
    """Four hours of look-ahead, where an Eastern time is read as UTC."""
    for form, text in (
        ("rfc2822", f"{DAY} {zone}"),
        ("%a, %d %b %Y %H:%M:%S %Z", f"{DAY} {zone}"),
        ("%a, %d %b %Y %H:%M:%S %z", f"{DAY} {zone}"),
        ("iso", f"2024-05-01T09:00:00 {zone}"),
        (None, f"2024-05-01T09:00:00{zone}"),
    ):
        with pytest.raises(ValueError, match="was "):
            feed_us(text, form)
    if zone:
        with pytest.raises(ValueError, match="was "):
            feed_us(f"2024-05-01T09:00:00 {zone}", "iso-utc")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("01 May 24 09:00 GMT", T0),
        ("1 May 2024 9:00:00 GMT", T0),
        ("Wednesday, 01-May-24 09:00:00 GMT", T0),
        ("Wed, 01 May 2024 09:00:00GMT", T0),
        ("Wed,  01  May  2024 (a date)  09:00:00  +0000", T0),
    ],
)
def test_older_spellings_of_rfc_2822(text: str, expected: int) -> None:
    """Years of two digits are those of RFC 5322, 4.3."""
    assert feed_us(text, "rfc2822") == expected


@pytest.mark.parametrize(
    "text",
    [
        "Wed, 31 Feb 2024 09:00:00 GMT",
        "Wed, 01 Foo 2024 09:00:00 GMT",
        "01 May 0000 09:00 GMT",
        "01 May 2024 24:00 GMT",
        "30 Jun 2012 23:59:60 GMT",
        "01 May 2024",
        "09:00 GMT",
        "(" * 1_000_000,
        "01 May 2024 " + " " * 1_000_000,
        "01 May 60 09:00 Z",
    ],
    ids=lambda text: text[:24],
)
def test_what_is_no_date_is_refused_at_once(text: str) -> None:
    """With its reason, and in no time whatever its length."""
    with pytest.raises(ValueError, match="was ") as refused:
        feed_us(text, "rfc2822")
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d %H:%M ET",
        "%Y-%m-%d %H:%M est",
        "%H:%M GMT+2",
        "%d %b %Y %H:%M +0200",
        "%Z %Y-%m-%d",
        "%Y-%m-%d %Q",
        "%s",
        "%Y-%m-%d %H:%M %p",
        "%Y-%m-%d %I:%M",
        "%Y %W",
        "%Y-%m",
    ],
)
def test_a_pattern_that_hides_zone_or_time_is_refused_before_any_line(form: str) -> None:
    """strptime reads a zone in plain text, PM beside %H, and weeks without their day, and forgets them."""
    with pytest.raises(FeedError, match="map"):
        FieldMap([f"published_us=ts:{form}"])


def test_zone_names_mean_the_same_on_every_machine() -> None:
    """strptime's %Z takes the names of the machine's own zone, and then forgets them."""
    code = (
        "from earlybird.stream.timeline.instants import feed_us;"
        "print(feed_us('2024-05-01 09:00 EDT', '%Y-%m-%d %H:%M %Z'))"
    )
    for zone in ("UTC", "America/New_York", "Asia/Tokyo"):
        environment = os.environ | {"TZ": zone, "PYTHONPATH": str(ROOT)}
        answer = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert int(answer.stdout) == T0 + 4 * HOUR_US


def test_a_feed_names_the_line_whose_zone_is_not_certain(tmp_path: Path) -> None:
    """And publishes the others."""
    lines = [
        f'{{"title": "Norvex lifts", "id": "{zone}", "pubDate": "{DAY} {zone}"}}'
        for zone in ("EDT", "ET", "GMT", "BST")
    ]
    (tmp_path / "rss.jsonl").write_text("\n".join(lines))
    fields = FieldMap(["headline=title", "source='rss'", "source_item_id=id", "published_us=pubDate:rfc2822"])
    found = list(merged([FeedFile(tmp_path / "rss.jsonl")], LineFormat(fields, 0)))
    bad = {line.place[-1]: line.why for line in found if isinstance(line, BadLine)}
    assert bad.keys() == {"2", "4"} and "published_us: the zone 'ET'" in bad["2"] and "'BST'" in bad["4"]
    assert [line.at_us for line in found if not isinstance(line, BadLine)] == [T0 + 4 * HOUR_US, T0]
