"""Signals on the bars of a market's calendar.

Extra `strategies` (pandas, exchange_calendars). For the rows of a price frame that you have, see
stream.strategies.alignment.
"""

from collections.abc import Iterable

import pandas as pd

from earlybird.stream.client import Received
from earlybird.stream.strategies.alignment import How, states_of, summed
from earlybird.stream.strategies.calendars import LONGEST_BREAK, At, Calendar, bars


def to_bars(
    signals: Iterable[Received],
    calendar: Calendar = "XNYS",
    freq: str = "1D",
    *,
    at: At = "open",
    lag_us: int = 0,
    how: How = "mean",
) -> pd.DataFrame:
    """Return scores with one row per bar and one column per symbol.

    Rows run from the first bar in which a signal landed to the last; NaN (count: 0) where there was none.

    `calendar`: an exchange by its MIC (exchange_calendars: holidays, half days, lunch breaks, daylight saving), or
    Hours. `freq`: "1D" for sessions, labelled by their date without a zone, or a length within a session ("30min"),
    labelled by the bar's opening in UTC. `at`: a signal lands in the first bar that opens, or closes, after it could be
    known. `lag_us`: the latency of your own path, added to `available_us`.

    Each item counts with its state known by then: a correction replaces what it corrects within its bar and counts
    again in a later one; a retraction removes its item within its bar and adds nothing in a later one. Bars that have
    opened (closed) never change. Raises ValueError for a frequency that is no length.
    """
    states = states_of(signals, lag_us)
    if states.empty:
        return pd.DataFrame()
    begin, end = (known.tz_localize(None).normalize() for known in (states["known"].min(), states["known"].max()))
    instants, labels = bars(calendar, freq, at, begin - pd.Timedelta(days=2), end + LONGEST_BREAK)
    table = summed(states, instants, how)
    if table.empty:
        return table
    table = table.reindex(range(table.index.min(), table.index.max() + 1))
    table.index = labels[table.index]
    return table.fillna(0).astype("int64") if how == "count" else table
