"""What a strategy imports: signals as they come, and the same signals again for a backtest.

    with Signals.live("localhost:9092", symbols=["NVDA"], min_confidence=0.8) as signals:
        for signal in signals:
            print(signal.available_us, signal.label, signal.score)

    for signal in Signals.replay("archive/", start="2024-01-01T00:00:00Z", latency=250_000):
        ...  # the same loop, and the same objects

Delivery is at least once: after a crash of the stage or of the strategy a signal may come twice, with the same
`signal_id` (`distinct=True` drops those). For one `item_key` the highest revision wins, a retraction last, whatever the
order of arrival: `Latest` keeps that. The model reads whole texts, so a score is shared by all symbols of its text.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from schemas.signal import Signal
from stream.adapters.clock import SystemClock
from stream.adapters.subscriber import Start, Subscriber
from stream.errors import SourceEnded
from stream.history.availability import Constant, Empirical
from stream.history.recorded import TopicRange
from stream.instants import Instant, instant_us
from stream.logs import get_logger
from stream.ports import Clock
from stream.subscription.batches import arrow_table
from stream.subscription.buffer import Buffer, SlowReader
from stream.subscription.delay import Latency, OutOfOrder
from stream.subscription.feed import Counts, Feed
from stream.subscription.latest import Latest
from stream.subscription.live import Freshness, Live, StaleSignal
from stream.subscription.received import Received
from stream.subscription.recording import InSample, Recording, Speed, between
from stream.subscription.selection import REMEMBERED, Gate, Selection
from stream.subscription.watch import Condition, Patience, Silence, Watch

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = [
    "Condition",
    "Constant",
    "Counts",
    "Empirical",
    "InSample",
    "Latest",
    "OutOfOrder",
    "Patience",
    "Received",
    "Signal",
    "Signals",
    "Silence",
    "StaleSignal",
    "TopicRange",
]

log = get_logger(__name__)

Handler = Callable[[Received], object]
SilenceHandler = Callable[[Silence], object]

_WAIT_S = 0.1
_PLACES: dict[Instant, Start] = {"now": "now", "beginning": "beginning"}
MAX_AGE_US = 60_000_000


class Signals(Iterator[Received], AsyncIterator[Received]):
    """Signals in the order in which a strategy may know them; `for` and `async for` go over the same ones.

    One thread (or task) iterates. A change of the stage's condition reaches `on_silence` handlers between two signals,
    on the iterating thread; without a handler it is logged.
    """

    def __init__(self, feed: Feed) -> None:
        """Use `live` or `replay`."""
        self._feed = feed
        self._handlers: list[Handler] = []
        self._silence_handlers: list[SilenceHandler] = []

    @classmethod
    def live(
        cls,
        bootstrap_servers: str,
        *,
        topic: str = "signals",
        control_topic: str | None = "signals.control",
        start: Literal["now", "beginning"] | Instant = "now",
        group: str | None = None,
        symbols: Collection[str] | None = None,
        labels: Collection[str] | None = None,
        min_confidence: float = 0.0,
        sources: Collection[str] | None = None,
        item_types: Collection[str] | None = None,
        single_symbol: bool = False,
        distinct: bool = False,
        held: Iterable[str] = (),
        remember: int = REMEMBERED,
        max_age_us: int | Literal["default"] | None = "default",
        stale: Literal["skip", "raise"] = "skip",
        buffer: int = 10_000,
        slow_reader: SlowReader = "block",
        patience: Patience | None = None,
        read_committed: bool = True,
        options: Mapping[str, str | int | float | bool] | None = None,
        clock: Clock | None = None,
    ) -> Self:
        """Signals from Kafka as they appear; it ends by `close`, or with the replay whose topic it reads (give it
        `control_topic` "NAME.control", `max_age_us` None, as recorded instants are long past, and `patience`: it sends
        no heartbeats).

        `start`: "now", "beginning" or an instant. Without a `group` nothing is committed and every strategy sees
        everything; in a group its members share the partitions, each goes on where the group stopped, and `start`
        counts where it never was. Commits follow delivery: a signal is done when the next one is asked for.

        Filters (see Selection) are decided on headers; what corrects or retracts an item that was delivered passes
        them all, for the last `remember` item keys. A strategy that restarts names the item keys it still acts upon in
        `held`. `max_age_us`: older signals are skipped and counted, or raise StaleSignal; by default a minute when
        `start` is "now", else no limit. `slow_reader` says what happens when `buffer` records wait for the strategy.
        `read_committed` False shows signals of open and aborted transactions. `options` are librdkafka's (TLS, SASL).

        Raises SourceError when no broker or topic is found within 10 s, or when reading can never go on; ValueError and
        SettingsError for arguments that cannot work.
        """
        selection = Selection.of(symbols, labels, min_confidence, sources, item_types, single_symbol)
        held, clock = tuple(held), clock or SystemClock()
        if max_age_us == "default":
            max_age_us = MAX_AGE_US if start == "now" else None
        feed = Live(
            Gate(selection, distinct=distinct, remember=remember, held=held),
            Buffer(buffer, slow_reader),
            Freshness(max_age_us, stale),
            Watch(patience or Patience(), clock.now_us()),
            clock,
            commits=group is not None,
            held=held,
        )
        begin = _PLACES.get(start) or instant_us(start, clock.now_us(), "start")
        reader = partial(Subscriber, bootstrap_servers, read_committed=read_committed, options=options)
        subscription = reader([topic], start=begin, group=group, revoked=feed.revoked)
        # Of every worker: heartbeats are not shared out.
        control = control_topic and reader([control_topic], start="now")
        feed.start(subscription, control or None)
        return cls(feed)

    @classmethod
    def replay(
        cls,
        recorded: str | Path | TopicRange | Iterable[tuple[Signal, int]],
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        speed: Speed = "max",
        strict: bool = False,
        latency: int | Latency = 0,
        symbols: Collection[str] | None = None,
        labels: Collection[str] | None = None,
        min_confidence: float = 0.0,
        sources: Collection[str] | None = None,
        item_types: Collection[str] | None = None,
        single_symbol: bool = False,
        distinct: bool = False,
        held: Iterable[str] = (),
        remember: int = REMEMBERED,
    ) -> Self:
        """Recorded signals again, each when it could have been known; the same filters, the same objects.

        `recorded`: a file or folder that `earlybird archive` or `earlybird replay` wrote, a TopicRange, or any iterable
        of (signal, available_us) in the order of availability. `start` (included) to `end` (excluded), by availability.
        `latency` is what the strategy's own path adds: microseconds, or a model of it (`Empirical.measured` of what a
        live run measured). `speed`: "max", or so many times as fast as it was. A model whose training data reaches into
        the recording, or nobody knows how far, is logged as in-sample; `strict` refuses it.

        While iterating: InSample as said; OutOfOrder for a recording that would show the future; StreamError for
        unreadable files and topics.
        """
        selection = Selection.of(symbols, labels, min_confidence, sources, item_types, single_symbol)
        gate = Gate(selection, distinct=distinct, remember=remember, held=held)
        model = Constant(latency) if isinstance(latency, int) else latency
        now_us = SystemClock().now_us()
        bounds = (("start", start), ("end", end))
        start_us, end_us = (None if at is None else instant_us(at, now_us, name) for name, at in bounds)
        if isinstance(recorded, TopicRange):
            recorded = recorded.signals(start_us, end_us)
        return cls(Recording(between(recorded, start_us, end_us), gate, model, speed, strict=strict))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Received:
        try:
            while (received := self._taken()) is None:
                self._feed.wait(_WAIT_S)
        except SourceEnded:
            raise StopIteration from None
        return received

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Received:
        try:  # only the waiting leaves the event loop: a task that is cancelled meanwhile loses no signal
            while (received := self._taken()) is None:
                await asyncio.to_thread(self._feed.wait, _WAIT_S)
        except SourceEnded:
            raise StopAsyncIteration from None
        return received

    def on(self, handler: Handler) -> Self:
        """Call this with every signal, in `run`."""
        self._handlers.append(handler)
        return self

    def on_silence(self, handler: SilenceHandler) -> Self:
        """Call this when the stage goes quiet, lags, stops or dies, and when it is well again."""
        self._silence_handlers.append(handler)
        return self

    def run(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Hand every signal to the handlers until the end, or until `stop()` (asked ten times a second; an Event's
        `is_set`, say). A signal is done when its handlers have returned; what they raise ends the run."""
        with suppress(SourceEnded):
            while not stop():
                received = self._taken()
                if received is None:
                    self._feed.wait(_WAIT_S)
                    continue
                for handler in self._handlers:
                    handler(received)
                self._feed.done()

    def to_arrow(self, n: int, timeout_s: float | None = None) -> "pa.Table":
        """The next `n` signals as a table, one row each (columns: stream.subscription.batches); fewer at the end or
        when `timeout_s` is over."""
        return arrow_table(list(islice(self._until(timeout_s), n)))

    def to_pandas(self, n: int, timeout_s: float | None = None) -> "pd.DataFrame":
        """The same as a DataFrame, indexed by the instant of availability in UTC."""
        table = self.to_arrow(n, timeout_s)
        frame: pd.DataFrame = table.to_pandas()
        return frame.set_index(frame["available_us"].rename("available"))

    @property
    def counts(self) -> Counts:
        """What became of the records so far."""
        return self._feed.counts()

    @property
    def condition(self) -> Condition:
        """Of the stage, as its heartbeats tell."""
        return self._feed.condition()

    @property
    def latencies_us(self) -> list[int]:
        """From the broker's append to this strategy, of the last 10,000 signals of a live run."""
        return self._feed.latencies_us()

    def close(self) -> None:
        """End the iteration, from any thread. In a group, commits what is done."""
        self._feed.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _taken(self) -> Received | None:
        while self._feed.events:
            silence = self._feed.events.popleft()
            for handler in self._silence_handlers:
                handler(silence)
            if not self._silence_handlers:
                log.warning("stage.condition", condition=silence.condition.value, text=str(silence))
        return self._feed.take()

    def _until(self, timeout_s: float | None) -> Iterator[Received]:
        deadline = None if timeout_s is None else monotonic() + timeout_s
        with suppress(SourceEnded):
            while True:
                received = self._taken()
                if received is not None:
                    yield received
                elif deadline is not None and monotonic() > deadline:
                    return
                else:
                    self._feed.wait(_WAIT_S)
