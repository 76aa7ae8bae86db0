"""The Faust app behind the views: signals to items to symbols.

`signals` is keyed by item, a view by symbol: the first agent sends every item to the partitions of the symbols that any
of its signals names, the second keeps them there. All rows are sets of signals (stream.views.rows), so an event that is
processed twice, or late by a worker that was paused, changes nothing. An event is acknowledged when the broker has what
it led to, in order, so that a crash at any point loses nothing.

Faust gives the group, the assignment and the restoring of tables. Tables are plain and keys raw: no Faust windows,
whose values cannot be taken back; and Faust's own routing of keys would hash a key in its JSON form.
"""

import asyncio
import io
import logging
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import faust
import structlog
from aiokafka.partitioner import murmur2
from faust.stores.memory import Store

from earlybird.schemas.codec import DecodeError, decode, encode
from earlybird.schemas.signal import Signal
from earlybird.stream.adapters.clock import SystemClock
from earlybird.stream.adapters.faust_changes import committed, lose_nothing, pass_gap, watch_heartbeats
from earlybird.stream.adapters.faust_options import broker_urls, credentials
from earlybird.stream.adapters.framed_values import SignalValues
from earlybird.stream.config.settings import Settings
from earlybird.stream.ports import Record
from earlybird.stream.timeline.availability import available_us
from earlybird.stream.views.acks import Acks, Continuity
from earlybird.stream.views.answers import sentiment
from earlybird.stream.views.mention import Mention
from earlybird.stream.views.rows import Rows, decode_item, encode_item, row_key
from earlybird.stream.views.state import State
from earlybird.stream.views.topics import ITEMS, SYMBOLS, by_symbol, changelog
from earlybird.stream.views.windows import KEPT_US

log = structlog.get_logger(__name__)

_PRUNE_S = 60.0
_HEARTBEATS = 6  # per session timeout


