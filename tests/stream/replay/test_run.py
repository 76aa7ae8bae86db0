"""History played again: the same signals, at the instants at which they were known, whatever the machine does."""

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from structlog.testing import capture_logs

from archived_signals import read_signals
from collector import collecting
from earlybird.engine.engine import Engine
from earlybird.schemas.codec import decode, encode
from earlybird.schemas.control import Heartbeat
from earlybird.schemas.rejection import Rejection
from earlybird.schemas.signal import ExitReason, Novelty, Signal
from earlybird.stream import service
from earlybird.stream.adapters.memory import MemoryCache, MemorySink, MemorySource
from earlybird.stream.archive.reader import ArchiveHistory
from earlybird.stream.archive.writer import Archiver
from earlybird.stream.commands.replay import summary
from earlybird.stream.config import settings as settings_module
from earlybird.stream.config.settings import Settings
from earlybird.stream.config.topics import RawTopic
from earlybird.stream.config.traces import trace_exporters
from earlybird.stream.errors import SettingsError, SourceError
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.ports import Commit, Outgoing, Partition, Position, Record
from earlybird.stream.replay.outputs import TopicOutput
from earlybird.stream.replay.recompute import DuplicateTimeline, HistorySource, ReplayedOutcome
from earlybird.stream.replay.recorded import in_order
from earlybird.stream.replay.run import Options, plan_of, run_replay
from earlybird.stream.stage.stage import Stage
from earlybird.stream.timeline.availability import Constant, Empirical, Rule, StampedRecord, date_raw
from earlybird.stream.timeline.knowledge import in_sample
from earlybird.stream.timeline.merge import Begin, Pace, Reorder, Span, Window, merge, parse_bounds

pytest.importorskip("pyarrow")

NOW_US = 1_770_000_000_000_000
SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
YEAR_2015_US = 1_420_070_400_000_000


@pytest.fixture(scope="module", autouse=True)
def _engines_are_loaded_once() -> Iterator[None]:
    """The real ones; two dozen replays would load two dozen."""
    load, loaded = service.load_engine, {}

    def once(settings: Settings) -> Engine:
        key = settings.engine.model_dump_json(exclude={"threads"}), settings.model, settings.policy
        if key not in loaded:
            loaded[key] = load(settings)
        return loaded[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "load_engine", once)
        yield


class MemoryHistory:
    """A History in lists."""

    def __init__(self, records: Iterable[StampedRecord]) -> None:
        self._logs: dict[Partition, list[StampedRecord]] = {}
        for stamped in records:
            place = Partition(stamped.record.topic, stamped.record.partition)
            self._logs.setdefault(place, []).append(stamped)

    def spans(self, topics: Iterable[str], window: Window) -> dict[Partition, Span]:
        wanted = set(topics)
        return {
            place: window.clip(place, Span(log[0].record.offset, log[-1].record.offset + 1))
            for place, log in sorted(self._logs.items())
            if place.topic in wanted
        }

    def cut(self, topics: Iterable[str], window: Window) -> dict[Partition, Begin]:
        firsts = {place: log[0].record for place, log in self._logs.items() if place.topic in set(topics)}
        begins = {place: Begin(first.offset, first.timestamp_us) for place, first in firsts.items()}
        return {place: begin for place, begin in begins.items() if window.lacks_before(place, begin)}

    def read(self, spans: Mapping[Partition, Span], window: Window) -> list[Iterator[StampedRecord]]:
        return [self._rows(place, span) for place, span in spans.items()]

    def _rows(self, place: Partition, span: Span) -> Iterator[StampedRecord]:
        return (s for s in self._logs[place] if span.start <= s.record.offset < span.end)


def raw(offset: int, at_us: int, partition: int = 0, value: bytes | None = None, **fields: Any) -> StampedRecord:
    """One news item, or the given value, as it lies on a back-dated topic."""
    text = f"Acme wins order {offset} worth {offset * 7 % 90} million" if offset % 3 else "Profit fell sharply"
    item: dict[str, Any] = {
        "item_key": f"wire:{partition}-{offset}",
        "source": "wire",
        "source_item_id": f"{partition}-{offset}",
        "item_type": "news",
        "ingested_us": at_us,
        "headline": text,
    } | fields
    value = json.dumps(item).encode() if value is None else value
    return StampedRecord(Record("news.raw", partition, offset, item["item_key"].encode(), value, at_us), False)


def history(count: int = 60, partitions: int = 2) -> list[StampedRecord]:
    """Two partitions a second apart, with duplicates, garbage, an array, a correction and a delete."""
    records = [raw(n, NOW_US + n * SECOND_US + p * 300_000, p) for p in range(partitions) for n in range(count)]
    same: dict[str, Any] = {"item_key": "wire:0-1", "source_item_id": "0-1"}
    late_us = NOW_US + count * SECOND_US
    pair = [json.loads(raw(n, late_us + 1).record.value or b"") for n in (901, 902)]
    return [
        *records,
        raw(count, late_us, 0, value=b"\xff no json"),
        raw(count + 1, late_us + 1, 0, value=json.dumps(pair).encode()),
        raw(count + 2, late_us + 2, 0, action="update", updated_us=late_us + 2, headline="Acme loses order", **same),
        raw(count + 3, late_us + 3, 0, action="delete", updated_us=late_us + 3, headline=None, **same),
    ]


def settings(**engine: Any) -> Settings:
    loaded = settings_module.load()
    limits = loaded.limits.model_copy(update={"max_in_flight": engine.pop("max_in_flight", 1_024)})
    return loaded.model_copy(
        update={"engine": loaded.engine.model_copy(update={"threads": 1} | engine), "limits": limits}
    )


def unsure(**engine: Any) -> Settings:
    """The bundled model is sure of most texts after one layer; to be cut short, a text must want more of them."""
    return settings(**engine).model_copy(update={"policy": "cwb:delta=0.2,window=0"})


def replay(
    output: Path, records: list[StampedRecord], with_settings: Settings | None = None, **options: Any
) -> dict[str, Any]:
    progress: Callable[[int], None] = options.pop("progress", lambda _: None)
    wanted = Options(output, **{"mode": "recompute", "run_id": "again", **options})
    using, there = with_settings or settings(), MemoryHistory(records)
    return run_replay(using, wanted, there, plan_of(using, wanted, there), progress)


def signals(output: Path) -> list[tuple[Signal, int]]:
    return list(read_signals(output))


