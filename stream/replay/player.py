"""Replays history: signals as published, or raw texts through the same stage again.

    recorded:   signals ----------------------------------> date -> order -> pace -> output
    recompute:  raw -> date -> merge -> [the live stage] -> date -> order -> pace -> output

A recomputation may choose its model.
"""

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import structlog

from earlybird.schemas.base import LATEST_US
from earlybird.schemas.codec import DecodeError, decode
from earlybird.schemas.rejection import Rejection
from earlybird.schemas.signal import Signal
from earlybird.stream.errors import SettingsError
from earlybird.stream.ports import Partition, Record
from earlybird.stream.replay.outputs import Output, ReplaySummary
from earlybird.stream.replay.recorded import readable, recorded
from earlybird.stream.stage.deadlines import RecordedLateness
from earlybird.stream.timeline.availability import (
    DatedRecord,
    Empirical,
    Latency,
    Rule,
    StampedRecord,
    TimesOf,
    date_raw,
    stage_latency_us,
)
from earlybird.stream.timeline.knowledge import InSampleCheck
from earlybird.stream.timeline.merge import Begin, History, MergedRecord, Pace, Reorder, Span, Window, merge
from earlybird.stream.timeline.novelty import LIVE_US, NoveltyView

log = structlog.get_logger(__name__)

Spans = dict[Partition, Span]


@dataclass(frozen=True, slots=True)
class Plan:
    """The scope of a replay, frozen at the start and reused by `--resume`."""

    mode: Literal["recorded", "recompute"]
    run_id: str
    source: str  # brokers, or the archive's folder
    window: Window
    spans: Spans  # the offsets that are played
    record: Spans  # the live stage's signals: for comparison, latency and deadlines
    rule: Rule
    latency: str
    order: Literal["available", "event"]
    rejected: Spans = field(default_factory=dict)  # its dead letters: to repeat what it shed
    cut: Mapping[Partition, Begin] = field(default_factory=dict)  # partitions whose first records are missing

    def content(self) -> dict[str, Any]:
        """Return the plan as JSON, for the manifest and for `read_plan`."""
        return {
            "mode": self.mode,
            "run_id": self.run_id,
            "source": self.source,
            "start_us": self.window.start_us,
            "end_us": self.window.end_us,
            "slack_us": self.window.slack_us,
            "seek": self.window.seek,
            "spans": _named(self.spans),
            "record": _named(self.record),
            "rejected": _named(self.rejected),
            "cut": _named(self.cut),
            "availability": self.rule,
            "latency": self.latency,
            "order": self.order,
        }


def read_plan(path: Path) -> Plan:
    """Read a plan that `Plan.content` produced; raises SettingsError."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        window = Window(fields["start_us"], fields["end_us"], fields["slack_us"], fields["seek"])
        return Plan(
            fields["mode"], fields["run_id"], fields["source"], window, _spans(fields["spans"]),
            _spans(fields["record"]), fields["availability"], fields["latency"], fields["order"],
            _spans(fields.get("rejected", {})),
            {place: Begin(*begin) for place, begin in _spans(fields.get("cut", {})).items()},
        )  # fmt: skip
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SettingsError(f"{path}: nothing to resume ({error})") from None


@dataclass(frozen=True, slots=True)
class _Row:
    """One outgoing message, with the instant from which it could be known."""

    message: Signal | Rejection
    available_us: int
    known_us: int  # when its raw text was available
    text_key: str = ""


@dataclass
class Player:
    """The last stage of every replay: dates, orders, paces, writes and counts."""

    plan: Plan
    output: Output
    latency: Latency
    pace: Pace
    strict: bool = False
    recomputed: Callable[[Signal, str], Signal] | None = None  # sets novelty in the order of availability
    progress: Callable[[int], None] = lambda _: None
    summary: ReplaySummary = field(default_factory=ReplaySummary)
    edited: int = 0
    assumed: int = 0
    behind: int = 0  # recorded signals that came more than an hour after their text
    latencies_us: "array[int]" = field(default_factory=lambda: array("q"))  # the live stage's, as far as recorded
    rejected: Callable[[Rejection], None] = lambda _: None

    def __post_init__(self) -> None:
        by_event = self.plan.order == "event"
        self.in_sample = InSampleCheck(_refused if self.strict else None)
        start_us = self.plan.window.start_us
        delay_us = 0 if self.plan.rule == "ingested" else LIVE_US
        self.novelty = NoveltyView(None if start_us is None else start_us - delay_us)
        self._order: Reorder[_Row] = Reorder(None if by_event else self.plan.window.slack_us)

    def note(self, dated: DatedRecord) -> None:
        """Note a replayed record.

        Raises SettingsError where a strict replay meets edited history.
        """
        self.assumed += dated.assumed
        if dated.edited:
            self.edited += 1
            if self.strict:
                raise SettingsError(f"{_place(dated)}: its text was edited after it was available; --strict refuses")

    def measure(self, record: Record, signal: Signal) -> None:
        """Note the live stage's latency for a recorded signal."""
        latency_us = stage_latency_us(record, signal)
        if latency_us is not None and abs(latency_us) < LATEST_US:
            self.latencies_us.append(max(0, latency_us))

    def take(self, reached: MergedRecord, index: int, message: Signal | Rejection, text_key: str = "") -> None:
        """Take one message of a noted record; `index` distinguishes messages of one record."""
        dated = reached.dated
        delay_us = self.latency.of(message.signal_id) if isinstance(message, Signal) else 0
        row = _Row(message, dated.at_us + delay_us, dated.at_us, text_key)
        if isinstance(message, Signal):
            self.in_sample.check(message, row.available_us)
        by_event = self.plan.order == "event" and isinstance(message, Signal)
        at_us = _event_us(message) if by_event and isinstance(message, Signal) else row.available_us
        record = dated.record
        key = (record.topic, record.partition, record.offset, index)
        self._write(self._order.push(reached.us, at_us, key, row))

    def finish(self) -> None:
        """Write everything that is still held; no more will come."""
        self._write(self._order.rest())

    def _write(self, rows: Iterable[tuple[int, _Row]]) -> None:
        for at_us, row in rows:
            self.pace.until(at_us)
            self.progress(at_us)
            if isinstance(row.message, Rejection):
                self.summary.rejection(row.message)
                self.rejected(row.message.model_copy(update={"rejected_us": row.available_us}))
                continue
            signal = self._signal(row, row.message)
            self.summary.signal(signal, row.available_us)
            self.output.signal(signal, row.available_us)

    def _signal(self, row: _Row, signal: Signal) -> Signal:
        if self.recomputed is None:
            return self.novelty.of(signal, row.available_us).model_copy(update={"run_id": self.plan.run_id})
        times = signal.ts.model_copy(
            update={
                "consumed_us": row.known_us,
                "engine_in_us": None,
                "exited_us": None,
                "emitted_us": row.available_us,
            }
        )
        return self.recomputed(signal, row.text_key).model_copy(update={"ts": times})


