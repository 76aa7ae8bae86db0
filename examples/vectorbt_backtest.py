"""Signals in a vectorbt backtest: python examples/vectorbt_backtest.py [ARCHIVE]"""

import sys

import pandas as pd
import sample
import vectorbt as vbt

from earlybird import Signals
from earlybird.stream.strategies.alignment import aligned

bars = {symbol: sample.daily(symbol) for symbol in ("NRVX", "GRYF", "MERD")}  # put your own market data here
opens, closes = (pd.DataFrame({symbol: frame[name] for symbol, frame in bars.items()}) for name in ("open", "close"))
signals = Signals.replay(sys.argv[1] if len(sys.argv) > 1 else sample.recording(), latency="250ms")
scores = aligned(signals, opens.index, "XNYS", symbols=opens.columns)  # known before the open, so trade at the open
portfolio = vbt.Portfolio.from_signals(
    closes, entries=scores > 0.3, exits=scores < -0.3, price=opens, size=100, init_cash=100_000, freq="1D"
)
print(int(scores.notna().to_numpy().sum()), "scores,", portfolio.orders.count().sum(), "orders,", end=" ")
print(f"value {portfolio.final_value().sum():,.2f}")