def as_record(replayed: list[tuple[Signal, int]], delay_us: int = 5_000) -> list[StampedRecord]:
    """A signals topic as a live stage would have left it, appended `delay_us` after each raw text was known."""
    return [
        StampedRecord(Record("signals", 0, offset, signal.item_key.encode(), encode(signal), at_us + delay_us), True)
        for offset, (signal, at_us) in enumerate(replayed)
    ]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recomputation of the whole history that nothing disturbed."""
    folder = tmp_path_factory.mktemp("replay") / "unbroken"
    replay(folder, history())
    return folder


@pytest.mark.parametrize(
    "different",
    [
        {"slots": 1, "max_in_flight": 4},
        {"slots": 3, "threads": 2},
        {"runner": "reference", "max_in_flight": 2},
    ],
)
def test_recompute_gives_the_same_bytes_on_any_layout(
    unbroken: Path, tmp_path: Path, different: dict[str, Any]
) -> None:
    """Slots, threads and batches of arrival change when a text exits, never a byte of the output."""
    replay(tmp_path, history(), settings(**different))
    assert (tmp_path / "signals.parquet").read_bytes() == (unbroken / "signals.parquet").read_bytes()
    assert (tmp_path / "rejections.jsonl").read_bytes() == (unbroken / "rejections.jsonl").read_bytes()


def test_every_record_has_its_outcome_in_order_of_availability(unbroken: Path) -> None:
    """Two partitions merged, the array's two elements, the correction, the retraction, the dead letter with its own."""
    replayed = signals(unbroken)
    manifest = json.loads((unbroken / "manifest.json").read_text())
    assert [at for _, at in replayed] == sorted(at for _, at in replayed)
    assert manifest["counts"]["actions"] == {"correct": 1, "new": 122, "retract": 2}
    assert manifest["counts"]["rejections"] == {"malformed": 1}
    assert {signal.run_id for signal, _ in replayed} == {"again"}
    assert len(manifest["models"]) == 1 and manifest["output"]["sha256"] and not (unbroken / ".replay").exists()


def test_vendors_records_are_recomputed_on_any_layout(tmp_path: Path) -> None:
    """Frames with articles, control messages, edits and garbage; what is skipped has no outcome and stops nothing."""

    def article(number: int, headline: str, updated: str = "14:30:01") -> dict[str, Any]:
        times = {"created_at": "2026-01-05T14:30:00Z", "updated_at": f"2026-01-05T{updated}Z"}
        return {"T": "n", "id": number, "headline": headline, "symbols": ["NRVX"], **times}

    values = [json.dumps([article(n, f"Norvex wins order {n}"), {"T": "success"}]).encode() for n in range(20)]
    values += [b"\r\n", json.dumps([article(3, "Norvex loses order", "14:41:00")]).encode(), b"\xff", b"[]"]
    records = [raw(n, NOW_US + n * SECOND_US, value=value) for n, value in enumerate(values)]
    for name, different in (("one", {}), ("other", {"slots": 1, "max_in_flight": 4})):
        using = settings(**different)
        vendor = RawTopic(name="news.raw", format="alpaca")
        using = using.model_copy(update={"topics": using.topics.model_copy(update={"raw": (vendor,)})})
        counts = replay(tmp_path / name, records, using)["counts"]
        assert (counts["actions"], counts["rejections"]) == ({"new": 21}, {"malformed": 1})
    one, other = ((tmp_path / name / "signals.parquet").read_bytes() for name in ("one", "other"))
    assert one == other
    assert [at for _, at in signals(tmp_path / "one")] == [NOW_US + n * SECOND_US for n in (*range(20), 21)]


