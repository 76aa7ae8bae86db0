"""Availability of records, and the latency of signals. Pure; prevents look-ahead.

A record is available when the broker appended it. A back-dated topic carries its sender's time instead, and there the
item's own `ingested_us` counts. No text is available before its last edit: history that was edited afterwards is dated
by `updated_us`.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from earlybird.schemas.base import LATEST_US
from earlybird.schemas.framing import unframed
from earlybird.schemas.raw import Action
from earlybird.schemas.signal import Signal, SignalAction
from earlybird.stream.errors import SettingsError
from earlybird.stream.ports import Record
from earlybird.stream.timeline.instants import plausible_us

Rule = Literal["auto", "appended", "ingested"]
"""`appended`: the broker's time. `ingested`: the item's ingested_us. `auto`: for raw topics the broker's where it is an
append time, else ingested_us; for signals the broker's."""

QUANTILES = 1_000
AVAILABLE = "available-us"  # header of a replay's records
COMMITTED = "committed-us"
"""Header of records in transactions: when theirs is due, the earliest instant at which it is committed."""
_DIGITS = 16  # most digits of an instant until 2100
_TIMES = re.compile(rb'"(ingested_us|updated_us)"[ \t\r\n]*+:[ \t\r\n]*+(\d{15,16})(?!\d)')


class StampedRecord(NamedTuple):
    """A record, and whether its timestamp is the broker's append time.

    Otherwise the timestamp is whatever its sender set.
    """

    record: Record
    appended: bool


@dataclass(frozen=True, slots=True)
class DatedRecord:
    """A record with the instant from which it could be known."""

    record: Record
    at_us: int
    base_us: int  # `at_us` without edits; ascends in a partition, except for some slack
    edited: bool = False  # not an update, yet changed after its claimed availability
    assumed: bool = False  # the ingest time was assumed when the history was published
    signal: Signal | None = None  # the record's signal, where that dated it


TimesOf = Callable[[Record], list[dict[str, Any]] | None]
"""Function that returns the times of a record's items, None for a record of our own format."""


def date_raw(stamped: StampedRecord, rule: Rule, times_of: TimesOf = lambda _: None) -> DatedRecord:
    """Date a record of a raw topic; `times_of` knows the vendors' formats.

    A record that holds several items is available when the last of them is. One without any time in it gets the
    broker's.
    """
    record = stamped.record
    items = _items(record.value) if (times := times_of(record)) is None else times
    ingested = [at for item in items if (at := plausible_us(item.get("ingested_us"))) is not None]
    by_broker = rule == "appended" or (rule == "auto" and stamped.appended) or not ingested
    base_us = broker_us(record) if by_broker else max(ingested)
    edits = [(at, item) for item in items if (at := plausible_us(item.get("updated_us"))) is not None and at > base_us]
    return DatedRecord(
        record,
        max([base_us, *(at for at, _ in edits)]),
        base_us,
        any(item.get("action") not in (Action.UPDATE, Action.DELETE) for _, item in edits),
        any(item.get("ingested_origin") == "assumed" for item in items),
    )


def available_us(record: Record, signal: Signal, *, read_committed: bool = True) -> int:
    """Return when this signal could be known.

    That is once the broker had it, and not before its text's last edit. With `read_committed`, a signal in a
    transaction is not available before that is due.
    """
    at_us = appended_us(record) if read_committed else broker_us(record)
    return max(at_us or signal.ts.emitted_us, signal.ts.updated_us or 0)


def date_signal(record: Record, signal: Signal, rule: Rule) -> DatedRecord:
    """Date a record of the signals topic or of a replay's topic."""
    base_us = signal.ts.ingested_us if rule == "ingested" else appended_us(record) or signal.ts.emitted_us
    updated_us = signal.ts.updated_us or 0
    edited = updated_us > base_us and signal.action is SignalAction.NEW
    return DatedRecord(record, max(base_us, updated_us), base_us, edited, signal=signal)


def appended_us(record: Record) -> int | None:
    """Return when readers of committed records could have this signal; None without a time.

    That is the broker's append time or, in a transaction, when that was due to be committed: the commit itself leaves
    no record that a client can read. A replay's record carries the instant in a header, because Kafka would round it. A
    foreign header of these names may hold anything, and is ignored.
    """
    return _instant(record, AVAILABLE) or max(broker_us(record), _instant(record, COMMITTED)) or None


def _instant(record: Record, header: str) -> int:
    """Return the instant in a header; 0 without a plausible one."""
    for name, value in record.headers:
        if name == header:
            at_us = plausible_us(int(value)) if value and len(value) <= _DIGITS and value.isdigit() else None
            return at_us or 0
    return 0


def broker_us(record: Record) -> int:
    """Return the record's timestamp, limited to 1970 to 2100; 0: none.

    Its sender may have set it to anything.
    """
    return min(max(record.timestamp_us or 0, 0), LATEST_US)


class Latency(Protocol):
    """Delay from a text's availability until a strategy has the signal."""

    @property
    def spec(self) -> str:
        """Description for the manifest; equal descriptions mean equal latencies."""

    def of(self, signal_id: str) -> int:
        """Return microseconds, the same for one signal in every replay."""


@dataclass(frozen=True, slots=True)
class Constant:
    """The same latency for all signals."""

    us: int

    @property
    def spec(self) -> str:
        return f"{self.us}us"

    def of(self, signal_id: str) -> int:  # noqa: ARG002
        return self.us


@dataclass(frozen=True, slots=True)
class Empirical:
    """Latencies drawn from a live run's by a hash of the signal's id.

    A replay therefore repeats its own draws.
    """

    quantiles_us: tuple[int, ...]  # ascending

    @classmethod
    def measured(cls, latencies_us: Iterable[int]) -> "Empirical":
        """Build the distribution from observations; raises SettingsError where there are none."""
        ordered = sorted(max(0, latency) for latency in latencies_us)
        if not ordered:
            raise SettingsError("latency: empirical needs recorded signals, and there are none in this range")
        last = len(ordered) - 1
        return cls(tuple(ordered[round(step * last / QUANTILES)] for step in range(QUANTILES + 1)))

    @property
    def spec(self) -> str:
        middle, high = self.quantiles_us[QUANTILES // 2], self.quantiles_us[QUANTILES * 99 // 100]
        name = hashlib.sha256(repr(self.quantiles_us).encode()).hexdigest()[:16]
        return f"empirical:{name}:p50={middle}us:p99={high}us"

    def of(self, signal_id: str) -> int:
        draw = int.from_bytes(hashlib.sha256(signal_id.encode()).digest()[:8], "big")
        return self.quantiles_us[draw % len(self.quantiles_us)]


def stage_latency_us(record: Record, signal: Signal) -> int | None:
    """Return the live run's time from raw record to availability of the signal.

    None without a timestamp.
    """
    if record.timestamp_us is None:
        return None
    return max(record.timestamp_us, _instant(record, COMMITTED)) - signal.ts.consumed_us


def _items(value: bytes | None) -> list[dict[str, Any]]:
    """Return the JSON objects in a record.

    A record that is not JSON as a whole may be an array with one broken element, so the times in its bytes are returned
    instead. Times that belong to no item can only make it available later.
    """
    try:
        content = json.loads(unframed(value or b"null"))
    except (ValueError, RecursionError):
        return [{name.decode(): int(number)} for name, number in _TIMES.findall(value or b"")]
    return [item for item in (content if isinstance(content, list) else [content]) if isinstance(item, dict)]
