"""Signals in a backtrader backtest: python examples/backtrader_backtest.py [ARCHIVE]"""

import sys

import backtrader as bt
import sample

from earlybird import Signals
from earlybird.stream.strategies.alignment import aligned
from earlybird.stream.strategies.backtrader import scored_data

SYMBOLS = ["NRVX", "GRYF"]


class Follower(bt.Strategy):
    """Long after good news, out after bad; orders fill at the next bar's open."""

    def next(self) -> None:
        for data in self.datas:
            score = data.score[0]  # known before this bar closed; NaN: nothing new, and no comparison is true
            if score > 0.3 and not self.getposition(data):
                self.buy(data, size=100)
            elif score < -0.3 and self.getposition(data):
                self.close(data)


prices = {symbol: sample.daily(symbol) for symbol in SYMBOLS}  # put your own market data here
dates = prices[SYMBOLS[0]].index
signals = Signals.replay(sys.argv[1] if len(sys.argv) > 1 else sample.recording(), latency="250ms")
scores = aligned(signals, dates, "XNYS", at="close", symbols=SYMBOLS)

cerebro = bt.Cerebro()
cerebro.broker.setcash(100_000)
cerebro.addstrategy(Follower)
for symbol in SYMBOLS:
    cerebro.adddata(scored_data(prices[symbol], scores[symbol]), name=symbol)
cerebro.run()
print(int(scores.notna().to_numpy().sum()), "scores,", f"value {cerebro.broker.getvalue():,.2f}")