def test_a_replay_makes_no_spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment asks of a live stage: history must not look like news in a tracing system."""
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        assert trace_exporters()
        replay(tmp_path, history(3))
        assert collector.spans == []


def test_run_id_and_format_change_no_content(unbroken: Path, tmp_path: Path) -> None:
    """What two runs said is equal where their content hashes are."""
    hashes = {
        replay(tmp_path / form, history(), form=form, run_id=form)["counts"]["content_sha256"]
        for form in ("jsonl", "arrow")
    }
    assert hashes == {json.loads((unbroken / "manifest.json").read_text())["counts"]["content_sha256"]}
    lines = [json.loads(line) for line in (tmp_path / "jsonl" / "signals.jsonl").read_bytes().splitlines()]
    assert [line["available_us"] for line in lines] == [at for _, at in signals(unbroken)]
    assert {line["run_id"] for line in lines} == {"jsonl"}


def test_changing_the_future_changes_no_past_signal(unbroken: Path, tmp_path: Path) -> None:
    """Other texts, other symbols and more records after an instant: every signal before it is the same, to the byte."""
    cut_us = NOW_US + 30 * SECOND_US
    changed = [
        stamped
        if at_us < cut_us
        else raw(stamped.record.offset, at_us, stamped.record.partition, headline="Profit soars")
        for stamped in history()
        for at_us in [stamped.record.timestamp_us or 0]
    ]
    replay(tmp_path, [*changed, *(raw(n, NOW_US + n * SECOND_US, 3) for n in range(40, 90))])

    def before(folder: Path) -> list[tuple[Signal, int]]:
        return [(signal, at) for signal, at in signals(folder) if at < cut_us]

    assert len(before(tmp_path)) == 60 and before(tmp_path) == before(unbroken)
    assert [s.digest for s, _ in signals(tmp_path)] != [s.digest for s, _ in signals(unbroken)]


def test_novelty_counts_by_recorded_times(unbroken: Path) -> None:
    """The n-th item with a text has n earlier ones, whether or not the first was in flight when it came."""
    repeats = [s for s, _ in signals(unbroken) if s.novelty and s.input and s.item_key[7:] in map(str, range(0, 60, 3))]
    assert [s.novelty.dup_count for s in repeats if s.novelty] == list(range(len(repeats)))
    assert {s.novelty.dup_of for s in repeats[1:] if s.novelty} == {repeats[0].item_key}


def test_a_text_is_new_again_when_its_time_is_over() -> None:
    """As in the live stage, by recorded times: within it a repetition, behind it an original."""
    repeats = DuplicateTimeline(ttl_us=10 * SECOND_US)
    said = [repeats.novelty("text", f"wire:{n}", NOW_US + at * SECOND_US) for n, at in enumerate((0, 10, 21, 30))]
    assert [(each.cache_hit, each.dup_of, each.dup_count) for each in said] == [
        (False, None, 0), (True, "wire:0", 1), (False, None, 0), (True, "wire:2", 1),
    ]  # fmt: skip


def test_outcomes_of_a_record_leave_in_the_order_of_its_elements() -> None:
    """Whatever exits first; and no record leaves before those ahead of it are finished."""
    stamped, place = history()[:3], Partition("news.raw", 0)
    reached = merge([iter([date_raw(each, "auto") for each in stamped])], Window())
    arrived: SimpleQueue[ReplayedOutcome] = SimpleQueue()
    released: list[tuple[int, list[int]]] = []
    source = HistorySource(
        reached, [place], arrived,
        lambda each, outcomes: released.append((each.dated.record.offset, [o.position.index for o in outcomes])),
    )  # fmt: skip
    source.subscribe(Listener())
    assert len(source.poll(0, 10)) == 3
    for offset, index in ((1, 0), (0, 2), (0, 0), (0, 1)):
        arrived.put(ReplayedOutcome(Position(*place, offset, index), Outgoing("signals", None, None), ""))
    source.commit({place: Commit(0, "map of what is finished above")}, wait=False)
    assert released == []
    source.commit({place: Commit(2)}, wait=False)
    assert released == [(0, [0, 1, 2]), (1, [0])] and source.unreleased == 1


class Listener:
    """Takes what it is given."""

    def assigned(self, committed: Mapping[Partition, Commit | None]) -> None: ...
    def waiting(self) -> None: ...
    def read_to(self, ends: Mapping[Partition, int]) -> None: ...
    def revoked(self, partitions: Sequence[Partition]) -> None: ...
    def lost(self, partitions: Sequence[Partition]) -> None: ...


class Killed(BaseException):
    """The process dies here."""


def test_resume_gives_the_bytes_of_an_unbroken_run(unbroken: Path, tmp_path: Path) -> None:
    """What was computed before the kill is not computed again, and nothing shows where the seam was."""
    played = 0

    def die(at_us: int) -> None:
        nonlocal played
        played += 1
        if played == 40:
            raise Killed

    small = settings(max_in_flight=16)
    with pytest.raises(Killed):
        replay(tmp_path, history(), small, slack="1s", run_id="again", progress=die)
    assert not (tmp_path / "signals.parquet").exists()
    grown = [*history(), raw(500, NOW_US + 500 * SECOND_US)]  # came after the start: no part of this replay
    manifest = replay(tmp_path, grown, small, slack="1s", resume=True)
    assert manifest["verdicts_resumed"] > 0
    whole = replay(tmp_path / "whole", history(), slack="1s")
    assert (tmp_path / "signals.parquet").read_bytes() == (tmp_path / "whole" / "signals.parquet").read_bytes()
    assert whole["counts"]["content_sha256"] == manifest["counts"]["content_sha256"]


def test_resume_of_another_replay_is_refused(tmp_path: Path) -> None:
    """Two histories must not meet in one file; nor is a finished replay overwritten."""
    with pytest.raises(SettingsError, match="nothing to resume"):
        replay(tmp_path, history(), resume=True)
    replay(tmp_path, history(4))
    with pytest.raises(SettingsError, match="another --output"):
        replay(tmp_path, history(4))


def test_range_holds_in_time_and_offsets(tmp_path: Path) -> None:
    """From is included, to is not; offsets bound what is read."""
    begin, end = NOW_US + 10 * SECOND_US, NOW_US + 20 * SECOND_US
    replay(tmp_path / "time", history(), start=[str(begin)], end=[str(end)])
    assert sorted({at for _, at in signals(tmp_path / "time")}) == sorted(
        stamped.record.timestamp_us or 0 for stamped in history() if begin <= (stamped.record.timestamp_us or 0) < end
    )
    replay(tmp_path / "offset", history(), start=["offset=5"], end=["news.raw/0=8", "news.raw/1=6"])
    assert sorted((s.raw.partition, s.raw.offset) for s, _ in signals(tmp_path / "offset")) == [
        (0, 5), (0, 6), (0, 7), (1, 5),
    ]  # fmt: skip


def test_compare_finds_equal_digests(unbroken: Path, tmp_path: Path) -> None:
    """Same model, configuration, numerics and deterministic mode: anything but equal digests is a fault."""
    record = as_record(signals(unbroken))
    found = replay(tmp_path, history() + record, compare=True)["comparison"]
    assert found["expected"] == "equal digests" and found["holds"]
    assert (found["equal_digests"], found["differing"], found["only_recorded"]) == (125, 0, 0)


def test_compare_names_what_differs(unbroken: Path, tmp_path: Path) -> None:
    """A label that flipped, a signal that is missing, and one too many."""
    record = as_record(signals(unbroken))
    first = Signal.model_validate_json(record[0].record.value or b"")
    other = next(label for label in type(first.label) if label is not first.label)  # type: ignore[union-attr]
    flipped = first.model_copy(update={"label": other, "digest": "f" * 64})
    record[0] = StampedRecord(Record("signals", 0, 0, None, encode(flipped), NOW_US), True)
    del record[5]
    found = replay(tmp_path, history() + record, compare=True)["comparison"]
    assert not found["holds"]
    assert (found["label_flips"], found["differing"], found["only_recomputed"]) == (1, 1, 1)


def test_compare_with_another_policy_expects_nothing(unbroken: Path, tmp_path: Path) -> None:
    """It tells how far the policies are apart."""
    other = settings().model_copy(update={"policy": "fixed:2"})
    found = replay(tmp_path, history() + as_record(signals(unbroken)), other, compare=True)["comparison"]
    assert found["expected"] == "nothing" and found["holds"]
    assert found["exit_shifts"] > 0 and found["largest_probability_change"] > 0


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_compare_with_another_policy_shows_what_moved(unbroken: Path, tmp_path: Path) -> None:
    """Label by label, layer by layer and signal by signal: that is what another policy is tried for."""
    other = settings().model_copy(update={"policy": "fixed:1"})
    manifest = replay(tmp_path, history() + as_record(signals(unbroken)), other, compare=True)
    found, rows = manifest["comparison"], lines(tmp_path / "comparison.jsonl")
    before = {s.raw.model_dump_json(): s for s, _ in signals(unbroken)}
    after = {s.raw.model_dump_json(): s for s, _ in signals(tmp_path)}
    assert before.keys() == after.keys() and len(rows) == len(before) == found["differing"]
    pairs = Counter(tuple(s.label or "retraction" for s in (before[key], after[key])) for key in before)
    assert {(each["recorded"], each["recomputed"]): each["signals"] for each in found["labels"]} == pairs
    deep = Counter(str(s.exit.layer) for s in before.values() if s.exit)
    assert found["exit_layers"] == {"recorded": dict(sorted(deep.items())), "recomputed": {"1": deep.total()}}
    for row in rows:
        place = {name: row[name] for name in ("topic", "partition", "offset", "index")}
        then, now = (side[json.dumps(place, separators=(",", ":"))] for side in (before, after))
        assert (row["kind"], row["item_key"]) == ("differs", then.item_key)
        assert (row["recorded_label"], row["recomputed_label"]) == (then.label, now.label)
        assert (row["recorded_score"], row["recomputed_score"]) == (then.score, now.score)
        assert (row["recorded_layer"], row["recomputed_layer"]) == (then.exit and then.exit.layer, now.exit and 1)
    told = "\n".join(summary(manifest))
    assert "labels: negative -> " in told and "exit layers, recomputed: 1: " in told and "comparison.jsonl" in told


def test_compare_counts_novelty_apart(unbroken: Path, tmp_path: Path) -> None:
    """It is what the live workers knew at the time: no fault where it differs, and yet to be seen."""
    record = as_record(signals(unbroken))
    chosen = [n for n, each in enumerate(record) if decode(Signal, each.record.value or b"").label is not None][:3]
    for n in chosen:
        signal = decode(Signal, record[n].record.value or b"")
        novelty = Novelty(cache_hit=True, dup_of="wire:else", dup_count=1, first_seen_us=NOW_US)
        value = encode(signal.model_copy(update={"novelty": novelty}))
        record[n] = StampedRecord(replace(record[n].record, value=value), True)
    del record[40]
    found = replay(tmp_path, history() + record, compare=True)["comparison"]
    assert (found["novelty_differing"], found["differing"], found["only_recomputed"]) == (3, 0, 1)
    rows = lines(tmp_path / "comparison.jsonl")
    assert Counter(row["kind"] for row in rows) == {"novelty differs": 3, "only recomputed": 1}
    assert {row["recorded_dup_of"] for row in rows} == {"wire:else", None}
    assert [row["recorded_label"] for row in rows if row["kind"] == "only recomputed"] == [None]


def test_what_only_the_record_has_is_named(unbroken: Path, tmp_path: Path) -> None:
    """Such a signal came from nowhere, or its text is read otherwise now."""
    record = as_record(signals(unbroken))
    stray = decode(Signal, record[3].record.value or b"")
    stray = stray.model_copy(update={"raw": stray.raw.model_copy(update={"index": 9})})
    record.append(StampedRecord(Record("signals", 0, len(record), None, encode(stray), NOW_US), True))
    found = replay(tmp_path, history() + record, compare=True)["comparison"]
    assert found["only_recorded"] == 1 and not found["holds"]
    (row,) = [row for row in lines(tmp_path / "comparison.jsonl") if row["kind"] == "only recorded"]
    assert (row["item_key"], row["index"], row["recomputed_label"]) == (stray.item_key, 9, None)


def test_recorded_plays_signals_as_they_were(unbroken: Path, tmp_path: Path) -> None:
    """Every field but run_id, at the broker's append time."""
    record = as_record(signals(unbroken))
    manifest = replay(tmp_path, record, mode="recorded")
    played = signals(tmp_path)
    assert [at for _, at in played] == [stamped.record.timestamp_us for stamped in record]
    assert [s.model_copy(update={"run_id": "x"}) for s, _ in played] == [
        s.model_copy(update={"run_id": "x"}) for s, _ in signals(unbroken)
    ]
    assert not manifest["in_sample"]


