"""Rows of a price frame: no row holds what was not known when it is acted upon."""

from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earlybird.schemas.signal import Signal, SignalAction
from earlybird.stream.client import Signals
from earlybird.stream.strategies.invented import invented

pd = pytest.importorskip("pandas", reason="NO PANDAS: pip install -e '.[strategies]'")
pytest.importorskip("exchange_calendars", reason="NO CALENDARS: pip install -e '.[strategies]'")

from earlybird.stream.strategies.alignment import aligned  # noqa: E402

NEW_YORK, TOKYO = "America/New_York", "Asia/Tokyo"
MINUTE_US = 60_000_000


def us(local: str, tz: str = NEW_YORK) -> int:
    return int(datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(tz)).timestamp()) * 1_000_000


def seen(*signals: Signal) -> Signals:
    return Signals.replay(sorted(((signal, signal.ts.ingested_us) for signal in signals), key=lambda pair: pair[1]))


def rows(known: str, index: Any, calendar: str | None, tz: str = NEW_YORK, **about: Any) -> list[int]:
    """Numbers of the rows in which something known at this instant lands."""
    frame = aligned(seen(invented("1", us(known, tz))), index, calendar, **about)
    assert frame.index.equals(index)
    return [number for number, value in enumerate(frame.get("NVDA", [])) if value == value]


@pytest.mark.parametrize(
    ("known", "opening", "closing"),
    [
        ("2024-07-03 08:00", [0], [0]),
        ("2024-07-03 09:30", [1], [0]),  # at the opening it is too late for it
        ("2024-07-03 12:59:59", [1], [0]),
        ("2024-07-03 13:00", [1], [1]),  # the half day's close
        ("2024-07-05 15:59:59", [], [1]),
        ("2024-07-05 16:00", [], []),  # behind the last row: left out
    ],
)
def test_dates_are_sessions(known: str, opening: list[int], closing: list[int]) -> None:
    """Daily prices carry dates; midnight is neither their opening nor their close."""
    days = pd.DatetimeIndex(["2024-07-03", "2024-07-05"])
    assert rows(known, days, "XNYS") == opening
    assert rows(known, days, "XNYS", at="close") == closing


@pytest.mark.parametrize(
    ("known", "freq", "calendar", "row"),
    [
        ("2024-01-05 10:29", "1h", "XNYS", 0),
        ("2024-01-05 10:30", "1h", "XNYS", 1),
        ("2024-01-05 15:59", "1h", "XNYS", 6),
        ("2024-01-05 16:00", "1h", "XNYS", 7),  # the last bar ends with the session, half an hour early
        ("2024-01-05 16:00", "1h", None, 6),
    ],
)
def test_a_bar_closes_with_its_session(known: str, freq: str, calendar: str | None, row: int) -> None:
    """What is said after the last trade must not be traded at its price."""
    day = pd.date_range("2024-01-05 09:30", "2024-01-05 15:30", freq="1h", tz=NEW_YORK)
    index = day.append(pd.DatetimeIndex(["2024-01-08 09:30"], tz=NEW_YORK))
    assert rows(known, index, calendar, at="close", freq=freq) == [row]


def test_a_bar_closes_with_a_lunch_break() -> None:
    """Tokyo rests from 11:30 on."""
    index = pd.DatetimeIndex(["2024-01-05 11:00", "2024-01-05 12:30"], tz=TOKYO)
    about: dict[str, Any] = {"at": "close", "freq": "1h", "tz": TOKYO}
    assert rows("2024-01-05 11:29", index, "XTKS", **about) == [0]
    assert rows("2024-01-05 11:31", index, "XTKS", **about) == [1]


def test_a_day_that_is_labelled_by_an_instant_closes_with_its_session() -> None:
    """As vendors date daily bars: midnight in New York."""
    index = pd.DatetimeIndex(["2024-01-05", "2024-01-08"], tz=NEW_YORK)
    assert rows("2024-01-05 15:59", index, "XNYS", at="close", freq="1D") == [0]
    assert rows("2024-01-05 16:01", index, "XNYS", at="close", freq="1D") == [1]
    assert rows("2024-01-05 16:01", index, None, at="close", freq="1D") == [0]  # a market that never closes


def test_rows_and_columns_are_those_of_the_prices() -> None:
    """In their order and their spelling, whatever was said of whom."""
    opens = pd.date_range("2024-01-05 09:30", periods=3, freq="30min", tz=NEW_YORK)
    said = [
        invented("1", us("2024-01-05 09:31"), 0.4, symbols=["BRK.B", "AMD"]),
        invented("2", us("2024-01-05 09:32"), 0.8),
    ]
    names = ["brk-b", "TSLA", "NVDA"]
    frame = aligned(seen(*said), opens, "XNYS", symbols=names)
    assert list(frame.columns) == names and frame.index.equals(opens)
    assert frame.dtypes.unique().tolist() == [float]
    assert frame.iloc[1].tolist() == pytest.approx([0.4, float("nan"), 0.8], nan_ok=True)
    assert aligned(seen(*said), opens, "XNYS", symbols=names, how="count").sum().tolist() == [1, 0, 1]
    assert aligned(seen(), opens, "XNYS", symbols=names).isna().all(axis=None)
    late = aligned(seen(*said), opens, "XNYS", lag_us=30 * MINUTE_US)
    assert late.notna().any(axis="columns").tolist() == [False, False, True]


