"""Signals in a nautilus_trader backtest: python examples/nautilus_backtest.py [ARCHIVE]"""

import sys

from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import DataType, QuoteTick
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import Venue
from nautilus_trader.model.objects import Money
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.trading.strategy import Strategy

from earlybird import Signals
from earlybird.stream.strategies.nautilus import CLIENT_ID, SignalData, backtest_data

INSTRUMENT = TestInstrumentProvider.equity("NRVX", "XNAS")


class Follower(Strategy):
    """Buys on good news about one company, sells on bad."""

    def on_start(self) -> None:
        self.subscribe_quote_ticks(INSTRUMENT.id)
        self.subscribe_data(DataType(SignalData), client_id=CLIENT_ID)

    def on_data(self, data: SignalData) -> None:
        if "NRVX" in data.tickers and abs(data.score) > 0.5:  # a retraction has NaN: no comparison is true
            side = OrderSide.BUY if data.score > 0 else OrderSide.SELL
            self.submit_order(self.order_factory.market(INSTRUMENT.id, side, INSTRUMENT.make_qty(100)))


def quotes(start_ns: int, end_ns: int) -> list[QuoteTick]:
    """A quote per hour, a cent dearer each time. Put your own market data here."""
    hours = enumerate(range(start_ns, end_ns, 3_600_000_000_000))
    size = INSTRUMENT.make_qty(1_000)
    return [
        QuoteTick(
            INSTRUMENT.id,
            INSTRUMENT.make_price(100 + hour / 100),
            INSTRUMENT.make_price(100.05 + hour / 100),
            size,
            size,
            at_ns,
            at_ns,
        )
        for hour, at_ns in hours
    ]


if len(sys.argv) > 1:
    signals = Signals.replay(sys.argv[1], latency="250ms")
else:
    from sample import recording

    signals = Signals.replay(recording(), latency="250ms")

data = backtest_data(signals)
engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
engine.add_venue(Venue("XNAS"), OmsType.NETTING, AccountType.MARGIN, [Money(1_000_000, USD)], base_currency=USD)
engine.add_instrument(INSTRUMENT)
engine.add_data(quotes(data[0].ts_init - 3_600_000_000_000, data[-1].ts_init + 3_600_000_000_000))
engine.add_data(data, client_id=CLIENT_ID)  # at the instant when each could be known
engine.add_strategy(Follower())
engine.run()
print(len(data), "signals,", len(engine.trader.generate_order_fills_report()), "orders filled,", end=" ")
print("balance", engine.portfolio.account(Venue("XNAS")).balance_total(USD))
engine.dispose()