def test_recorded_signals_of_history_are_dated_by_ingest(unbroken: Path, tmp_path: Path) -> None:
    """A backlog that was worked off years later: the order and instants are those of the texts, plus a latency."""
    replayed = signals(unbroken)
    later = [
        StampedRecord(Record("signals", 0, offset, None, encode(signal), NOW_US + 900 * DAY_US + offset), True)
        for offset, (signal, _) in enumerate(reversed(replayed))
    ]
    replay(tmp_path, later, mode="recorded", rule="ingested", latency="250ms")
    assert [at for _, at in signals(tmp_path)] == sorted(s.ts.ingested_us + 250_000 for s, _ in replayed)


def with_novelty(signal: Signal, at_us: int, first: Signal | None) -> Signal:
    """The signal of a text that was ingested then; `first` is the item that the live cache had it from."""
    novelty = Novelty(cache_hit=False)
    if first is not None:
        named = None if first.item_key == signal.item_key else first.item_key
        novelty = Novelty(cache_hit=True, dup_of=named, dup_count=1, first_seen_us=first.ts.ingested_us)
    times = signal.ts.model_copy(update={"ingested_us": at_us, "published_us": None, "updated_us": None})
    return signal.model_copy(update={"novelty": novelty, "ts": times})


@pytest.mark.parametrize("rule", ["ingested", "auto"])
def test_novelty_never_names_what_is_not_yet_available(unbroken: Path, tmp_path: Path, rule: str) -> None:
    """A backlog is worked off in any order, and another partition may publish the first item later than its repeat."""
    plain = [signal for signal, _ in signals(unbroken) if signal.label is not None][:6]
    at = [NOW_US + n * SECOND_US for n in range(6)]
    early = with_novelty(plain[0], at[2], None)  # computed first, and yet not the first text of its kind
    late = with_novelty(plain[1], at[1], early)  # ingested before what it is said to repeat
    after = with_novelty(plain[2], at[3], early)
    unseen = with_novelty(plain[3], at[4], with_novelty(plain[5], at[0], None))  # of an item that the range lacks
    own = with_novelty(plain[0].model_copy(update={"revision": 7}), at[5], early)
    order = [early, late, after, unseen, own] if rule == "ingested" else [late, early, after, unseen, own]
    record = [
        StampedRecord(Record("signals", n % 2, n // 2, None, encode(signal), NOW_US + 60 * SECOND_US + n), True)
        for n, signal in enumerate(order)
    ]
    manifest = replay(tmp_path / "a", record, mode="recorded", rule=rule)
    played = {named(signal): (signal, known_us) for signal, known_us in signals(tmp_path / "a")}
    known: set[str] = set()
    for signal, available_us in sorted(played.values(), key=lambda pair: pair[1]):
        assert signal.novelty is not None
        assert signal.novelty.dup_of is None or signal.novelty.dup_of in known
        assert (signal.novelty.first_seen_us or 0) <= available_us
        known.add(signal.item_key)
    kept = {name for name, (signal, _) in played.items() if signal.novelty and signal.novelty.cache_hit}
    assert kept == {named(after), named(own)} and manifest["novelty_taken_back"] == 2


def named(signal: Signal) -> str:
    return f"{signal.item_key}@{signal.revision}"


def test_what_was_new_before_a_range_is_no_news_in_it(unbroken: Path, tmp_path: Path) -> None:
    """A first that was ingested well before the range begins was known; in a backlog nothing is known of it."""
    plain = [signal for signal, _ in signals(unbroken) if signal.label is not None][:3]
    first = with_novelty(plain[0], NOW_US - 5 * 3_600 * SECOND_US, None)
    live, backlog = (with_novelty(plain[n], NOW_US + n - (n - 1) * DAY_US, first) for n in (1, 2))
    record = [
        StampedRecord(Record("signals", 0, n, None, encode(signal), NOW_US + n + 1), True)
        for n, signal in enumerate((live, backlog))
    ]
    assert replay(tmp_path / "a", record, mode="recorded", start=[str(NOW_US)])["novelty_taken_back"] == 1
    assert [signal.novelty and signal.novelty.cache_hit for signal, _ in signals(tmp_path / "a")] == [True, False]
    assert replay(tmp_path / "b", record, mode="recorded")["novelty_taken_back"] == 2


def test_a_replay_without_latency_says_what_the_live_stage_took(unbroken: Path, tmp_path: Path) -> None:
    """Zero is the default, and the record to measure it from is there."""
    record = as_record(signals(unbroken), delay_us=7_000)
    with capture_logs() as logged:
        manifest = replay(tmp_path / "a", history() + record)
    assert [line["event"] for line in logged if line["event"] == "replay.no_latency"]
    took = manifest["latency_recorded"]
    assert took == {"signals": len(record), "p50_us": 7_000, "p99_us": 7_000}
    assert (manifest["latency"], manifest["latency_chosen"]) == ("0us", False)
    told = "\n".join(summary(manifest))
    assert "NO LATENCY" in told and "7.0 ms (p50)" in told
    with capture_logs() as logged:
        chosen = replay(tmp_path / "b", history() + record, latency="0")
    assert chosen["latency_chosen"] and "NO LATENCY" not in "\n".join(summary(chosen))
    assert not [line for line in logged if line["event"] == "replay.no_latency"]
    assert replay(tmp_path / "c", history())["latency_recorded"] is None
    again = replay(tmp_path / "d", record, mode="recorded", rule="ingested")
    assert again["latency_recorded"] == took and "NO LATENCY" in "\n".join(summary(again))


def test_signals_at_their_append_time_lack_no_latency(unbroken: Path, tmp_path: Path) -> None:
    """It is in that time already: the advice would be refused."""
    record = as_record(signals(unbroken), delay_us=7_000)
    rules: tuple[Rule, ...] = ("auto", "appended")
    for rule in rules:
        live = replay(tmp_path / rule, record, mode="recorded", rule=rule)
        assert live["latency_recorded"] is not None and "NO LATENCY" not in "\n".join(summary(live))


def test_only_a_recomputation_counts_dead_letters(unbroken: Path, tmp_path: Path) -> None:
    """Recorded signals are replayed without the dead letters: a 0 would be untrue."""
    (first,) = as_record(signals(unbroken))[:1]
    letter = StampedRecord(Record("raw.dlq", 0, 0, None, b"{}", NOW_US), True)
    live = replay(tmp_path / "live", [first, letter], mode="recorded")
    assert live["counts"]["rejections"] is None
    assert summary(live)[0] == "recorded: 1 signal, run again"
    anew = replay(tmp_path / "anew", [raw(0, NOW_US, value=b"\xff no json"), raw(1, NOW_US)])
    assert summary(anew)[0] == "recompute: 2 signals, 1 dead letter, run again"  # one takes the item back


def test_rejected_texts_are_one_line_of_the_log(tmp_path: Path) -> None:
    """And a line each in rejections.jsonl: months of history have many."""
    records = [raw(n, NOW_US + n, value=b"\xff no json") for n in range(50)] + [raw(50, NOW_US + 50)]
    with capture_logs() as logged:
        manifest = replay(tmp_path, records)
    told = [line for line in logged if "reject" in line["event"] and line["log_level"] != "debug"]
    assert [(line["event"], line["malformed"]) for line in told] == [("replay.rejected", 50)]
    assert manifest["counts"]["rejections"] == {"malformed": 50}
    assert len((tmp_path / "rejections.jsonl").read_bytes().splitlines()) == 50


def test_empirical_latency_is_the_live_runs_own_and_repeats_itself(unbroken: Path, tmp_path: Path) -> None:
    """Drawn by signal id: the same in each replay, whatever else is replayed."""
    record = as_record(signals(unbroken), delay_us=7_000)
    replay(tmp_path / "a", history() + record, latency="empirical")
    replay(tmp_path / "b", history() + record, latency="empirical", end=[str(NOW_US + 20 * SECOND_US)])
    whole = {s.signal_id: at for s, at in signals(tmp_path / "a")}
    assert all(whole[s.signal_id] == at for s, at in signals(tmp_path / "b"))
    drawn = Empirical.measured([1_000, 5_000, 90_000])
    assert {drawn.of(str(number)) for number in range(300)} == {1_000, 5_000, 90_000}
    assert drawn.of("x") == Empirical.measured([90_000, 1_000, 5_000]).of("x")
    assert Constant(7).of("anything") == 7


def test_edited_history_counts_from_its_edit(tmp_path: Path) -> None:
    """A create whose text was updated an hour later was not there before; strict refuses it."""
    edited = raw(1, NOW_US + 1, updated_us=NOW_US + 3_600 * SECOND_US)
    records = [raw(0, NOW_US), edited, raw(2, NOW_US + 2)]
    manifest = replay(tmp_path, records)
    assert [(s.raw.offset, at) for s, at in signals(tmp_path)] == [
        (0, NOW_US), (2, NOW_US + 2), (1, NOW_US + 3_600 * SECOND_US),
    ]  # fmt: skip
    assert manifest["edited_history_dated_by_update"] == 1
    with pytest.raises(SettingsError, match="edited"):
        replay(tmp_path / "strict", records, strict=True)


def test_assumed_ingest_times_are_counted(tmp_path: Path) -> None:
    """A backtest over them rests on an assumption, and says so."""
    records = [raw(0, NOW_US, ingested_origin="assumed"), raw(1, NOW_US + 1)]
    assert replay(tmp_path, records)["ingest_times_assumed"] == 1


def test_replay_of_what_the_model_learned_from_is_marked_in_sample(tmp_path: Path) -> None:
    """Its beginning is before the model's knowledge ends, so it tests nothing; strict refuses and writes nothing."""
    records = [raw(0, YEAR_2015_US), raw(1, NOW_US)]
    manifest = replay(tmp_path / "a", records)
    assert manifest["in_sample"] and "learned from texts up to" in manifest["in_sample_reason"]
    with pytest.raises(SettingsError, match="in-sample"):
        replay(tmp_path / "b", records, strict=True)
    assert not (tmp_path / "b" / "signals.parquet").exists()
    assert not replay(tmp_path / "c", [raw(0, NOW_US)], strict=True)["in_sample"]


@pytest.mark.parametrize("told", [{"published_us": YEAR_2015_US}, {"published_us": NOW_US, "updated_us": YEAR_2015_US}])
def test_history_that_was_fed_late_is_in_sample(tmp_path: Path, told: dict[str, Any]) -> None:
    """It became available this year, and the model may have read it all the same: by a text's own time, too."""
    records = [raw(0, NOW_US), raw(1, NOW_US + 1, **told), raw(2, NOW_US + 2, published_us=NOW_US)]
    manifest = replay(tmp_path / "a", records)
    assert manifest["in_sample"] and manifest["in_sample_signals"] == 1
    assert "'wire:0-1' is of 2015-01-01T00:00:00Z" in manifest["in_sample_reason"]
    record = as_record(signals(tmp_path / "a"))
    assert replay(tmp_path / "b", record, mode="recorded")["in_sample_signals"] == 1
    for mode, history in (("recompute", records), ("recorded", record)):
        with pytest.raises(SettingsError, match=r"in-sample: model .* 2015-01-01"):
            replay(tmp_path / "c", history, mode=mode, strict=True)
        assert not (tmp_path / "c" / "signals.parquet").exists()
    fresh = [records[0], records[2]]
    assert not replay(tmp_path / "d", fresh, strict=True)["in_sample"]


def test_a_text_as_old_as_the_models_knowledge_is_in_sample(unbroken: Path) -> None:
    """To the microsecond; one that is younger by one is not. A retraction says nothing."""
    signal = next(signal for signal, _ in signals(unbroken) if signal.label is not None)
    known_us = signal.model.knowledge_until_us
    assert known_us is not None

    def of(at_us: int | None) -> Signal:
        return signal.model_copy(update={"ts": signal.ts.model_copy(update={"published_us": at_us})})

    judged = {at_us: in_sample(of(at_us), NOW_US) for at_us in (known_us - 1, known_us, known_us + 1, None)}
    assert judged == {known_us - 1: True, known_us: True, known_us + 1: False, None: False}
    assert in_sample(of(None), known_us)  # by availability
    retraction = next(signal for signal, _ in signals(unbroken) if signal.label is None)
    assert not in_sample(retraction, known_us)


def test_recorded_signals_of_a_model_without_known_data_are_in_sample(unbroken: Path, tmp_path: Path) -> None:
    """Nobody can tell, so nobody may claim."""
    signal = signals(unbroken)[0][0]
    unknown = signal.model_copy(update={"model": signal.model.model_copy(update={"knowledge_until_us": None})})
    record = [StampedRecord(Record("signals", 0, 0, None, encode(unknown), NOW_US), True)]
    manifest = replay(tmp_path / "a", record, mode="recorded")
    assert manifest["in_sample"] and "nobody recorded" in manifest["in_sample_reason"]
    with pytest.raises(SettingsError, match="in-sample"):
        replay(tmp_path / "b", record, mode="recorded", strict=True)


def test_order_by_event_is_marked_as_look_ahead(tmp_path: Path) -> None:
    """By publication; what is written says when it was really known."""
    records = [raw(0, NOW_US + 10, published_us=NOW_US + 9), raw(1, NOW_US + 20, published_us=NOW_US)]
    manifest = replay(tmp_path, records, order="event")
    assert manifest["look_ahead"]
    assert [(s.raw.offset, at) for s, at in signals(tmp_path)] == [(1, NOW_US + 20), (0, NOW_US + 10)]


@pytest.mark.parametrize("bounds", [{}, {"end": [str(NOW_US + DAY_US)]}])
def test_one_wrong_clock_neither_ends_nor_cuts_a_replay(tmp_path: Path, bounds: dict[str, Any]) -> None:
    """A record of the year 2099 in the middle: what follows it is there, in its place."""
    records = [raw(n, NOW_US + n * SECOND_US) for n in range(30)]
    records[10] = raw(10, 4_070_908_800_000_000)
    manifest = replay(tmp_path, records, **bounds)
    offsets = [signal.raw.offset for signal, _ in signals(tmp_path)]
    assert offsets == [*range(10), *range(11, 30), *([] if bounds else [10])]
    assert manifest["counts"]["signals"] == len(offsets)


def test_times_out_of_order_are_ordered_within_the_slack(tmp_path: Path) -> None:
    """Beyond it the replay refuses rather than lies; a larger slack mends it."""
    records = [raw(n, NOW_US + (n - n % 5 * 2) * SECOND_US) for n in range(20, 60)]
    replay(tmp_path / "a", records)
    assert [at for _, at in signals(tmp_path / "a")] == sorted(r.record.timestamp_us or 0 for r in records)
    far = [*records, raw(60, NOW_US - DAY_US), raw(61, NOW_US + DAY_US)]
    with pytest.raises(SourceError, match="--slack"):
        replay(tmp_path / "b", [*records, raw(60, NOW_US + DAY_US), raw(61, NOW_US)])
    replay(tmp_path / "c", far, slack="all")
    assert signals(tmp_path / "c")[0][1] == NOW_US - DAY_US


def test_live_topics_are_never_an_output(tmp_path: Path) -> None:
    """Refused before anything is read or written."""
    for topic in ("signals", "news.raw", "raw.dlq", "signals.control"):
        with pytest.raises(SettingsError, match="never written"):
            replay(tmp_path, history(), form="topic", topic=topic)


def test_availability_of_raw_records() -> None:
    """The broker's append time where it is one; what a sender dated counts by its items, the last of an array."""
    stamped = raw(0, NOW_US)
    moved = StampedRecord(stamped.record, True)
    assert date_raw(stamped, "auto").at_us == NOW_US
    late = StampedRecord(Record("news.raw", 0, 0, None, stamped.record.value, NOW_US + 50), True)
    assert date_raw(late, "auto").at_us == NOW_US + 50
    assert date_raw(late, "ingested").at_us == NOW_US
    assert date_raw(moved, "appended").at_us == NOW_US
    array = json.dumps([{"ingested_us": NOW_US}, {"ingested_us": NOW_US + 9}]).encode()
    assert date_raw(raw(0, NOW_US, value=array), "auto").at_us == NOW_US + 9
    assert date_raw(raw(0, NOW_US, value=b"\xff"), "auto").at_us == NOW_US
    broken = raw(0, 0, value=array[:-1] + b', {"headline": "]')  # its other elements are read, and must not come early
    assert date_raw(broken, "auto").at_us == NOW_US + 9
    edited = raw(0, 0, value=b'[{"ingested_us": %d, "updated_us" : %d}, 1e]' % (NOW_US, NOW_US + 7))
    assert date_raw(edited, "ingested").at_us == NOW_US + 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01", 1_714_521_600_000_000),
        ("2024-05-01T02:00:00.000001+02:00", 1_714_521_600_000_001),
        ("1714521600", 1_714_521_600_000_000),
        ("1714521600000", 1_714_521_600_000_000),
        ("1714521600000001", 1_714_521_600_000_001),
        ("-2h", NOW_US - 7_200 * SECOND_US),
        ("now", NOW_US),
    ],
)
def test_bounds_take_instants_in_many_forms(text: str, expected: int) -> None:
    """ISO in any zone, an epoch in s, ms or us, and relative to now."""
    assert parse_bounds([text], NOW_US) == (expected, {})