def test_what_stands_counts() -> None:
    """A retraction takes back what its row holds, and nothing of a row before."""
    opens = pd.date_range("2024-01-05 09:30", periods=4, freq="30min", tz=NEW_YORK)
    said = [
        invented("1", us("2024-01-05 09:31"), 0.4),
        invented("1", us("2024-01-05 09:32"), revision=1, action=SignalAction.RETRACT),
        invented("2", us("2024-01-05 09:33"), 0.8),
        invented("2", us("2024-01-05 10:10"), revision=1, action=SignalAction.RETRACT),
    ]
    assert aligned(seen(*said), opens, "XNYS")["NVDA"].fillna(0).tolist() == [0, 0.8, 0, 0]


@pytest.mark.parametrize(
    ("index", "about", "complaint"),
    [
        (pd.DatetimeIndex([]), {}, "ascending"),
        (pd.DatetimeIndex(["2024-01-08", "2024-01-05"]), {}, "ascending"),
        (pd.DatetimeIndex(["2024-01-05", None]), {}, "ascending"),
        (pd.RangeIndex(3), {}, "ascending"),
        (pd.DatetimeIndex(["2024-01-06"]), {}, "was 2024-01-06"),
        (pd.DatetimeIndex(["2024-01-05 09:30"]), {}, "time zone"),
        (pd.DatetimeIndex(["2024-01-05"]), {"calendar": None}, "calendar"),
        (pd.DatetimeIndex(["2024-01-05 09:30"], tz=NEW_YORK), {"at": "close"}, "length of the bars"),
    ],
)
def test_an_index_that_tells_no_instants_is_refused(index: Any, about: dict[str, Any], complaint: str) -> None:
    """Rather than to guess, and to look ahead."""
    with pytest.raises(ValueError, match=complaint):
        aligned(seen(invented("1", us("2024-01-05 10:00"))), index, **{"calendar": "XNYS", **about})


@settings(deadline=None, max_examples=60)
@given(
    minutes=st.lists(st.integers(0, 5 * 1440), min_size=1, max_size=8, unique=True),
    freq=st.sampled_from(["5min", "30min", "1h", "4h"]),
    at=st.sampled_from(["open", "close"]),
    daily=st.booleans(),
    lag=st.integers(0, 90),
)
def test_no_row_knows_of_a_signal_before_it_was_available(
    minutes: list[int], freq: str, at: Literal["open", "close"], daily: bool, lag: int
) -> None:
    """Whatever the bars: what a row holds was available before its bar opened (closed), no row before could have."""
    begin = us("2024-07-02 00:00")  # a half day and a holiday ahead
    table = pd.DataFrame({"open": ["09:30"] * 4, "close": ["16:00", "13:00", "16:00", "16:00"]})
    table.index = pd.DatetimeIndex(["2024-07-02", "2024-07-03", "2024-07-05", "2024-07-08"])
    spans = [
        [pd.Timestamp(f"{day.date()} {clock}", tz=NEW_YORK) for clock in clocks]
        for day, clocks in zip(table.index, table.to_numpy(), strict=True)
    ]
    step = pd.Timedelta(freq)
    bars = [
        (opens, min(opens + step, closes))
        for first, closes in spans
        for opens in pd.date_range(first, closes, freq=freq, inclusive="left")
    ]
    index = table.index if daily else pd.DatetimeIndex([opens for opens, _ in bars])
    acted = [span[at == "close"] for span in (spans if daily else bars)]
    scores = {begin + minute * MINUTE_US: (number + 1) / 10 for number, minute in enumerate(sorted(minutes))}
    signals = [invented(str(at_us), at_us, score) for at_us, score in scores.items()]
    frame = aligned(seen(*signals), index, "XNYS", at=at, freq=freq, lag_us=lag * MINUTE_US, how="sum")
    expected = [0.0] * len(index)  # the slow and obvious way
    for at_us, score in scores.items():
        known = pd.Timestamp(at_us + lag * MINUTE_US, unit="us", tz="UTC")
        later = [number for number, instant in enumerate(acted) if instant > known]
        if later:
            expected[later[0]] += score
    held = frame["NVDA"].fillna(0).tolist() if "NVDA" in frame else [0.0] * len(index)
    assert held == pytest.approx(expected)
