"""nautilus_trader sees the signals that the client sees, when it sees them: in its own engine, catalog and node."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from earlybird.schemas.raw import RevisionKind
from earlybird.schemas.signal import Signal, SignalAction
from earlybird.stream.client import Signals
from earlybird.stream.strategies.invented import invented

pytest.importorskip("nautilus_trader", reason="NO NAUTILUS: pip install -e '.[nautilus]' (glibc 2.35)")

from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import DataType, QuoteTick
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import Venue
from nautilus_trader.model.objects import Money
from nautilus_trader.persistence.catalog import ParquetDataCatalog
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.trading.strategy import Strategy

from earlybird.stream.strategies.nautilus import CLIENT_ID, SignalData, backtest_data, signal_data, write_catalog

T0 = 1_700_000_000_000_000
SECOND = 1_000_000
NVDA = TestInstrumentProvider.equity("NVDA", "XNAS")

TAPE = [
    (invented("up", T0, 0.9), T0 + 10 * SECOND),
    (invented("down", T0, -0.8), T0 + 20 * SECOND),
    (invented("up", T0, revision=1, action=SignalAction.RETRACT), T0 + 30 * SECOND),
]


class Follower(Strategy):  # type: ignore[misc]
    """Buys on good news, sells on bad, and keeps notes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, SignalData]] = []
        self.fills: list[tuple[int, OrderSide]] = []

    def on_start(self) -> None:
        self.subscribe_quote_ticks(NVDA.id)
        self.subscribe_data(DataType(SignalData), client_id=CLIENT_ID)

    def on_data(self, data: SignalData) -> None:
        self.seen.append((self.clock.timestamp_ns(), data))
        if "NVDA" in data.tickers and abs(data.score) > 0.5:
            side = OrderSide.BUY if data.score > 0 else OrderSide.SELL
            self.submit_order(self.order_factory.market(NVDA.id, side, NVDA.make_qty(100)))

    def on_order_filled(self, event: Any) -> None:
        self.fills.append((event.ts_event, event.order_side))


@pytest.fixture
def engine() -> Iterator[BacktestEngine]:
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    engine.add_venue(Venue("XNAS"), OmsType.NETTING, AccountType.MARGIN, [Money(1_000_000, USD)], base_currency=USD)
    engine.add_instrument(NVDA)
    quotes = [
        QuoteTick(
            NVDA.id,
            NVDA.make_price(100.0 + second),
            NVDA.make_price(100.1 + second),
            NVDA.make_qty(1000),
            NVDA.make_qty(1000),
            (T0 + second * SECOND) * 1000,
            (T0 + second * SECOND) * 1000,
        )
        for second in range(60)
    ]
    engine.add_data(quotes)
    yield engine
    engine.dispose()


def test_a_backtest_acts_when_the_signal_could_be_known(engine: BacktestEngine) -> None:
    """Its clock stands at `available_us` when a signal comes, and no order is filled before."""
    latency_us = 250_000
    engine.add_data(backtest_data(Signals.replay(TAPE, latency=latency_us)), client_id=CLIENT_ID)
    follower = Follower()
    engine.add_strategy(follower)
    engine.run()
    expected = [signal.available_us * 1000 for signal in Signals.replay(TAPE, latency=latency_us)]
    assert [at_ns for at_ns, _ in follower.seen] == expected
    assert [data.ts_event for _, data in follower.seen] == [T0 * 1000] * 3
    assert [data.action for _, data in follower.seen] == ["new", "new", "retract"]
    assert [side for _, side in follower.fills] == [OrderSide.BUY, OrderSide.SELL]
    assert all(filled >= known for (filled, _), known in zip(follower.fills, expected, strict=False))


def test_a_retraction_trades_nothing_by_accident() -> None:
    """Its numbers are NaN: no threshold is passed."""
    data = signal_data(list(Signals.replay(TAPE))[-1])
    assert data.retracts and data.label == "" and math.isnan(data.score)
    assert not data.score > 0 and not data.score <= 0


def test_a_catalog_gives_back_what_was_written(tmp_path: Path) -> None:
    """Batch by batch, in nautilus' own files."""
    catalog = ParquetDataCatalog(str(tmp_path))
    assert write_catalog(catalog, Signals.replay(TAPE[:2]), batch=1) == 2
    kept = [each.data for each in catalog.custom_data(SignalData)]
    assert [SignalData.to_dict(data) for data in kept] == [
        SignalData.to_dict(signal_data(signal)) for signal in Signals.replay(TAPE[:2])
    ]


def test_an_event_never_lies_behind_its_availability() -> None:
    """A source whose clock runs ahead must not date a text into the future."""
    ahead: Signal = invented("1", T0 + 5 * SECOND)
    data = signal_data(next(Signals.replay([(ahead, T0)])))
    assert data.ts_event == data.ts_init == T0 * 1000


def test_an_odd_signal_ends_no_catalog(tmp_path: Path) -> None:
    """A revision beyond 64 bits is the largest there is, so that it still supersedes; the others are as they were."""
    tape = [
        (invented("1", T0), T0),
        (invented("2", T0, revision=2**63), T0 + 1),
        (invented("3", T0, revision=2**63 - 1, symbols=["A\0B"]), T0 + 2),
    ]
    catalog = ParquetDataCatalog(str(tmp_path))
    assert write_catalog(catalog, Signals.replay(tape)) == 3
    read = [data.data for data in catalog.custom_data(SignalData)]
    assert [data.revision for data in read] == [0, 2**63 - 1, 2**63 - 1]
    assert [data.item_key for data in read] == ["wire:1", "wire:2", "wire:3"]


def test_only_what_changes_an_item_arrives() -> None:
    """Not an old revision that comes late, a repeat, or a retraction of what was never said; and what stands again
    arrives again."""
    signals = [
        invented("a", T0, 0.5, offset=2, kind=RevisionKind.NONE),
        invented("a", T0, 0.9, revision=4, offset=3),
        invented("a", T0, 0.1, revision=5, offset=1),
        invented("a", T0, 0.9, revision=4, offset=3),
        invented("b", T0, action=SignalAction.RETRACT),
        invented("a", T0, revision=6, offset=4, action=SignalAction.RETRACT),
    ]
    tape = [(signal, T0 + number * SECOND) for number, signal in enumerate(signals)]
    data = [each.data for each in backtest_data(Signals.replay(tape))]
    assert [each.score for each in data[:-1]] == [0.5, 0.9, 0.5] and data[-1].retracts
    assert [each.ts_init for each in data] == [(T0 + number * SECOND) * 1000 for number in (0, 1, 2, 5)]