def test_signals_of_partitions_are_one_sequence_by_availability(unbroken: Path) -> None:
    """Merged from partitions whose times are out of order; what was edited later counts from then."""
    replayed = [signal for signal, _ in signals(unbroken)][:40]
    edited = replayed[0].ts.model_copy(update={"updated_us": NOW_US + 50 * SECOND_US})
    replayed[0] = replayed[0].model_copy(update={"ts": edited})
    there = MemoryHistory(
        StampedRecord(Record("signals", n % 2, n // 2, None, encode(signal), NOW_US + (n ^ 2) * SECOND_US), True)
        for n, signal in enumerate(replayed)
    )
    window = Window(NOW_US + 3 * SECOND_US, NOW_US + 60 * SECOND_US)
    known = list(in_order(there, there.spans(["signals"], window), window, "auto"))
    assert [at for _, at in known] == [NOW_US + n * SECOND_US for n in (*range(3, 40), 50)]
    assert [s.item_key for s, _ in known[:-1]] == [replayed[n ^ 2].item_key for n in range(3, 40)]
    strict = replace(window, slack_us=SECOND_US)
    with pytest.raises(SourceError, match="slack"):
        list(in_order(there, there.spans(["signals"], strict), strict, "auto"))


@pytest.mark.parametrize(
    ("options", "cut"),
    [
        ({}, True),
        ({"start": [str(NOW_US - 1)]}, True),
        ({"start": [str(NOW_US)]}, False),
        ({"start": ["offset=600"]}, False),
        ({"start": ["offset=599"]}, True),
        ({"start": ["signals/0=700", str(NOW_US - 1)]}, False),
        ({"start": [str(NOW_US)], "rule": "ingested"}, True),  # the order of times says nothing of what was deleted
    ],
)
def test_a_range_whose_beginning_is_gone_is_said(
    unbroken: Path, tmp_path: Path, options: dict[str, Any], cut: bool
) -> None:
    """Half a month is no month: in the manifest, in the log, and refused by strict."""
    signal = next(signal for signal, _ in signals(unbroken) if signal.label is not None)
    record = [StampedRecord(Record("signals", 0, 600 + n, None, encode(signal), NOW_US + n), True) for n in range(200)]
    with capture_logs() as logged:
        manifest = replay(tmp_path / "a", record, mode="recorded", **options)
    assert manifest["cut"] == ({"signals/0": [600, NOW_US]} if cut else {})
    assert [line["partition"] for line in logged if line["event"] == "replay.cut"] == ["signals/0"] * cut
    assert ("CUT: signals/0 begins at offset 600" in "\n".join(summary(manifest))) is cut
    if cut:
        with pytest.raises(SettingsError, match="signals/0 begins at offset 600"):
            replay(tmp_path / "b", record, mode="recorded", strict=True, **options)
        assert not (tmp_path / "b").exists()
    else:
        replay(tmp_path / "b", record, mode="recorded", strict=True, **options)


def test_an_archive_that_begins_too_late_is_said(tmp_path: Path) -> None:
    """Where a time before it is asked for; without a bound all that it has is."""
    with Archiver(tmp_path, ["signals"]) as archiver:
        for offset in (600, 601):
            archiver.add(StampedRecord(Record("signals", 0, offset, None, b"", NOW_US), True))
    archive = ArchiveHistory(tmp_path)
    assert archive.cut(["signals"], Window()) == archive.cut(["signals"], Window(NOW_US)) == {}
    assert [begin.offset for begin in archive.cut(["signals"], Window(NOW_US - DAY_US)).values()] == [600]


def test_bounds_that_mean_nothing_are_refused() -> None:
    """With the text that was given."""
    for texts in (["yesterday"], ["offset=x"], ["news.raw=5"], ["now", "-1h"]):
        with pytest.raises(SettingsError, match="was"):
            parse_bounds(texts, NOW_US)


def test_pace_waits_by_recorded_time() -> None:
    """Ten times as fast: a tenth of the recorded distance from the first item."""
    clock, waited = [100.0], []

    def wait(seconds: float) -> None:
        waited.append(round(seconds, 6))
        clock[0] += seconds

    pace = Pace(10.0, lambda: clock[0], wait)
    for seconds in (0, 10, 10, 25):
        pace.until(NOW_US + seconds * SECOND_US)
    assert waited == [1.0, 1.5]


def test_reorder_hands_out_by_time_then_by_key() -> None:
    """Ties fall by position, never by arrival."""
    order: Reorder[str] = Reorder(10)
    out: list[str] = []
    for reached, at, key, item in [(5, 5, 2, "b"), (5, 5, 1, "a"), (12, 3, 3, "c"), (30, 30, 4, "d")]:
        out += [item for _, item in order.push(reached, at, (key,), item)]
    out += [item for _, item in order.rest()]
    assert out == ["c", "a", "b", "d"]


def test_a_replays_records_carry_the_headers_of_live_ones(unbroken: Path, worlds: Callable[..., Any]) -> None:
    """A consumer that filters on headers sees no difference but the run, and the instant."""
    world = worlds()
    world.source.append([stamped.record for stamped in history(3, 1)])
    world.finish()
    live = {dict(sent.headers)["signal-id"]: sent for sent in world.sink.sent if sent.topic == "signals"}
    sink = MemorySink()
    output = TopicOutput(sink, "again")
    for signal, at_us in signals(unbroken):
        output.signal(signal, at_us)
    output.close()
    known = [(sent, live[name]) for sent in sink.sent if (name := dict(sent.headers)["signal-id"]) in live]
    assert len(known) >= 3
    for sent, original in known:
        headers = dict(sent.headers)
        assert headers.pop("available-us") == str(sent.timestamp_us).encode()
        place = Signal.model_validate_json(sent.value or b"").raw  # of the same text in a longer history
        assert headers["raw"] == f"{place.topic}/{place.partition}/{place.offset}/{place.index}".encode()
        changed = {"run": b"live", "raw": dict(original.headers)["raw"]}
        assert headers | changed == dict(original.headers) and sent.key == original.key


class Ticking:
    """A clock that goes on with every look at it, so that texts are late at the mercy of the threads."""

    def __init__(self, start_us: int, step_us: int) -> None:
        self._ticks = itertools.count(start_us, step_us)

    def now_us(self) -> int:
        return next(self._ticks)


@pytest.fixture(scope="module")
def hurried() -> list[StampedRecord]:
    """What a live stage under pressure left of the history: deadlines here and there, and the oldest texts shed, one
    of them a correction."""
    same: dict[str, Any] = {"item_key": "wire:0-2", "source_item_id": "0-2"}
    late = raw(0, NOW_US + 3 * SECOND_US, 2, action="update", revision=9, headline="Acme wins no order", **same)
    raw_records = [*history(), late]
    limits = unsure().limits.model_copy(update={"deadline_ms": 1, "shed_after_ms": 30_000})
    using = unsure().model_copy(update={"limits": limits})
    loaded = service.load_engine(using)
    source, sink = MemorySource(bounded=True), MemorySink()
    source.append([stamped.record for stamped in raw_records])
    source.assign([Partition("news.raw", number) for number in range(3)])
    clock, metrics = Ticking(NOW_US + 45 * SECOND_US, 40), Metrics(loaded.max_layers)
    origin = service.origin_of(loaded, using)
    Stage(using, loaded, origin, source, sink, MemoryCache(DAY_US), clock, metrics).run(threading.Event())
    numbers = dict.fromkeys((using.topics.signals, using.topics.dlq, using.topics.control), 0)
    for sent in sink.sent:
        offset, numbers[sent.topic] = numbers[sent.topic], numbers[sent.topic] + 1
        raw_records.append(
            StampedRecord(Record(sent.topic, 0, offset, sent.key, sent.value, NOW_US + 60 * SECOND_US + offset), True)
        )
    return raw_records


@pytest.mark.parametrize("different", [{}, {"slots": 1, "max_in_flight": 4}, {"runner": "reference"}])
def test_what_the_clock_decided_is_repeated_from_the_record(
    hurried: list[StampedRecord], tmp_path: Path, different: dict[str, Any]
) -> None:
    """Texts that were cut short are cut at the same depth, with the same digest, on any layout; shed ones stay shed,
    with the age that they had; the shed correction takes its item back again. Nothing here looks at a clock."""
    found = replay(tmp_path, hurried, unsure(**different), compare=True)
    live = [Signal.model_validate_json(s.record.value or b"") for s in hurried if s.record.topic == "signals"]
    shed = [Rejection.model_validate_json(s.record.value or b"") for s in hurried if s.record.topic == "raw.dlq"]
    cut = [signal for signal in live if signal.exit is not None and signal.exit.reason is ExitReason.DEADLINE]
    assert len(cut) > 3 and len(live) - len(cut) > 3, "this test says nothing when none, or all, were late"
    assert found["comparison"]["expected"] == "equal digests" and found["comparison"]["holds"]
    assert found["comparison"]["equal_digests"] == len(live)
    assert (found["recorded_deadlines"], found["recorded_shed"]) == (len(cut), found["counts"]["rejections"]["shed"])
    lines = (tmp_path / "rejections.jsonl").read_bytes().splitlines()
    again = [Rejection.model_validate_json(line) for line in lines]
    said = [(rejection.raw, rejection.reason, rejection.detail) for rejection in again]
    assert sorted(map(str, said)) == sorted(str((each.raw, each.reason, each.detail)) for each in shed)
    assert [(s.item_key, s.revision) for s, _ in signals(tmp_path) if s.action == "retract"].count(("wire:0-2", 9)) == 1


def test_a_replay_needs_no_comparison_to_repeat_it_and_says_the_same(
    hurried: list[StampedRecord], tmp_path: Path
) -> None:
    """The output is the same, to the byte."""
    replay(tmp_path / "compared", hurried, unsure(), compare=True)
    replay(tmp_path / "alone", hurried, unsure())
    assert (tmp_path / "alone" / "signals.parquet").read_bytes() == (
        tmp_path / "compared" / "signals.parquet"
    ).read_bytes()


def test_the_last_heartbeat_says_how_many_were_shed(hurried: list[StampedRecord]) -> None:
    """Whoever sees signals alone would take a stage that sheds for one that has caught up."""
    beats = [decode(Heartbeat, s.record.value or b"") for s in hurried if s.record.topic == "signals.control"]
    shed = sum(b'"shed"' in (s.record.value or b"") for s in hurried if s.record.topic == "raw.dlq")
    assert (beats[-1].state, beats[-1].shed) == ("stopped", shed) and shed


def test_without_its_record_a_replay_computes_in_full(hurried: list[StampedRecord], tmp_path: Path) -> None:
    """Of raw topics alone: nothing is late, and nothing says that it was."""
    manifest = replay(tmp_path, [stamped for stamped in hurried if stamped.record.topic == "news.raw"], unsure())
    assert manifest["recorded_deadlines"] == manifest["recorded_shed"] == 0
    assert "shed" not in manifest["counts"]["rejections"]
    assert all(s.exit is None or s.exit.reason is not ExitReason.DEADLINE for s, _ in signals(tmp_path))


def test_resume_of_a_hurried_history_gives_the_bytes_of_an_unbroken_run(
    hurried: list[StampedRecord], tmp_path: Path
) -> None:
    """What was cut short is not among the verdicts that are kept, and is cut again."""
    played = 0

    def die(at_us: int) -> None:
        nonlocal played
        played += 1
        if played == 60:
            raise Killed

    small = unsure(max_in_flight=16)
    with pytest.raises(Killed):
        replay(tmp_path / "broken", hurried, small, slack="1s", progress=die)
    replay(tmp_path / "broken", hurried, small, slack="1s", resume=True)
    replay(tmp_path / "whole", hurried, unsure(), slack="1s")
    for name in ("signals.parquet", "rejections.jsonl"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
