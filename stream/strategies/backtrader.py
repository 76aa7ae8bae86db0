"""Scores as a line of a backtrader feed.

Extras `strategies` and `backtrader`.

    scores = aligned(signals, prices.index, "XNYS", at="close", freq="30min", symbols=["NVDA"])
    cerebro.adddata(scored_data(prices, scores["NVDA"]), name="NVDA")
    def next(self): self.data.score[0]     # NaN where nothing new was said: no comparison with it is true

backtrader calls `next` after a bar has closed, and fills its orders at the next bar's open: `at="close"` holds all that
was known by then. With `cheat_on_open` it calls `next_open` at the bar's open: then use `at="open"`.
"""

from typing import Any

import backtrader
import pandas as pd


class ScoredData(backtrader.feeds.PandasData):  # type: ignore[misc]
    """A price frame with a line `score`."""

    lines = ("score",)
    params = (("score", "score"),)


def scored_data(prices: pd.DataFrame, score: pd.Series, **params: Any) -> ScoredData:
    """Return a feed of these prices (open, high, low, close, ...) and scores.

    Its times are those of the index, in UTC without a zone, as backtrader keeps them. `params` are those of
    backtrader.feeds.PandasData. Raises ValueError where rows of the two differ.
    """
    if not prices.index.equals(score.index):
        raise ValueError("scores: the rows of the prices required; align them on prices.index")
    frame = prices.assign(score=score)
    if frame.index.tz is not None:
        frame.index = frame.index.tz_convert("UTC").tz_localize(None)
    return ScoredData(dataname=frame, **params)
