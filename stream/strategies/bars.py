"""Signals on the bars of a price frame, for pandas and vectorbt.

Extra `strategies` (pandas, exchange_calendars).

    >>> from earlybird.stream.client import Signals
    >>> from earlybird.stream.strategies.invented import invented
    >>> opens = pd.date_range("2024-05-01 13:30", periods=4, freq="30min", tz="UTC")   # of the bars in `prices`
    >>> prices = pd.DataFrame({"NVDA": [1.0, 2.0, 3.0, 4.0], "AMD": 5.0}, index=opens)
    >>> at_us = 1_714_571_100_000_000                                                  # 2024-05-01 13:45, or "archive/"
    >>> signals = Signals.replay([(invented("1", at_us, 0.9, symbols=["NVDA"]), at_us)], latency="500ms")
    >>> scores = to_bars(signals, prices.index).reindex_like(prices)
    >>> (scores > 0.5)["NVDA"].tolist()                                                # enter at the open of 14:00
    [False, True, False, False]

A signal lands in the first bar that opens after it could be known. Its value may be traded at that bar's open or any
time later; before, it was unknown.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import time
from functools import lru_cache
from typing import Literal

import exchange_calendars
import pandas as pd

from earlybird.stream.client import Latest, Received

_LONGEST_BREAK = pd.Timedelta(days=30)  # no exchange is closed for longer


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


def to_bars(
    signals: Iterable[Received],
    calendar: str | Hours | pd.DatetimeIndex = "XNYS",
    freq: str = "1D",
    *,
    lag_us: int = 0,
    how: Literal["mean", "sum", "last", "count"] = "mean",
) -> pd.DataFrame:
    """Return scores with one row per bar and one column per symbol.

    Rows run from the first bar in which a signal landed to the last; NaN (count: 0) where there was none.

    `calendar`: an exchange by its MIC (exchange_calendars: holidays, half days, lunch breaks, daylight saving), Hours,
    or the openings of your own bars (with a time zone; then `freq` means nothing, and signals after the last opening
    are left out). `freq`: "1D" for sessions, labelled by their date without a zone, or a length within a session
    ("30min"), labelled by the bar's opening in UTC. `lag_us`: the latency of your own path, added to `available_us`.

    Each item counts with its state known at the opening: a correction replaces what it corrects within its bar and
    counts again in a later one; a retraction removes its item within its bar and adds nothing in a later one. Bars that
    have opened never change. Raises ValueError for openings without a zone or out of order, and a frequency that is no
    length.
    """
    landed = _states(signals, lag_us)
    if landed.empty:
        return pd.DataFrame()
    opens, labels = _openings(calendar, freq, landed["known"].min(), landed["known"].max())
    landed["bar"] = opens.searchsorted(landed["known"].array, side="right")  # opens strictly after
    landed = landed[landed["bar"] < len(opens)]
    # Only an item's last state within a bar counts; a retraction (no score) removes the item's rows.
    last = landed.groupby(["bar", "item_key"], sort=False)["state"].transform("max")
    standing = landed[(landed["state"] == last) & landed["score"].notna() & landed["symbol"].notna()]
    if standing.empty:
        return pd.DataFrame()
    table = standing.pivot_table(index="bar", columns="symbol", values="score", aggfunc=how, sort=True)
    table = table.reindex(range(table.index.min(), table.index.max() + 1))
    table.index = labels[table.index]
    table.columns.name = None
    return table.fillna(0).astype("int64") if how == "count" else table


def _states(signals: Iterable[Received], lag_us: int) -> pd.DataFrame:
    """Return item states as signals changed them, one row per symbol.

    `state` numbers them in the order of arrival.
    """
    latest = Latest[Received]()
    rows = [
        (signal.available_us + lag_us, number, signal.item_key, ticker, None if state is None else state.score)
        for number, signal in enumerate(signals)
        if latest.update(signal)
        for state in (latest.get(signal.item_key),)
        for ticker in (state.tickers if state is not None else ()) or (None,)
    ]
    frame = pd.DataFrame(rows, columns=["known", "state", "item_key", "symbol", "score"])
    frame["known"] = pd.to_datetime(frame["known"], unit="us", utc=True)
    frame["score"] = frame["score"].astype("float64")
    return frame


def _openings(
    calendar: str | Hours | pd.DatetimeIndex, freq: str, first: pd.Timestamp, last: pd.Timestamp
) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """Return the instants at which bars open (UTC, ascending) and the bars' labels."""
    if isinstance(calendar, pd.DatetimeIndex):
        if calendar.tz is None or not calendar.is_monotonic_increasing:
            raise ValueError("openings of bars: ascending instants with a time zone required")
        return calendar.tz_convert("UTC"), calendar
    begin = first.tz_localize(None).normalize() - pd.Timedelta(days=2)
    end = last.tz_localize(None).normalize() + _LONGEST_BREAK
    market = calendar if isinstance(calendar, Hours) else _exchange(calendar, begin.year, end.year)
    schedule = _sessions(market, begin, end) if isinstance(market, Hours) else market.schedule
    if freq == "1D":
        return pd.DatetimeIndex(schedule["open"]), pd.DatetimeIndex(schedule.index)
    step = pd.Timedelta(freq)
    if not pd.Timedelta(0) < step < pd.Timedelta(days=1):
        raise ValueError(f"freq: 1D or a length below a day required, was {freq!r}")
    if isinstance(market, Hours):
        spans = [pd.date_range(opens, closes, freq=step, inclusive="left") for opens, closes in schedule.to_numpy()]
        opens = pd.DatetimeIndex([instant for span in spans for instant in span])
    else:
        sessions = market.sessions[(market.sessions >= begin) & (market.sessions <= end)]
        opens = market.trading_index(sessions[0], sessions[-1], step, intervals=False, closed="left")
    return opens, opens


@lru_cache(maxsize=8)
def _exchange(name: str, first_year: int, last_year: int) -> exchange_calendars.ExchangeCalendar:
    """Return the exchange's calendar for whole years, so that calls share it.

    Building one takes a third of a second.
    """
    return exchange_calendars.get_calendar(name, start=f"{first_year}-01-01", end=f"{last_year}-12-31")


def _sessions(hours: Hours, begin: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """Return opening and closing instants of each session, by its local date."""
    closed = pd.DatetimeIndex(list(hours.holidays))
    days = pd.DatetimeIndex([day for day in pd.date_range(begin, end) if day.weekday() in hours.days]).difference(
        closed
    )
    overnight = pd.Timedelta(days=int(hours.closes <= hours.opens))

    def at(clock: time, dates: pd.DatetimeIndex) -> pd.DatetimeIndex:
        local = dates + pd.Timedelta(hours=clock.hour, minutes=clock.minute, seconds=clock.second)
        return local.tz_localize(hours.tz, nonexistent="shift_forward", ambiguous=True).tz_convert("UTC")

    return pd.DataFrame({"open": at(hours.opens, days), "close": at(hours.closes, days + overnight)}, index=days)
