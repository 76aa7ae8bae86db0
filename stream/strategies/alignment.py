"""Signals on the rows of a price frame, for vectorbt, backtrader, zipline and pandas.

Extra `strategies` (pandas, exchange_calendars).

    >>> from earlybird.stream.client import Signals
    >>> from earlybird.stream.strategies.invented import invented
    >>> opens = pd.date_range("2024-05-01 13:30", periods=4, freq="30min", tz="UTC")  # of the bars in `prices`
    >>> prices = pd.DataFrame({"NVDA": [1.0, 2.0, 3.0, 4.0], "AMD": 5.0}, index=opens)
    >>> at_us = 1_714_571_100_000_000  # 2024-05-01 13:45; else "archive/"
    >>> recorded = [(invented("1", at_us, 0.9, symbols=["NVDA"]), at_us)]
    >>> scores = aligned(Signals.replay(recorded, latency="500ms"), prices.index, "XNYS", symbols=prices.columns)
    >>> (scores > 0.5)["NVDA"].tolist()  # enter at the open of 14:00
    [False, True, False, False]
    >>> scores = aligned(Signals.replay(recorded), prices.index, "XNYS", at="close", freq="30min")
    >>> (scores > 0.5)["NVDA"].tolist()  # enter at the close of 13:30
    [True, False, False, False]

A row has an instant at which you act: the bar's opening or its close. A signal lands in the first row whose instant
lies after it could be known. So a row may be traded at its instant or any time later; before, it was unknown.

| library | acts on a row | `at` | the frame's index |
|---|---|---|---|
| vectorbt, `from_signals(..., price=open)` | at the bar's open | `open` | as the prices |
| vectorbt, `from_signals(close, ...)` | at the bar's close | `close` | as the prices |
| backtrader, `next()` | after the bar's close; orders fill at the next open | `close` | by `scored_data` |
| backtrader, `next_open()` (cheat on open) | at the bar's open | `open` | likewise |
| zipline, a pipeline | before the session opens | `open`, by `score_loader` | sessions, no zone |
"""

from collections.abc import Iterable
from typing import Literal

import pandas as pd

from earlybird.schemas.symbols import canonical_symbol
from earlybird.stream.client import Latest, Received
from earlybird.stream.strategies.calendars import At, Calendar, closes_of, sessions

How = Literal["mean", "sum", "last", "count"]


def aligned(
    signals: Iterable[Received],
    index: pd.DatetimeIndex,
    calendar: Calendar | None,
    *,
    at: At = "open",
    freq: str | None = None,
    symbols: Iterable[str] | None = None,
    lag_us: int = 0,
    how: How = "mean",
) -> pd.DataFrame:
    """Return scores with the rows of `index` and one column per symbol.

    NaN (count: 0) where there is none.

    `index`: openings of bars, with a time zone, or dates of sessions, without one. `at`: act on a row when its bar
    opens, or when it closes, which takes `freq`, the bars' length; a bar ends with its session. `calendar`: the market
    of the prices; None for one that never closes. For bars that are labelled by their close, `at="open"` acts at the
    label. `symbols`: the columns, in any spelling; by default those that occur. `lag_us`: the latency of your own path,
    added to `available_us`.

    The first row holds all that was known before it, and signals after the last row are left out: cut with `start` and
    `end` of Signals.replay. Items count by their state, as in to_bars. Raises ValueError for an index that is empty,
    out of order or no session, and for a missing `freq`.
    """
    instants = _instants(index, at, freq, calendar)
    table = summed(states_of(signals, lag_us), instants, how).reindex(range(len(index)))
    if symbols is not None:
        names = list(symbols)
        table = table.reindex(columns=[canonical_symbol(name) for name in names]).set_axis(names, axis="columns")
    table.index = index
    return table.fillna(0).astype("int64") if how == "count" else table.astype("float64")


def states_of(signals: Iterable[Received], lag_us: int) -> pd.DataFrame:
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


def summed(states: pd.DataFrame, instants: pd.DatetimeIndex, how: How) -> pd.DataFrame:
    """Return scores by the number of the row, one column per symbol.

    Only rows that have any. A state lands in the first row whose instant is later than it could be known. Within a row
    only the last state of an item counts, and a retracted one has no score. `instants`: ascending, in UTC.
    """
    landed = states.assign(row=instants.searchsorted(states["known"].array, side="right"))
    landed = landed[landed["row"] < len(instants)]
    last = landed.groupby(["row", "item_key"], sort=False)["state"].transform("max")
    standing = landed[(landed["state"] == last) & landed["score"].notna() & landed["symbol"].notna()]
    if standing.empty:
        return pd.DataFrame()
    table = standing.pivot_table(index="row", columns="symbol", values="score", aggfunc=how, sort=True)
    table.columns.name = None
    return table


def _instants(index: pd.DatetimeIndex, at: At, freq: str | None, calendar: Calendar | None) -> pd.DatetimeIndex:
    """Return the instant (UTC) at which to act on each row."""
    if not isinstance(index, pd.DatetimeIndex) or not len(index) or index.hasnans or not index.is_monotonic_increasing:
        raise ValueError("index: a DatetimeIndex of ascending instants required")
    if index.tz is not None:
        if at == "open":
            return index.tz_convert("UTC")
        if freq is None:
            raise ValueError("freq: the length of the bars is needed to act at their close")
        return closes_of(index.tz_convert("UTC"), pd.Timedelta(freq), calendar)
    if calendar is None:
        raise ValueError("index: instants with a time zone required, or dates of sessions and their calendar")
    table = sessions(calendar, index[0].normalize(), index[-1])
    strange = index.difference(table.index)
    if len(strange):
        raise ValueError(
            f"index: without a time zone, dates of sessions of {calendar} required, was {strange[0]}; give "
            "instants of bars a time zone"
        )
    return pd.DatetimeIndex(table.loc[index, at])
