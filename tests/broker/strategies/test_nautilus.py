"""Live signals in nautilus_trader's own node, from a broker."""

import asyncio
from typing import Any

import pytest

from earlybird.schemas.codec import encode
from earlybird.schemas.signal import Signal
from earlybird.stream.adapters.embedded import EmbeddedBroker
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.ports import Outgoing
from earlybird.stream.strategies.invented import invented

pytest.importorskip("nautilus_trader", reason="NO NAUTILUS: pip install -e '.[nautilus]' (glibc 2.35)")

from nautilus_trader.config import LoggingConfig, TradingNodeConfig
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.data import DataType
from nautilus_trader.trading.strategy import Strategy

from earlybird.stream.strategies.nautilus import CLIENT_ID, SignalData, SignalsClientConfig, SignalsClientFactory

T0 = 1_700_000_000_000_000
TEXTS: list[Signal] = [invented("1", T0, 0.9), invented("2", T0, -0.4, symbols=["AMD", "NVDA"])]


class Listener(Strategy):  # type: ignore[misc]
    """Collects what it is told, as it would in a backtest."""

    def __init__(self, enough: asyncio.Event) -> None:
        super().__init__()
        self.seen: list[SignalData] = []
        self._enough = enough

    def on_start(self) -> None:
        self.subscribe_data(DataType(SignalData), client_id=CLIENT_ID)

    def on_data(self, data: SignalData) -> None:
        self.seen.append(data)
        if len(self.seen) == len(TEXTS):
            self._enough.set()


def test_a_node_gets_the_signals_of_a_broker() -> None:
    """Through nautilus' message bus, by the same subscription as in a backtest; and it stops cleanly."""

    async def run(address: str) -> list[SignalData]:
        enough = asyncio.Event()
        arguments: dict[str, Any] = {"start": "beginning", "control_topic": None}
        config = TradingNodeConfig(
            logging=LoggingConfig(log_level="ERROR"),
            data_clients={"EARLYBIRD": SignalsClientConfig(bootstrap_servers=address, arguments=arguments)},
            timeout_connection=20.0,
            timeout_disconnection=5.0,
            timeout_post_stop=0.1,
        )
        node = TradingNode(config, loop=asyncio.get_running_loop())
        node.add_data_client_factory("EARLYBIRD", SignalsClientFactory)
        listener = Listener(enough)
        node.trader.add_strategy(listener)
        node.build()
        running = asyncio.create_task(node.run_async())
        try:
            await asyncio.wait_for(enough.wait(), 60)
        finally:
            await node.stop_async()
            running.cancel()
        return listener.seen

    with EmbeddedBroker({"signals": 1}) as broker:
        sink = KafkaSink(broker.bootstrap_servers)
        for signal in TEXTS:
            sink.send(Outgoing("signals", signal.item_key.encode(), encode(signal)), receipt=signal)
        while sink.unacknowledged():
            sink.receipts(50)
        sink.close()
        seen = asyncio.run(run(broker.bootstrap_servers))
    assert [(data.item_key, data.score, data.symbols) for data in seen] == [
        ("wire:1", 0.9, "NVDA"),
        ("wire:2", -0.4, "AMD,NVDA"),
    ]
    assert all(data.ts_init > data.ts_event for data in seen)
