"""Scores inside vectorbt itself: orders are filled at the first open, or close, after the signal."""

from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pytest

from earlybird.stream.client import Signals
from earlybird.stream.strategies.invented import invented

pytestmark = pytest.mark.filterwarnings("ignore")  # of vectorbt's own
pd = pytest.importorskip("pandas", reason="NO PANDAS: pip install -e '.[strategies]'")
vbt: Any = pytest.importorskip("vectorbt", reason="NO VECTORBT: pip install -e '.[strategies,vectorbt]'")

from earlybird.stream.strategies.alignment import aligned  # noqa: E402


@pytest.mark.parametrize(("at", "price"), [("open", 30.0), ("close", 21.0)])
def test_orders_fill_behind_their_signal(at: Literal["open", "close"], price: float) -> None:
    """Known at 10:10: the next open is that of 10:30, the next close that of the bar from 10:00."""
    zone = "America/New_York"
    index = pd.date_range("2024-01-05 09:30", periods=5, freq="30min", tz=zone)
    opens = pd.DataFrame({"NVDA": [10.0, 20.0, 30.0, 40.0, 50.0]}, index=index)
    closes = opens + 1
    at_us = int(datetime(2024, 1, 5, 10, 10, tzinfo=ZoneInfo(zone)).timestamp()) * 1_000_000
    signals = Signals.replay([(invented("1", at_us, 0.8), at_us)])
    scores = aligned(signals, index, "XNYS", at=at, freq="30min", symbols=opens.columns)
    portfolio = vbt.Portfolio.from_signals(
        closes, scores > 0.5, scores < -0.5, price=opens if at == "open" else closes, size=1, freq="30min"
    )
    assert portfolio.orders.records["price"].tolist() == [price]
