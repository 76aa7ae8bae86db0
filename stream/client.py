"""Signals for strategies: live from Kafka, and the same ones replayed for a backtest.

    with Signals.live("localhost:9092", symbols=["NVDA"], min_confidence=0.8) as signals:
        for signal in signals:
            print(signal.available_us, signal.label, signal.score)

    for signal in Signals.replay("archive/", start="2024-01-01", latency="250ms"):
        ...  # the same loop, and the same objects

In an event loop: `async with Signals.live(...) as signals: async for signal in signals: ...`.

Delivery is at least once: after a crash of the stage (unless its `delivery` is `exactly_once`) or of the strategy a
signal may come twice, with the same `signal_id` and raw position (`distinct=True` drops those). In a group a signal is
committed after it was handled: with `run` when its handlers have returned, in a loop of your own when the next one is
requested. `Latest` keeps the signal of each `item_key` that stands, whatever the order of arrival; the rule is in
schemas.order. `Windows` sums up the last minutes to days per symbol. The model reads whole texts, so all symbols of a
text share one score. Symbols may be written in any spelling (schemas.symbols).
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Literal, Self, Unpack

from earlybird.schemas.signal import Signal
from earlybird.stream.adapters.clock import SystemClock
from earlybird.stream.adapters.subscriber import Start, Subscriber
from earlybird.stream.config.client_options import KafkaEndpoint, KafkaOptions
from earlybird.stream.config.types import group_name
from earlybird.stream.ports import Clock
from earlybird.stream.replay.recorded import TopicRange
from earlybird.stream.subscription.buffer import Buffer, SlowReader
from earlybird.stream.subscription.delay import Latency, OutOfOrder
from earlybird.stream.subscription.iteration import Iteration, in_event_loop
from earlybird.stream.subscription.latest import Latest
from earlybird.stream.subscription.live import Freshness, Live, StaleSignal
from earlybird.stream.subscription.reader import Reader
from earlybird.stream.subscription.received import Received
from earlybird.stream.subscription.recorded_items import Archived, between
from earlybird.stream.subscription.recording import InSample, Recording, Speed
from earlybird.stream.subscription.selection import Filters, SignalFilter
from earlybird.stream.subscription.source import CaughtUp, Counts
from earlybird.stream.subscription.stage_monitor import Condition, HealthChange, HealthTimeouts, StageMonitor
from earlybird.stream.timeline.availability import Constant, Empirical
from earlybird.stream.timeline.instants import Duration, Instant, duration_us, instant_us
from earlybird.stream.views.windows import Windows

__all__ = [
    "CaughtUp",
    "Condition",
    "Constant",
    "Counts",
    "Empirical",
    "Filters",
    "HealthChange",
    "HealthTimeouts",
    "InSample",
    "Latest",
    "OutOfOrder",
    "Received",
    "Signal",
    "Signals",
    "StaleSignal",
    "TopicRange",
    "Windows",
]

MAX_AGE_US = 60_000_000
_PLACES: Mapping[object, Start] = {"now": "now", "beginning": "beginning"}


class Signals(Iteration):
    """Signals in the order in which a strategy may know them.

    Iterate with `for` or `async for`, on one thread (or task). Other events reach their handlers between two signals,
    on the iterating thread: changes of the stage's health `on_health` (logged without a handler), the end of catching
    up `on_live`.
    """

    @classmethod
    def live(
        cls,
        bootstrap_servers: str,
        *,
        topic: str = "signals",
        control_topic: str | None = "signals.control",
        start: Literal["now", "beginning"] | Instant = "now",
        group: str | None = None,
        max_age_us: int | Literal["default"] | None = "default",
        stale: Literal["skip", "raise"] = "skip",
        buffer: int = 10_000,
        slow_reader: SlowReader = "block",
        health_timeouts: HealthTimeouts | None = None,
        read_committed: bool = True,
        options: KafkaOptions | None = None,
        clock: Clock | None = None,
        **filters: Unpack[Filters],
    ) -> Self:
        """Read signals from Kafka as they appear, until `close`.

        A replay's topic may be read as well; then iteration ends with the replay. Give it `control_topic`
        "NAME.control", `max_age_us` None, as recorded instants are long past, and `health_timeouts`, as it sends no
        heartbeats. Without a `control_topic` the stage's condition stays UNKNOWN.

        `start`: "now", "beginning" or an instant. Without a `group` nothing is committed and every strategy sees
        everything: first the signals there from `start` on, in the broker's order of arrival, as in a replay, then
        (`on_live`, `caught_up`) new ones. In a group the members share the partitions and continue at the committed
        offsets; `start` applies where there are none. Stored signals then come partition by partition, in no order
        between partitions (`ordered` is False).

        `filters` (see stream.subscription.selection) are decided on headers; later signals on a delivered item pass
        them all, for the last `remember` item keys. A strategy that restarts names the item keys it still acts upon in
        `held`. `max_age_us`: older signals are skipped and counted, or raise StaleSignal; by default a minute when
        `start` is "now", else no limit. `slow_reader` decides what happens when `buffer` records wait for the strategy.
        `read_committed` False shows a stage's signals under exactly-once at their exit: those of aborted transactions,
        too, which come again. `options` are librdkafka's (TLS, SASL).

        Returns when reading has begun, and raises SourceError when no broker or topic is found within 10 s. Inside an
        event loop it returns at once: `async with`, `with` or the first signal waits, and raises. SourceError when
        reading can never go on; ValueError, TypeError and SettingsError for invalid arguments.
        """
        signal_filter, clock = SignalFilter.of(**filters), clock or SystemClock()
        if group is not None:
            group_name(group)
        begin = _PLACES.get(start) or instant_us(start, clock.now_us(), "start")
        if max_age_us == "default":
            max_age_us = MAX_AGE_US if start == "now" else None
        reading = partial(Subscriber, KafkaEndpoint(bootstrap_servers, options or {}), read_committed=read_committed)

        def signals(reader: Reader) -> Subscriber:
            return reading([topic], start=begin, group=group, revoked=reader.revoked, given_up=lambda: reader.stopping)

        def control(reader: Reader) -> Subscriber:  # without a group: each member needs all heartbeats
            assert control_topic is not None, "asked for without a topic. This is a bug."
            return reading([control_topic], start="now", given_up=lambda: reader.stopping)

        waiting, watch = Buffer(buffer, slow_reader), StageMonitor(health_timeouts or HealthTimeouts(), clock.now_us())
        reader = Reader(
            signals, control if control_topic else None, signal_filter, waiting, watch, clock, group=group is not None
        )
        freshness = Freshness(max_age_us, stale)
        feed = Live(reader, waiting, freshness, clock, signal_filter.passed, read_committed=read_committed)
        if not in_event_loop():
            feed.wait_open()
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
        latency: int | Duration | Latency = 0,
        **filters: Unpack[Filters],
    ) -> Self:
        """Replay recorded signals, each when it became available, with the same filters and objects.

        `recorded`: a file or folder that `earlybird archive` or `earlybird replay` wrote, a TopicRange, or any iterable
        of (signal, available_us) in the order of availability. `start` (included) to `end` (excluded), by availability.
        `latency` is what the strategy's own path adds: "250ms", microseconds, or a model of it (`Empirical.measured` of
        latencies measured live). `speed`: "max", or a multiple of the recorded speed. A model whose training data
        reaches into the recording, or has no known end, is logged as in-sample; `strict` refuses it.

        Filters are decided on the columns of files and the headers of topics, so excluded signals are never decoded.

        Raises while iterating: InSample as described; OutOfOrder for a recording that would show the future;
        StreamError for unreadable files and topics.
        """
        signal_filter, model, now_us = SignalFilter.of(**filters), _latency(latency), SystemClock().now_us()
        bounds = (("start", start), ("end", end))
        start_us, end_us = (None if at is None else instant_us(at, now_us, name) for name, at in bounds)
        if isinstance(recorded, str | Path):
            return cls(
                Recording(Archived(Path(recorded), start_us, end_us), signal_filter, model, speed, strict=strict)
            )
        if isinstance(recorded, TopicRange):
            recorded = recorded.signals(start_us, end_us, signal_filter.record_filter(), strict=strict)
        return cls(Recording(between(recorded, start_us, end_us), signal_filter, model, speed, strict=strict))


def _latency(given: int | Duration | Latency) -> Latency:
    if isinstance(given, str | timedelta):
        return Constant(duration_us(given, "latency"))
    if not isinstance(given, int):
        return given
    if given < 0:
        raise ValueError(f"latency: 0 or more microseconds, was {given}")
    return Constant(given)
