"""Scores inside backtrader itself: what `next` sees was known when the bar closed, and orders fill later."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from earlybird.stream.client import Signals
from earlybird.stream.strategies.invented import invented

pytestmark = pytest.mark.filterwarnings("ignore")  # of backtrader's own
pd = pytest.importorskip("pandas", reason="NO PANDAS: pip install -e '.[strategies]'")
pytest.importorskip("exchange_calendars", reason="NO CALENDARS: pip install -e '.[strategies]'")
bt = pytest.importorskip("backtrader", reason="NO BACKTRADER: pip install -e '.[strategies,backtrader]'")

from earlybird.stream.strategies.alignment import aligned  # noqa: E402
from earlybird.stream.strategies.backtrader import scored_data  # noqa: E402

NEW_YORK = "America/New_York"


def us(local: str) -> int:
    return int(datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(NEW_YORK)).timestamp()) * 1_000_000


def bars(index: Any) -> Any:
    """Each opens at 10 times its number and closes one above."""
    opens = [10.0 * number for number in range(1, len(index) + 1)]
    closes = [value + 1 for value in opens]
    columns = {"open": opens, "high": closes, "low": opens, "close": closes, "volume": 1_000}
    return pd.DataFrame(columns, index=index)


def backtest(
    prices: Any, scores: Any, *, cheat_on_open: bool = False
) -> tuple[list[tuple[datetime, float]], list[float]]:
    """Scores that the strategy saw, with the times of their bars, and the prices at which it bought."""
    seen: list[tuple[datetime, float]] = []
    filled: list[float] = []

    class Buyer(bt.Strategy):  # type: ignore[misc, name-defined]
        def act(self) -> None:
            if self.data.score[0] > 0:
                seen.append((self.data.datetime.datetime(0), self.data.score[0]))
                self.buy()

        def next(self) -> None:
            if not cheat_on_open:
                self.act()

        def next_open(self) -> None:
            self.act()

        def notify_order(self, order: Any) -> None:
            if order.status == order.Completed:
                filled.append(order.executed.price)

    cerebro = bt.Cerebro(cheat_on_open=cheat_on_open, stdstats=False)
    cerebro.addstrategy(Buyer)
    cerebro.adddata(scored_data(prices, scores))
    cerebro.run()
    return seen, filled


def test_a_score_is_seen_after_its_bar_and_traded_at_the_next_open() -> None:
    """Intraday bars, labelled by their opening in New York; backtrader's times are UTC."""
    prices = bars(pd.date_range("2024-01-05 09:30", periods=5, freq="30min", tz=NEW_YORK))
    signals = Signals.replay([(invented("1", at_us := us("2024-01-05 10:10"), 0.8), at_us)])
    scores = aligned(signals, prices.index, "XNYS", at="close", freq="30min", symbols=["NVDA"])
    seen, filled = backtest(prices, scores["NVDA"])
    assert seen == [(datetime(2024, 1, 5, 15), 0.8)]  # the bar from 10:00 to 10:30
    assert filled == [30.0]  # the open of 10:30


def test_cheating_on_the_open_sees_what_was_known_by_then() -> None:
    """The order fills at the open of the row itself, which is behind the signal."""
    prices = bars(pd.date_range("2024-01-05 09:30", periods=5, freq="30min", tz=NEW_YORK))
    signals = Signals.replay([(invented("1", at_us := us("2024-01-05 10:10"), 0.8), at_us)])
    scores = aligned(signals, prices.index, "XNYS", symbols=["NVDA"])
    seen, filled = backtest(prices, scores["NVDA"], cheat_on_open=True)
    assert seen == [(datetime(2024, 1, 5, 15, 30), 0.8)] and filled == [30.0]


def test_daily_bars_are_sessions() -> None:
    """Said while the market is open, seen after its close, bought the next morning."""
    prices = bars(pd.DatetimeIndex(["2024-07-02", "2024-07-03", "2024-07-05", "2024-07-08"]))
    at = [us("2024-07-03 12:59"), us("2024-07-03 13:01")]  # a half day closes at 13:00
    signals = Signals.replay([(invented(str(at_us), at_us, 0.8), at_us) for at_us in at])
    scores = aligned(signals, prices.index, "XNYS", at="close", symbols=["NVDA"])
    seen, filled = backtest(prices, scores["NVDA"])
    assert [moment.date().isoformat() for moment, _ in seen] == ["2024-07-03", "2024-07-05"]
    assert filled == [30.0, 40.0]


def test_scores_of_other_rows_are_refused() -> None:
    """pandas would put NaN where the two differ, and the strategy would hear nothing."""
    prices = bars(pd.date_range("2024-01-05 09:30", periods=3, freq="30min", tz=NEW_YORK))
    with pytest.raises(ValueError, match="rows of the prices"):
        scored_data(prices, pd.Series([0.1, 0.2], index=prices.index[:2]))
