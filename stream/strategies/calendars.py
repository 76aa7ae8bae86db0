"""Instants at which the sessions and bars of a market open and close."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import time
from functools import lru_cache
from typing import Literal

import exchange_calendars
import pandas as pd

LONGEST_BREAK = pd.Timedelta(days=30)  # no exchange is closed for longer

At = Literal["open", "close"]


@dataclass(frozen=True, slots=True)
class Hours:
    """Sessions of a market without a calendar: local opening hours by weekday.

    `days`: 0 is Monday. A session that closes at or before its opening hour closes on the next day.
    """

    tz: str
    opens: time
    closes: time
    days: Collection[int] = (0, 1, 2, 3, 4)
    holidays: Collection[str] = ()  # local dates, YYYY-MM-DD


Calendar = str | Hours
"""A market: an exchange by its MIC (exchange_calendars), or hours of your own."""


def sessions(market: Calendar, begin: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """Return the sessions from `begin` to `end`, by local date without a zone.

    Columns: open, close and break_start, in UTC.
    """
    if isinstance(market, Hours):
        return _own_sessions(market, begin, end)
    return _exchange(market, begin.year, end.year).schedule.loc[begin:end, ["open", "close", "break_start"]]


def bars(
    market: Calendar, freq: str, at: At, begin: pd.Timestamp, end: pd.Timestamp
) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """Return the instants at which bars open, or close, (UTC, ascending) and the bars' labels.

    Raises ValueError for a `freq` that is neither "1D" nor a length below a day.
    """
    table = sessions(market, begin, end)
    if freq == "1D":
        return pd.DatetimeIndex(table[at]), pd.DatetimeIndex(table.index)
    step = pd.Timedelta(freq)
    if not pd.Timedelta(0) < step < pd.Timedelta(days=1):
        raise ValueError(f"freq: 1D or a length below a day required, was {freq!r}")
    if isinstance(market, Hours):
        spans = [
            pd.date_range(opens, closes, freq=step, inclusive="left")
            for opens, closes in zip(table["open"], table["close"], strict=True)
        ]
        opens = pd.DatetimeIndex([instant for span in spans for instant in span])
        return (opens if at == "open" else closes_of(opens, step, market)), opens
    intervals = _exchange(market, begin.year, end.year).trading_index(
        table.index[0], table.index[-1], step, closed="left", force=True
    )
    return getattr(intervals, "left" if at == "open" else "right"), intervals.left


def closes_of(opens: pd.DatetimeIndex, length: pd.Timedelta, market: Calendar | None) -> pd.DatetimeIndex:
    """Return the instants (UTC) at which bars of this length close.

    A session that closes within a bar, or breaks, closes the bar: its last price is from then. `opens`: ascending, UTC.
    """
    ends = opens + length
    if market is None:
        return ends
    begin, end = (instant.tz_localize(None).normalize() for instant in (opens[0], ends[-1]))
    table = sessions(market, begin - LONGEST_BREAK, end + LONGEST_BREAK)
    closes = pd.DatetimeIndex([*table["close"], *table["break_start"].dropna()]).sort_values()
    last = closes[closes.searchsorted(ends, side="right") - 1]
    return ends.where((last <= opens) | (last > ends), last)


@lru_cache(maxsize=8)
def _exchange(name: str, first_year: int, last_year: int) -> exchange_calendars.ExchangeCalendar:
    """Return the exchange's calendar for whole years, so that calls share it.

    Building one takes a third of a second.
    """
    return exchange_calendars.get_calendar(name, start=f"{first_year}-01-01", end=f"{last_year}-12-31")


def _own_sessions(hours: Hours, begin: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """Return opening and closing instants of each session, by its local date."""
    closed = pd.DatetimeIndex(list(hours.holidays))
    days = pd.DatetimeIndex([day for day in pd.date_range(begin, end) if day.weekday() in hours.days]).difference(
        closed
    )
    overnight = pd.Timedelta(days=int(hours.closes <= hours.opens))

    def at(clock: time, dates: pd.DatetimeIndex) -> pd.DatetimeIndex:
        local = dates + pd.Timedelta(hours=clock.hour, minutes=clock.minute, seconds=clock.second)
        return local.tz_localize(hours.tz, nonexistent="shift_forward", ambiguous=True).tz_convert("UTC")

    times = {"open": at(hours.opens, days), "close": at(hours.closes, days + overnight), "break_start": pd.NaT}
    return pd.DataFrame(times, index=days)
