"""Signals for nautilus_trader: one data class for backtest, catalog and live.

Extra `nautilus`.

    engine.add_data(backtest_data(Signals.replay("archive/")), client_id=CLIENT_ID)   # a backtest
    write_catalog(catalog, Signals.replay("archive/"))                                # a data catalog
    node.add_data_client_factory("EARLYBIRD", SignalsClientFactory)                   # live, see SignalsClientConfig

    self.subscribe_data(DataType(SignalData), client_id=CLIENT_ID)                    # a strategy, in all three
    def on_data(self, data): ...                                                      # data is a SignalData

`ts_event` is the text's own time, `ts_init` the instant at which its signal could be known; nautilus' engine goes by
`ts_init`. Only changes of an item's state arrive: late old revisions, duplicates and retractions of unknown items are
left out (schemas.order), so the last data of an `item_key` is its current state.
"""

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from nautilus_trader.cache.cache import Cache
from nautilus_trader.common.component import LiveClock, MessageBus
from nautilus_trader.core.data import Data
from nautilus_trader.data.messages import SubscribeData, UnsubscribeData
from nautilus_trader.live.config import LiveDataClientConfig
from nautilus_trader.live.data_client import LiveDataClient
from nautilus_trader.live.factories import LiveDataClientFactory
from nautilus_trader.model.custom import customdataclass
from nautilus_trader.model.data import CustomData, DataType
from nautilus_trader.model.identifiers import ClientId
from nautilus_trader.persistence.catalog import ParquetDataCatalog

from earlybird.schemas.signal import SignalAction
from earlybird.stream.client import Latest, Received, Signals
from earlybird.stream.observability.logging import get_logger

log = get_logger(__name__)

CLIENT_ID = ClientId("EARLYBIRD")

_NAN = float("nan")
_LARGEST = 2**63 - 1  # largest integer of a catalog column


@customdataclass
class SignalData(Data):  # type: ignore[misc]
    """A signal as nautilus data.

    A retraction has an empty label and NaN for numbers, so that no comparison with them is true. `symbols` are joined
    by commas. A `revision` beyond 64 bits is the largest that fits.
    """

    signal_id: str
    item_key: str
    revision: int
    action: str
    source: str
    symbols: str
    label: str
    score: float
    confidence: float
    negative: float
    neutral: float
    positive: float
    exit_layer: int

    @property
    def tickers(self) -> tuple[str, ...]:
        """Names of the instruments."""
        return tuple(self.symbols.split(",")) if self.symbols else ()

    @property
    def retracts(self) -> bool:
        """Whether this retracts all earlier data of its item_key."""
        return self.action == SignalAction.RETRACT.value


_NOTHING = {"action": SignalAction.RETRACT, **dict.fromkeys(("label", "probs", "score", "confidence", "exit"))}
"""Fields that turn a signal into a retraction."""

SIGNAL_TYPE = DataType(SignalData)


def signal_data(signal: Received) -> SignalData:
    """Return one signal as nautilus data.

    `ts_init` is `available_us`; `ts_event` never lies after it, whatever the source's clock said.
    """
    probs = signal.probs
    return SignalData(
        ts_event=min(signal.event_us, signal.available_us) * 1000,
        ts_init=signal.available_us * 1000,
        signal_id=signal.signal_id,
        item_key=signal.item_key,
        revision=_fitting(signal, "revision", signal.revision),
        action=signal.action.value,
        source=signal.source,
        symbols=",".join(signal.tickers),
        label=signal.label.value if signal.label else "",
        score=_NAN if signal.score is None else signal.score,
        confidence=_NAN if signal.confidence is None else signal.confidence,
        negative=probs.negative if probs else _NAN,
        neutral=probs.neutral if probs else _NAN,
        positive=probs.positive if probs else _NAN,
        exit_layer=_fitting(signal, "exit_layer", signal.exit.layer) if signal.exit else 0,
    )