def partition_of(key: bytes, partitions: int) -> int:
    """Return a key's partition as librdkafka's murmur2 and Java clients choose it."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def build(settings: Settings, state: State) -> Any:
    """Return the app; it fills `state` while it runs."""
    views = settings.views
    session_s = views.session_timeout_ms / 1000
    app: Any = faust.App(
        views.group,
        broker=broker_urls(settings.kafka.bootstrap_servers),
        broker_credentials=credentials(settings.kafka.options),
        broker_client_id="earlybird-views",
        broker_session_timeout=session_s,
        broker_heartbeat_interval=session_s / _HEARTBEATS,
        broker_commit_interval=0.5,
        canonical_url=state.url,
        consumer_auto_offset_reset="earliest",
        datadir=tempfile.mkdtemp(prefix="earlybird-views-"),
        key_serializer="raw",
        value_serializer="raw",
        store="memory://",
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )
    watch_heartbeats(state.lease.now_s, state.lease.renew)
    lose_nothing()
    Topology(app, settings, state).declare()
    return app


class Topology:
    """Agents, tables and timers of one app. Event loop only."""

    def __init__(self, app: Any, settings: Settings, state: State) -> None:
        self._app, self._settings, self._state, self._clock = app, settings, state, SystemClock()
        self._values = SignalValues.of(settings.kafka.endpoint, lambda: bool(app.should_stop))
        self._continuity = Continuity()
        self._fan_out_acks, self._gather_acks = Acks(self._failed), Acks(self._failed)
        raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
        views = settings.views
        self._signals = app.topic(settings.topics.signals, **raw)
        self._by_symbol = app.topic(by_symbol(views), **raw, internal=True, partitions=state.partitions)
        self._view = app.topic(views.topic, **raw, internal=True, partitions=state.partitions)
        self._tables = {
            name: _table(app, name, rows, state.partitions)
            for name, rows in ((ITEMS, state.items), (SYMBOLS, state.symbols))
        }

    def declare(self) -> None:
        """Add agents, timers and listeners to the app."""
        app, state = self._app, self._state
        app.agent(self._signals, name="fan-out", concurrency=1)(self._fan_out)
        app.agent(self._by_symbol, name="gather", concurrency=1)(self._gather)
        app.timer(self._settings.views.emit_interval_ms / 1000)(self._emit)
        app.timer(_PRUNE_S)(self._prune)
        app.on_partitions_revoked.connect(self._revoked)
        app.on_partitions_assigned.connect(self._assigned)
        state.settled = lambda: bool(app.tables.actives_ready) and not app.rebalancing
        state.owners = self._owners
        state.behind = self._behind

    async def _fan_out(self, stream: Any) -> None:
        await self._consume(stream, self._sent_to_symbols, self._fan_out_acks)

    async def _consume(self, stream: Any, led_to: Callable[[Any], Awaitable[list[Any]]], acks: Acks) -> None:
        """Process events one by one; a fault of ours ends the process."""
        async for event in stream.noack().events():
            try:
                if not await self._in_turn(event.message):
                    continue
                deliveries = await led_to(event.message)
            except Exception as error:
                self._failed(error)
                return
            acks.add(event, deliveries)

    async def _in_turn(self, message: Any) -> bool:
        """Return whether an event is due; else read what is missing."""
        place, watch, consumer = message.tp, self._continuity, self._app.consumer
        begin = None if watch.knows(place) else await committed(consumer, place)
        due = watch.due(place)
        verdict = watch.judge(place, message.offset, begin)
        if verdict == "own_gap":
            pass_gap(consumer, place, due, message.offset)
        if verdict in ("process", "own_gap"):
            return True
        due = watch.due(place)
        if verdict == "gap":
            self._state.counters.read_again += 1
            log.info("views.read_again", place=f"{place.topic}/{place.partition}@{due}", came=message.offset)
        await consumer.seek(place, due)  # each time: a rebalance may drop again what was sought
        return False

    async def _sent_to_symbols(self, message: Any) -> list[Any]:
        record = _record(message)
        state = self._state
        if record.value is None:
            return []
        if record.value[:1] != b"{":  # in a frame: a schema registry may have to be asked, and waited for
            record = await asyncio.to_thread(self._values.plain, record)
        try:
            signal = decode(Signal, record.value or b"")
        except DecodeError as error:
            state.counters.unreadable += 1
            log.warning("signal.unreadable", place=f"{record.topic}/{record.partition}@{record.offset}", why=str(error))
            return []
        state.counters.signals += 1
        mention = Mention.of(signal, available_us(record, signal))
        if mention.available_us <= self._clock.now_us() - KEPT_US:
            return []
        history = state.items.add(record.partition, signal.item_key, mention)
        row = encode_item(signal.item_key, history.mentions)
        key = signal.item_key.encode()
        deliveries = [await self._write(ITEMS, record.partition, key, row)]
        for symbol in sorted(history.symbols):
            place = partition_of(symbol.encode(), state.partitions)
            deliveries.append(await self._by_symbol.send(key=symbol.encode(), value=row, partition=place))
        return deliveries

    async def _gather(self, stream: Any) -> None:
        await self._consume(stream, self._applied, self._gather_acks)

    async def _applied(self, message: Any) -> list[Any]:
        """Apply an item to its symbol; return the delivery of its row."""
        try:
            symbol, item = message.key.decode(), decode_item(message.value or b"")
        except (DecodeError, AttributeError, UnicodeDecodeError) as error:
            self._state.counters.unreadable += 1
            log.warning(
                "item.unreadable", place=f"{message.topic}/{message.partition}@{message.offset}", why=str(error)
            )
            return []
        self._state.counters.items += 1
        history = self._state.symbols.add(message.partition, symbol, item)
        if history is None:
            self._state.counters.unchanged += 1
            return []
        key = row_key(symbol, item.item_key)
        row = encode_item(item.item_key, history.mentions)
        return [await self._write(SYMBOLS, message.partition, key, row)]

    async def _emit(self) -> None:
        """Publish the symbols whose windows changed."""
        now_us, state = self._clock.now_us(), self._state
        for number, shard in state.shards().items():
            known = set(shard.symbols())
            for symbol in shard.due(now_us):
                told = encode(sentiment(shard, symbol, now_us, state.half_life_us)) if symbol in known else None
                delivery = await self._view.send(key=symbol.encode(), value=told, partition=number)
                delivery.add_done_callback(self._emitted)

    async def _prune(self) -> None:
        if self._state.waiting:
            return
        for name, outdated in zip((ITEMS, SYMBOLS), self._state.prune(self._clock.now_us()), strict=True):
            for partition, keys in outdated.items():
                for key in keys:
                    (await self._write(name, partition, key, None)).add_done_callback(self._check)

    async def _write(self, table: str, partition: int, key: bytes, row: bytes | None) -> Any:
        return await self._tables[table].changelog_topic.send(key=key, value=row, partition=partition)

    async def _revoked(self, *_: Any, **__: Any) -> None:
        self._state.owned = frozenset()

    async def _assigned(self, _app: Any, assigned: Iterable[Any], **_: Any) -> None:
        self._state.counters.rebalances += 1
        name = self._by_symbol.get_topic_name()
        self._continuity.keep(set(assigned))
        self._state.owned = frozenset(place.partition for place in assigned if place.topic == name)
        log.info("views.assigned", partitions=sorted(self._state.owned))

    def _owners(self) -> Mapping[int, str]:
        name = changelog(self._settings.views, SYMBOLS)
        told: Mapping[str, Mapping[str, Iterable[int]]] = self._app.assignor.changelog_distribution
        return {number: url for url, topics in told.items() for number in topics.get(name, ())}

    def _behind(self, partition: int) -> int | None:
        place = faust.types.TP(self._by_symbol.get_topic_name(), partition)
        end, read = self._app.consumer.highwater(place), self._app.consumer._read_offset.get(place)
        return None if end is None or read is None else max(0, end - read - 1)

    def _emitted(self, delivery: Any) -> None:
        self._state.counters.emitted += 1
        self._check(delivery)

    def _check(self, delivery: Any) -> None:
        if not delivery.cancelled() and delivery.exception() is not None:
            self._failed(delivery.exception())

    def _failed(self, error: BaseException) -> None:
        """End the process: what was not delivered is done again by the next one."""
        log.error("views.failed", reason=f"{type(error).__name__}: {error}")
        self._app._crash(error)


class _RowStore(Store):  # type: ignore[misc, type-arg, unused-ignore]
    """A table's store that hands each record of its changelog to Rows, with its partition."""

    rows: Rows

    def apply_changelog_batch(self, batch: Any, to_key: Any, to_value: Any) -> None:  # noqa: ARG002
        for event in batch:
            message = event.message
            try:
                self.rows.restore(message.partition, message.key, message.value)
            except (DecodeError, UnicodeDecodeError) as error:
                place = f"{message.topic}/{message.partition}@{message.offset}"
                log.warning("row.unreadable", place=place, why=str(error))

    async def on_rebalance(self, assigned: Any, revoked: Any, newly_assigned: Any, generation_id: int = 0) -> None:  # noqa: ARG002
        name = self.table.changelog_topic.get_topic_name()
        for place in revoked:
            if place.topic == name:
                self.rows.drop(place.partition)

    async def on_recovery_completed(self, active_tps: Any, standby_tps: Any) -> None:
        """Keep all: `on_rebalance` has dropped what moved away."""


def _table(app: Any, name: str, rows: Rows, partitions: int) -> Any:
    table = app.Table(name, partitions=partitions, key_type=bytes, value_type=bytes)
    store: Any = table.data
    made = _RowStore(store.url, app, table, key_type=bytes, value_type=bytes)
    made.rows = rows
    table._data = made
    return table


def _record(message: Any) -> Record:
    stamp_us = None if message.timestamp is None else round(message.timestamp * 1000) * 1000
    headers = tuple((name, value) for name, value in dict(message.headers or {}).items())
    return Record(message.topic, message.partition, message.offset, message.key, message.value, stamp_us, headers)


def run(app: Any) -> None:
    """Run the app until SIGTERM or SIGINT; raises SystemExit."""
    logging.getLogger("faust").setLevel(logging.WARNING)
    silent = io.StringIO()  # for Faust's banner and spinner
    worker = faust.Worker(app, loglevel="warning", quiet=True, redirect_stdouts=False, stdout=silent)
    worker.execute_from_commandline()
