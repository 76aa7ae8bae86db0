"""Scores as a pipeline column of zipline.

Extras `strategies` and `zipline` (zipline-reloaded).

    loader = score_loader(signals, sessions, assets={"NVDA": symbol("NVDA")})
    pipeline = Pipeline(columns={"score": Scores.score.latest})
    run_algorithm(..., custom_loader={Scores.score: loader})

A pipeline shows on a session what was known CUTOFF before it opened, so in `before_trading_start` and all day. What
became known later, while the market was open included, is shown on the next session. NaN: nothing new.
"""

from collections.abc import Iterable, Mapping

import pandas as pd
from zipline.assets import Asset
from zipline.pipeline.data import Column, DataSet
from zipline.pipeline.loaders.frame import DataFrameLoader

from earlybird.stream.client import Received
from earlybird.stream.strategies.alignment import How, aligned
from earlybird.stream.strategies.calendars import Calendar

CUTOFF = pd.Timedelta(minutes=45)
"""Time before the opening at which zipline's equity domains take what is known."""


class Scores(DataSet):  # type: ignore[misc]
    """Scores of the signals that became known since the session before."""

    score = Column(float)


def score_loader(
    signals: Iterable[Received],
    sessions: pd.DatetimeIndex,
    assets: Mapping[str, Asset],
    calendar: Calendar = "XNYS",
    *,
    lag_us: int = 0,
    how: How = "mean",
) -> DataFrameLoader:
    """Return the loader of Scores.score.

    `sessions`: dates without a time zone, as zipline labels them; `assets` by symbol, in any spelling. Otherwise as
    `aligned`.
    """
    lag_us += CUTOFF // pd.Timedelta(microseconds=1)
    table = aligned(signals, sessions, calendar, symbols=assets, lag_us=lag_us, how=how)
    return DataFrameLoader(Scores.score, table.set_axis([asset.sid for asset in assets.values()], axis="columns"))