class Changes:
    """Turns signals into changes of items' states; not thread-safe."""

    def __init__(self) -> None:
        self._latest = Latest[Received]()

    def of(self, signal: Received) -> list[SignalData]:
        """Return what this signal changes: nothing, or its item's new state."""
        if not self._latest.update(signal):
            return []
        state = self._latest.get(signal.item_key)
        if state is None:
            return [signal_data(signal.model_copy(update=_NOTHING))]
        return [signal_data(Received.of(state, signal.available_us))]


def backtest_data(signals: Iterable[Received]) -> list[CustomData]:
    """Return data for BacktestEngine.add_data(..., client_id=CLIENT_ID)."""
    changes = Changes()
    return [CustomData(SIGNAL_TYPE, data) for signal in signals for data in changes.of(signal)]


def write_catalog(catalog: ParquetDataCatalog, signals: Iterable[Received], batch: int = 100_000) -> int:
    """Write signals to a nautilus catalog, one file per batch; return their number.

    Read them with `catalog.custom_data(SignalData)`, or by a BacktestDataConfig. Batches must not overlap in
    availability with what the catalog holds: nautilus refuses that with a ValueError.
    """
    written = 0
    for part in _batches(signals, batch):
        catalog.write_data(part)
        written += len(part)
    return written


class SignalsClientConfig(LiveDataClientConfig, frozen=True):  # type: ignore[misc,call-arg]
    """Configuration of the live client.

    `arguments`: any further arguments of Signals.live (`{"group": "desk-1"}`).
    """

    bootstrap_servers: str = "localhost:9092"
    arguments: dict[str, Any] = {}  # noqa: RUF012 (msgspec copies it)


class SignalsClient(LiveDataClient):  # type: ignore[misc]
    """Publishes live signals on nautilus' message bus, from the first subscription on."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        client_id: ClientId,
        msgbus: MessageBus,
        cache: Cache,
        clock: LiveClock,
        config: SignalsClientConfig,
    ) -> None:
        super().__init__(loop, client_id, None, msgbus, cache, clock, config)
        self._where = config
        self._signals: Signals | None = None
        self._pump: asyncio.Task[None] | None = None

    async def _connect(self) -> None:
        self._signals = await asyncio.to_thread(Signals.live, self._where.bootstrap_servers, **self._where.arguments)
        self._signals.on_health(lambda silence: self._log.warning(str(silence)))

    async def _disconnect(self) -> None:
        if self._signals is not None:
            await asyncio.to_thread(self._signals.close)
        if self._pump is not None:
            await self._pump
        self._signals = self._pump = None

    async def _subscribe(self, command: SubscribeData) -> None:
        if command.data_type.type is SignalData and self._pump is None:
            self._pump = self.create_task(self._read(), log_msg="signals")

    async def _unsubscribe(self, command: UnsubscribeData) -> None:
        """Keep reading, since others may still be subscribed.

        The message bus drops data without a subscriber.
        """

    async def _read(self) -> None:
        assert self._signals is not None, "subscribed before it was connected"
        changes = Changes()
        async for signal in self._signals:
            for data in changes.of(signal):
                self._handle_data(CustomData(SIGNAL_TYPE, data))


class SignalsClientFactory(LiveDataClientFactory):  # type: ignore[misc]
    """Client factory for TradingNode.add_data_client_factory."""

    @staticmethod
    def create(
        loop: asyncio.AbstractEventLoop,
        name: str,
        config: SignalsClientConfig,
        msgbus: MessageBus,
        cache: Cache,
        clock: LiveClock,
    ) -> SignalsClient:
        """Create a client with the arguments of the trading node."""
        return SignalsClient(loop, ClientId(name), msgbus, cache, clock, config)


def _fitting(signal: Received, column: str, value: int) -> int:
    if value <= _LARGEST:
        return value
    log.warning("column.values_left_out", column=column, item_key=signal.item_key, hint="the largest that fits instead")
    return _LARGEST


def _batches(signals: Iterable[Received], size: int) -> Iterator[list[SignalData]]:
    changes = Changes()
    remaining = (data for signal in signals for data in changes.of(signal))
    while part := list(islice(remaining, size)):
        yield part