def play_recorded(plan: Plan, history: History, player: Player) -> None:
    """Replay published signals, each with this run's id.

    Raises SourceError, SettingsError.
    """
    for reached, signal in recorded(history, plan.spans, plan.window, plan.rule):
        player.note(reached.dated)
        player.behind += reached.dated.base_us - signal.ts.ingested_us > LIVE_US
        player.measure(reached.dated.record, signal)
        player.take(reached, 0, signal)
    player.finish()
    if player.behind:
        hint = "history that was fed later? --available ingested dates signals by their texts"
        log.warning("replay.behind", signals=player.behind, hint=hint)
    if taken_back := player.novelty.taken_back:
        log.info("replay.novelty_taken_back", signals=taken_back, hint="their first was not yet available")


def raw_history(plan: Plan, history: History, times_of: TimesOf) -> Iterator[MergedRecord]:
    """Yield the raw records of a plan in merged order; `times_of` knows the vendors' formats."""
    partitions = history.read(plan.spans, plan.window)
    return merge([(date_raw(stamped, plan.rule, times_of) for stamped in rows) for rows in partitions], plan.window)


def recorded_signals(plan: Plan, history: History) -> Iterator[tuple[StampedRecord, Signal]]:
    """Yield every signal of the record that a recomputation is compared with."""
    for rows in history.read(plan.record, Window()):
        yield from readable(rows)


def recorded_lateness(
    plan: Plan, history: History, each: Callable[[Record, Signal], None], rungs: Sequence[str] = ()
) -> RecordedLateness:
    """Return the recorded decisions of the live stage's clock and queue.

    `each` gets every signal of the record. `rungs`: of this run's policy, if it follows the load.
    """
    lateness = RecordedLateness(tuple(rungs))
    for stamped in chain.from_iterable(history.read(plan.rejected, Window())):
        value = stamped.record.value or b""
        if b'"shed"' in value:  # decoding takes a hundred times as long, and most were not shed
            with suppress(DecodeError):
                lateness.note_rejection(decode(Rejection, value))
    for stamped, signal in recorded_signals(plan, history):
        lateness.note_signal(signal)
        each(stamped.record, signal)
    return lateness


def measured_latency(plan: Plan, history: History) -> Empirical:
    """Return the latencies of the live run's own signals.

    Raises SettingsError where there are none.
    """
    found = (stage_latency_us(stamped.record, signal) for stamped, signal in recorded_signals(plan, history))
    return Empirical.measured(latency for latency in found if latency is not None)


def _refused(reason: str) -> SettingsError:
    return SettingsError(f"in-sample: {reason}; --strict refuses")


def _event_us(signal: Signal) -> int:
    return signal.ts.updated_us or signal.ts.published_us or signal.ts.ingested_us


def _place(dated: DatedRecord) -> str:
    return f"{dated.record.topic}/{dated.record.partition}@{dated.record.offset}"


def _named(spans: Mapping[Partition, tuple[int, int | None]]) -> dict[str, list[int | None]]:
    return {f"{partition.topic}/{partition.number}": list(span) for partition, span in spans.items()}


def _spans(named: dict[str, list[int]]) -> Spans:
    spans = {}
    for name, (start, end) in named.items():
        topic, _, number = name.rpartition("/")
        spans[Partition(topic, int(number))] = Span(start, end)
    return spans
