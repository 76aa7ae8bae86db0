"""The client without a broker: what passes, in which order, when, and what is remembered."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread, current_thread
from time import sleep
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from earlybird.schemas.codec import decode, encode
from earlybird.schemas.control import Heartbeat
from earlybird.schemas.rejection import Reason
from earlybird.schemas.signal import Novelty, Signal, SignalAction
from earlybird.stream.client import (
    Condition,
    Constant,
    Empirical,
    Filters,
    InSample,
    Latest,
    OutOfOrder,
    Received,
    Signals,
    TopicRange,
)
from earlybird.stream.parsing.records import Refusal
from earlybird.stream.ports import Position, Record
from earlybird.stream.stage.messages import Entry
from earlybird.stream.stage.outcome import signal_record
from earlybird.stream.strategies.invented import invented
from earlybird.stream.subscription.buffer import Buffer, Waiting
from earlybird.stream.subscription.recording import Recording
from earlybird.stream.subscription.selection import Selection, SignalFilter
from earlybird.stream.subscription.signal_headers import SignalHeaders
from earlybird.stream.subscription.stage_monitor import HealthTimeouts, StageMonitor
from earlybird.stream.timeline.availability import StampedRecord, appended_us
from project import ROOT

T0 = 1_700_000_000_000_000
SECOND = 1_000_000
CORRECT, RETRACT = SignalAction.CORRECT, SignalAction.RETRACT


def tape(*signals: Signal) -> list[tuple[Signal, int]]:
    """A recording, a second between signals."""
    return [(signal, T0 + number * SECOND) for number, signal in enumerate(signals)]


def as_record(signal: Signal) -> Record:
    """The record by which the stage publishes a signal."""
    entry = Entry(
        Refusal(Position("news.raw", 0, 0), Reason.STALE, "", None), Record("news.raw", 0, 0, None, None), 0, T0
    )
    sent = signal_record(signal, entry, "signals")
    return Record(sent.topic, 0, 0, sent.key, sent.value, T0, sent.headers)


def test_the_client_needs_no_model_and_no_service() -> None:
    """A strategy's environment holds neither torch nor what the stage runs on."""
    absent = {"torch", "transformers", "prometheus_client", "pydantic_settings", "redis", "pandas", "pyarrow", "numpy"}
    code = f"import sys\nfrom earlybird.stream.client import Signals\nprint(sorted({absent!r} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert ran.stdout.strip() == "[]"


FOREIGN: list[tuple[str, bytes | None]] = [
    ("traceparent", b"\xc3\x28\xff"),
    ("", b""),
    ("n\u00e9e", None),
    ("available-us", b"\xff"),
    ("available-us", b"9" * 5_000),
    ("available-us", b"12"),
    ("ce_id", b"\0" * 100_000),
    ("symbols", b"OTHER"),
    ("label", None),
    ("confidence", b"high"),
    ("source", b"\xff"),
    ("signal-id", b"\xc3"),
]


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda header: repr(header)[:30])
def test_facts_are_the_signals_whatever_else_a_record_has(foreign: tuple[str, bytes | None]) -> None:
    """A bridge or a tracer may add any header, before or behind ours."""
    record = as_record(invented("1", T0, 0.7, symbols=["NVDA", "AMD"]))
    expected = SignalHeaders.of_record(record)
    assert expected == SignalHeaders.of_signal(decode(Signal, record.value or b""))
    for headers in ((foreign, *record.headers), (*record.headers, foreign)):
        odd = replace(record, headers=headers)
        assert SignalHeaders.of_record(odd) == expected and appended_us(odd) == T0


@pytest.mark.parametrize("key", [None, b"\xff\xfe", b"wire:1"])
@pytest.mark.parametrize("symbols", [["NVDA"], ["A,B"], ["A", "B"], []])
def test_facts_of_headers_and_of_contents_agree(key: bytes | None, symbols: list[str]) -> None:
    """So that a filter lets the same signals through, live and in a replay."""
    record = replace(as_record(signal := invented("1", T0, symbols=symbols)), key=key)
    assert (
        SignalHeaders.of_record(record)
        == SignalHeaders.of_record(replace(record, headers=()))
        == SignalHeaders.of_signal(signal)
    )


_ONE_WARNING = (  # a recording whose model may have learned from it
    "from earlybird.stream.client import Signals; from earlybird.stream.strategies.invented import invented;"
    f"list(Signals.replay([(invented('1', {T0}, 0.7), {T0})]));"
)


def process_of(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)


def test_the_log_of_a_strategy_stays_as_it_was() -> None:
    """Its lines go where structlog's defaults take them; ours go to stderr, and only warnings."""
    done = process_of(
        f"import structlog; log = structlog.get_logger(); {_ONE_WARNING}"
        "from earlybird.stream.adapters import clients; clients.log.info('chatter');"
        "log.info('order sent'); log.warning('order refused'); print(structlog.is_configured())"
    )
    assert "order sent" in done.stdout and "order refused" in done.stdout and "False" in done.stdout
    assert done.stderr.count("\n") == 1 and "replay.in_sample" in done.stderr
    assert "replay.in_sample" not in done.stdout and "chatter" not in done.stdout + done.stderr


def test_a_strategy_that_sets_its_log_up_gets_ours_there() -> None:
    """Also when it does so after the import, and with everything that it has set."""
    done = process_of(
        f"import structlog, earlybird.stream.client; {_ONE_WARNING} structlog.configure("
        "processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],"
        f"wrapper_class=structlog.make_filtering_bound_logger(0)); {_ONE_WARNING}"
    )
    assert done.stderr.count("\n") == 1, "the one before"
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout)["event"] == "replay.in_sample"


def test_whatever_a_strategy_loads_has_a_logger_that_leaves_structlog_alone() -> None:
    """A plain one would print to the strategy's stdout."""
    process_of(
        "import sys, earlybird.stream.client, earlybird.stream.adapters.topic_range, earlybird.stream.archive.reader;"
        "from earlybird.stream.observability import logging;"
        "ours = {name: module.log for name, module in sys.modules.items() if name.startswith('earlybird.stream.')"
        " and hasattr(module, 'log')};"
        "assert 'earlybird.stream.adapters.clients' in ours and 'earlybird.stream.adapters.signal_files' in ours, ours;"
        "wrong = [name for name, log in ours.items() if not isinstance(log, logging._Guest)];"
        "assert not wrong, wrong"
    )


def test_a_received_signal_is_the_signal_and_its_instant() -> None:
    """Every field of the contract, and encoded the same bytes."""
    sent = invented("1", T0, 0.7, symbols=["NVDA", "AMD"])
    (received,) = Signals.replay([(sent, T0 + 5)])
    assert (received.available_us, received.event_us, received.tickers) == (T0 + 5, T0, ("NVDA", "AMD"))
    assert encode(received) == encode(sent)
    assert decode(Signal, encode(received)) == sent


@given(
    score=st.floats(-1, 1).map(lambda score: round(score, 6)),
    symbols=st.lists(st.sampled_from(["NVDA", "AMD", "BRK.B"]), unique=True),
    action=st.sampled_from(SignalAction),
    item_type=st.sampled_from(["news", "tweet"]),
    relevance=st.lists(st.none() | st.floats(0, 1), max_size=3),
    dup_count=st.integers(0, 1_000),
)
def test_headers_tell_what_the_signal_tells(
    score: float,
    symbols: list[str],
    action: SignalAction,
    item_type: Literal["news", "tweet"],
    relevance: list[float | None],
    dup_count: int,
) -> None:
    """So a live filter, which sees headers, and a replayed one, which sees signals, decide alike."""
    signal = invented(
        "1", T0, score, symbols=symbols, action=action, item_type=item_type, relevance=relevance, dup_count=dup_count
    )
    assert SignalHeaders.of_record(as_record(signal), ["relevance", "dup_count"]) == SignalHeaders.of_signal(signal)


def test_a_record_is_judged_before_it_is_decoded() -> None:
    """By key and headers alone: what nobody wants costs no parsing, whatever its body holds."""
    signal = invented("1", T0)
    assert SignalHeaders.of_record(replace(as_record(signal), value=b"not read")) == SignalHeaders.of_signal(signal)


def test_a_record_that_lost_its_headers_is_read_instead() -> None:
    """A mirror may drop them."""
    signal = invented("1", T0)
    bare = Record("signals", 0, 0, b"wire:1", encode(signal), T0)
    assert SignalHeaders.of_record(bare) == SignalHeaders.of_signal(signal)


@pytest.mark.parametrize("wanted", [{"min_relevance": 0.5}, {"max_duplicates": 0}])
@pytest.mark.parametrize("odd", [None, b"much"])
def test_a_record_of_an_earlier_stage_is_read_where_its_message_decides(wanted: Filters, odd: bytes | None) -> None:
    """Stages before signal 1.3 wrote neither header; other filters need no message."""
    fit, unfit = invented("1", T0, relevance=[0.9]), invented("2", T0, relevance=[0.1], dup_count=1)

    def older(signal: Signal) -> Record:
        record = as_record(signal)
        headers = [(name, odd) if name in ("relevance", "dup-count") else (name, old) for name, old in record.headers]
        return replace(record, headers=tuple((name, value) for name, value in headers if value is not None))

    passes = SignalFilter.of(**wanted).record_filter()
    assert passes is not None and [passes(older(signal)) for signal in (fit, unfit)] == [True, False]
    if odd is None:
        unread = replace(older(fit), value=b"not read")
        assert SignalHeaders.of_record(unread).signal_id == fit.signal_id


@pytest.mark.parametrize(
    ("wanted", "passing"),
    [
        ({}, {"a", "b", "c", "d"}),
        ({"symbols": ["nvda"]}, {"a", "b"}),
        ({"symbols": []}, set()),
        ({"labels": ["positive"]}, {"a", "c"}),
        ({"labels": ["positive", "negative"], "min_confidence": 0.7}, {"a", "b"}),
        ({"sources": ["x"]}, {"d"}),
        ({"item_types": ["tweet"]}, {"d"}),
        ({"single_symbol": True}, {"a", "c"}),
        ({"symbols": ["NVDA"], "single_symbol": True}, {"a"}),
        ({"max_duplicates": 0}, {"a", "d"}),
        ({"max_duplicates": 2}, {"a", "b", "d"}),
        ({"min_relevance": 0.5}, {"b", "c"}),
        ({"min_relevance": 0.5, "symbols": ["NVDA"]}, set()),  # b is relevant to AMD only
        ({"min_relevance": 0.2, "symbols": ["NVDA"]}, {"b"}),
    ],
)
def test_filters_let_through_what_they_name(wanted: dict[str, object], passing: set[str]) -> None:
    """Each filter narrows; together they must all agree."""
    recorded = tape(
        invented("a", T0, 0.9),
        invented("b", T0, -0.8, symbols=["NVDA", "AMD"], relevance=[0.2, 0.5], dup_count=2),
        invented("c", T0, 0.6, symbols=["AMD"], relevance=[1.0], dup_count=3),
        invented("d", T0, 0.0, symbols=[], source="x", item_type="tweet"),
    )
    received = list(Signals.replay(recorded, **wanted))  # type: ignore[arg-type]
    assert {signal.item_key.partition(":")[2] for signal in received} == passing


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": ["good"]},
        {"min_confidence": 80},
        {"symbols": "NVDA"},
        {"item_types": ["blog"]},
        {"remember": 0},
        {"min_relevance": 90},
        {"max_duplicates": -1},
    ],
)
def test_a_filter_that_nothing_can_pass_is_refused(wrong: dict[str, object]) -> None:
    """A typing error must not look like a quiet market."""
    with pytest.raises(ValueError, match=r"was"):
        Signals.replay([], **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "flipped",
    [
        invented("1", T0, -0.9, revision=1, action=CORRECT),
        invented("1", T0, 0.9, symbols=["AMD"], revision=1, action=CORRECT),
        invented("1", T0, 0.55, revision=1, action=CORRECT),
        invented("1", T0, 0.9, revision=1, action=CORRECT, relevance=[0.1]),
        invented("1", T0, 0.9, revision=1, action=CORRECT, dup_count=4),
        invented("1", T0, revision=1, action=RETRACT),
        invented("1", T0, symbols=[], revision=1, action=RETRACT),
    ],
    ids=["label", "symbols", "confidence", "relevance", "repeated", "retracted", "retracted without symbols"],
)
def test_what_follows_on_a_delivered_item_passes_every_filter(flipped: Signal) -> None:
    """Whoever bought on the first revision must hear that it was wrong; whoever never saw it need not."""
    wanted: Filters = {
        "symbols": ["NVDA"], "labels": ["positive"], "min_confidence": 0.8, "min_relevance": 0.5, "max_duplicates": 0,
    }  # fmt: skip
    recorded = tape(invented("1", T0, 0.9, relevance=[1.0]), flipped)
    assert [signal.action for signal in Signals.replay(recorded, **wanted)] == ["new", flipped.action]
    assert list(Signals.replay(tape(flipped), **wanted)) == []
    wanted["held"] = ["wire:1"]
    held = Signals.replay(tape(flipped), **wanted)
    assert [signal.item_key for signal in held] == ["wire:1"]


@pytest.mark.parametrize(
    ("filters", "complaint"),
    [
        ({"held": "wire:1"}, "a list of item keys"),
        ({"held": ["wire:1", "wire:2"], "remember": 1}, "at most `remember`"),
    ],
)
def test_what_is_held_is_refused_where_it_would_be_forgotten(filters: Filters, complaint: str) -> None:
    """A strategy would wait for the retraction of what it holds, and it would be filtered."""
    with pytest.raises(ValueError, match=complaint):
        Signals.replay([], **filters)


def test_what_a_model_learned_from_tests_nothing() -> None:
    """Once a model, at its first signal: known to reach into the recording, or not known; strict refuses both."""

    def by(model: str, known_us: int | None) -> Signal:
        signal = invented(model, T0)
        about = {"id": model, "sha256": model, "knowledge_until_us": known_us}
        return signal.model_copy(update={"model": signal.model.model_copy(update=about)})

    honest, told = by("honest", T0 - 1), [by("seen", T0 + 60 * SECOND), by("unknown", None)]
    with capture_logs() as lines:
        assert len(list(Signals.replay(tape(honest, *told, *told)))) == 5
    assert [line["model"] for line in lines if line["event"] == "replay.in_sample"] == ["seen", "unknown"]
    for signal in told:
        with pytest.raises(InSample, match=f"model {signal.model.id}"):
            list(Signals.replay(tape(signal), strict=True))
    assert len(list(Signals.replay(tape(honest), strict=True))) == 1


def test_texts_of_long_ago_that_were_fed_today_are_in_sample() -> None:
    """Though they became available today: not only the first signal counts, and not only its availability."""
    known_us = T0 - 86_400 * SECOND
    fresh, old = (knowing(invented(name, at_us), known_us) for name, at_us in (("fresh", T0), ("old", T0 - 10**14)))
    with capture_logs() as lines:
        assert len(list(Signals.replay([(fresh, T0), (old, T0 + 1)]))) == 2
    assert ["'wire:old' is of 2020-" in line["reason"] for line in lines if line["event"] == "replay.in_sample"] == [
        True
    ]
    signals = Signals.replay([(fresh, T0), (old, T0 + 1)], strict=True)
    assert next(signals).item_key == "wire:fresh"
    with pytest.raises(InSample, match="model invented: the text of 'wire:old'"):
        next(signals)
    assert len(list(Signals.replay([(fresh, T0)], strict=True))) == 1


def test_columns_of_an_archive_tell_what_is_in_sample(tmp_path: Path) -> None:
    """A table is made without a look at the messages; the old text in the middle is found all the same."""
    pytest.importorskip("pyarrow", reason="NO PYARROW: pip install -e '.[strategies]'")
    from earlybird.stream.archive.writer import Archiver

    known_us = T0 - 86_400 * SECOND
    texts = [invented(str(n), T0 + n if n != 30 else T0 - 10**14) for n in range(60)]
    with Archiver(tmp_path, ["signals"]) as archiver:
        for offset, signal in enumerate(texts):
            record = replace(as_record(knowing(signal, known_us)), offset=offset, timestamp_us=T0 + offset)
            archiver.add(StampedRecord(record, appended=True))
    with capture_logs() as lines:
        assert Signals.replay(tmp_path).to_arrow(100).num_rows == len(list(Signals.replay(tmp_path))) == 60
    told = [line["reason"] for line in lines if line["event"] == "replay.in_sample"]
    assert len(told) == 2 and told[0] == told[1] and "'wire:30' is of 2020-" in told[0]
    for take in (lambda signals: signals.to_arrow(100), list):
        with pytest.raises(InSample, match="'wire:30'"):
            take(Signals.replay(tmp_path, strict=True))
        take(Signals.replay(tmp_path, start=T0 + 31, strict=True))


def knowing(signal: Signal, known_us: int) -> Signal:
    model = signal.model.model_copy(update={"knowledge_until_us": known_us})
    return signal.model_copy(update={"model": model})


def test_novelty_of_what_comes_later_is_not_shown() -> None:
    """The first with this text was ingested after the instant at which this view has its repeat."""

    def repeat(name: str, first_us: int) -> Signal:
        novelty = Novelty(cache_hit=True, dup_of="wire:x", dup_count=1, first_seen_us=first_us)
        return invented(name, T0).model_copy(update={"novelty": novelty})

    later, before = Signals.replay([(repeat("1", T0 + 1), T0), (repeat("2", T0), T0)])
    assert later.novelty == Novelty(cache_hit=False)
    assert before.novelty is not None and before.novelty.dup_of == "wire:x"


def test_the_memory_of_delivered_items_is_bounded() -> None:
    """The one unused for longest is forgotten, and its retraction is filtered like a stranger's."""
    recorded = tape(
        *(invented(item, T0) for item in "abc"), *(invented(item, T0, revision=1, action=RETRACT) for item in "abc")
    )
    received = list(Signals.replay(recorded, labels=["positive"], remember=2))
    assert [signal.item_key for signal in received if signal.action is RETRACT] == ["wire:b", "wire:c"]


def test_duplicates_are_dropped_on_request_only() -> None:
    """At-least-once delivery repeats signal_ids; a new revision is no duplicate."""
    first, second = invented("1", T0), invented("1", T0, revision=1, action=CORRECT)
    recorded = tape(first, first, second, first)
    assert len(list(Signals.replay(recorded))) == 4
    signals = Signals.replay(recorded, distinct=True)
    assert [signal.revision for signal in signals] == [0, 1]
    assert signals.counts.repeated == 2


def test_a_text_that_came_back_is_no_duplicate() -> None:
    """A correction that was taken back has the first text's signal_id, and its own place in the raw topic."""
    first, second, third = (invented("1", T0, score, offset=n) for n, score in enumerate((0.9, -0.9, 0.9)))
    assert first.signal_id == third.signal_id
    latest = Latest[Received]()
    for received in Signals.replay(tape(first, second, third, first), distinct=True):
        latest.update(received)
    (stands,) = latest
    assert stands.raw.offset == 2


@given(st.permutations(range(5)))
def test_the_latest_state_does_not_depend_on_arrival(order: list[int]) -> None:
    """Highest revision, a retraction after the correction of the same revision."""
    states = [
        invented("1", T0, 0.1),
        invented("1", T0, 0.2, revision=1, action=CORRECT),
        invented("1", T0, 0.3, revision=2, action=CORRECT),
        invented("1", T0, revision=2, action=RETRACT),
        invented("2", T0, 0.4),
    ]
    latest = Latest[Signal]()
    for index in order:
        latest.update(states[index])
    assert latest.get("wire:1") is None
    assert [state.item_key for state in latest] == ["wire:2"]
    assert latest.about("NVDA") == [states[4]]


def test_a_late_revision_changes_nothing() -> None:
    """`update` says whether there is anything to act upon."""
    latest = Latest[Signal]()
    new = invented("1", T0, 0.9, revision=7)
    assert [latest.update(new), latest.update(new), latest.update(invented("1", T0, -0.9, revision=6))] == [
        True,
        False,
        False,
    ]
    assert latest.get("wire:1") == new


def test_what_stands_about_an_instrument_follows_every_change() -> None:
    """A correction moves a text to another instrument, a retraction takes it away, a full memory forgets."""
    latest = Latest[Signal](size=2)
    for state in (
        invented("a", T0, symbols=["NVDA", "AMD"]),
        invented("b", T0, symbols=["NVDA"]),
        invented("a", T0, symbols=["AMD"], revision=1, action=CORRECT),
    ):
        latest.update(state)
    assert [state.item_key for state in latest.about("NVDA")] == ["wire:b"]
    assert [state.revision for state in latest.about("AMD")] == [1]
    latest.update(invented("c", T0, symbols=["TSLA"]))
    latest.update(invented("a", T0, revision=2, action=RETRACT))
    assert latest.about("NVDA") == latest.about("AMD") == [] and len(latest) == 1


def test_a_range_is_cut_by_availability() -> None:
    """From `start` on, up to but not including `end`; written as an instant, a text or a number."""
    recorded = tape(*(invented(str(number), T0) for number in range(5)))
    received = Signals.replay(recorded, start="2023-11-14T22:13:21", end=T0 + 3 * SECOND)
    assert [signal.item_key for signal in received] == ["wire:1", "wire:2"]
    with pytest.raises(ValueError, match="start: the zone 'ET'"):
        Signals.replay(recorded, start="2023-11-14T22:13:21 ET")


def test_an_archive_is_played_like_the_signals_themselves(tmp_path: Path) -> None:
    """From Parquet files, without Kafka: the same objects, filters and range."""
    pytest.importorskip("pyarrow", reason="NO PYARROW: pip install -e '.[strategies]'")
    from earlybird.stream.archive.writer import Archiver

    recorded = tape(*(invented(str(number), T0, 0.9 - number % 2) for number in range(20)))
    with Archiver(tmp_path, ["signals"]) as archiver:
        for offset, (signal, at_us) in enumerate(recorded):
            record = replace(as_record(signal), offset=offset, timestamp_us=at_us)
            archiver.add(StampedRecord(record, appended=True))
    wanted = {"labels": ["positive"], "start": T0 + 5 * SECOND, "latency": 250_000}
    played = list(Signals.replay(tmp_path, **wanted))  # type: ignore[arg-type]
    assert played == list(Signals.replay(recorded, **wanted)) and len(played) == 7  # type: ignore[arg-type]


def test_latency_moves_what_a_strategy_sees_and_when() -> None:
    """A signal drawn slow is seen after one that was appended later; one of the same item never overtakes."""

    class ByItem:
        def of(self, signal_id: str) -> int:
            return 3 * SECOND if signal_id == slow.signal_id else 0

    slow = invented("slow", T0)
    follows = invented("slow", T0, revision=1, action=RETRACT)
    received = list(Signals.replay(tape(slow, invented("quick", T0), follows), latency=ByItem()))
    assert [(signal.item_key, signal.action) for signal in received] == [
        ("wire:quick", "new"),
        ("wire:slow", "new"),
        ("wire:slow", "retract"),
    ]
    assert [signal.available_us - T0 for signal in received] == [SECOND, 3 * SECOND, 3 * SECOND]


def test_a_measured_latency_is_the_same_in_every_replay() -> None:
    """Each signal draws by its own id, so a part of the range gives the same draws as the whole."""
    recorded = tape(*(invented(str(number), T0) for number in range(50)))
    model = Empirical.measured([1_000, 40_000, 9_000_000])
    whole = {signal.item_key: signal.available_us for signal in Signals.replay(recorded, latency=model)}
    part = {signal.item_key: signal.available_us for signal in Signals.replay(recorded[30:], latency=model)}
    assert part.items() <= whole.items()
    assert {whole[f"wire:{number}"] - at_us for number, (_, at_us) in enumerate(recorded)} > {1_000, 9_000_000}


@given(
    gaps=st.lists(st.integers(0, 5 * SECOND), min_size=1, max_size=30),
    cut=st.integers(0, 30),
    future=st.lists(st.integers(0, 5 * SECOND), max_size=10),
)
def test_the_future_never_changes_the_past(gaps: list[int], cut: int, future: list[int]) -> None:
    """Whatever is appended after an instant, what a strategy saw until then stays bit for bit the same."""

    cut = min(cut, len(gaps))

    def recording(steps: list[int], name: str) -> list[tuple[Signal, int]]:
        at_us, pairs = T0, []
        for number, gap in enumerate(steps):
            at_us += gap
            own = name if number >= cut else ""
            pairs.append((invented(f"{own}{number}", at_us, 0.5), at_us))
        return pairs

    one, other = recording(gaps, "one"), recording(gaps[:cut] + future, "other")
    changed_us = min((at_us for _, at_us in one[cut:] + other[cut:]), default=2 * T0)
    model = Empirical.measured([0, 700_000, 6_000_000])
    seen = [
        [
            (signal.available_us, encode(signal))
            for signal in Signals.replay(recorded, latency=model)
            if signal.available_us < changed_us
        ]
        for recorded in (one, other)
    ]
    assert seen[0] == seen[1]


def test_the_order_comes_out_by_availability_whatever_the_latency() -> None:
    """A backtest's clock never goes back."""
    recorded = tape(*(invented(str(number % 7), T0, revision=number) for number in range(200)))
    instants = [s.available_us for s in Signals.replay(recorded, latency=Empirical.measured([0, 10 * SECOND, 500]))]
    assert instants == sorted(instants) and len(instants) == 200


def test_a_recording_out_of_order_is_refused() -> None:
    """Read as it stands it would show the future."""
    recorded = [(invented("1", T0), T0 + 1), (invented("2", T0), T0)]
    with pytest.raises(OutOfOrder, match=f"was {T0}"):
        list(Signals.replay(recorded))


def test_the_input_is_read_no_further_than_the_latency_needs() -> None:
    """A year of signals need not fit into memory."""
    read = 0

    def endless() -> Iterator[tuple[Signal, int]]:
        nonlocal read
        while True:
            yield invented(str(read), T0), T0 + read * SECOND
            read += 1

    signals = Signals.replay(endless(), latency=5 * SECOND)
    assert next(signals).item_key == "wire:0"
    assert read <= 6


class Time:
    """A clock that moves only when somebody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.mark.parametrize(("speed", "seconds"), [("max", 0.0), (1, 4.0), (10, 0.4)])
def test_a_replay_is_paced_on_availability(speed: float, seconds: float) -> None:
    """Four recorded seconds take four, or a tenth of that, or none."""
    time = Time()
    recorded = tape(*(invented(str(number), T0) for number in range(5)))
    feed = Recording(recorded, SignalFilter(Selection(), distinct=False), Constant(0), speed, time.now, time.sleep)
    assert len(list(Signals(feed))) == 5
    assert time.now_s == pytest.approx(seconds)


def test_handlers_get_what_the_loop_gets() -> None:
    """One strategy, written either way."""
    recorded = tape(*(invented(str(number), T0) for number in range(3)))
    seen: list[str] = []
    Signals.replay(recorded).on(lambda signal: seen.append(signal.item_key)).run()
    assert seen == [signal.item_key for signal in Signals.replay(recorded)]


def test_a_run_ends_when_asked() -> None:
    """`stop` is asked before each signal."""
    seen: list[str] = []
    signals = Signals.replay(tape(*(invented(str(number), T0) for number in range(3))))
    signals.on(lambda signal: seen.append(signal.item_key)).run(stop=lambda: len(seen) == 2)
    assert seen == ["wire:0", "wire:1"]
    assert next(signals).item_key == "wire:2"


def test_the_same_class_iterates_asynchronously() -> None:
    """`async for` over the same object, to the same end."""

    async def collect() -> list[str]:
        return [signal.item_key async for signal in Signals.replay(tape(invented("a", T0), invented("b", T0)))]

    assert asyncio.run(collect()) == ["wire:a", "wire:b"]


def test_signals_are_taken_on_the_event_loop_itself() -> None:
    """Taken on another thread, one would be lost with a task that is cancelled in that moment."""
    threads: set[Thread] = set()

    class Feed(Recording):
        def take(self) -> Received | None:
            threads.add(current_thread())
            return super().take()

    async def everything() -> int:
        feed = Feed(
            tape(invented("a", T0), invented("b", T0)), SignalFilter(Selection(), distinct=False), Constant(0), 10.0
        )
        return len([signal async for signal in Signals(feed)])

    assert asyncio.run(everything()) == 2 and threads == {current_thread()}


def test_a_closed_replay_ends() -> None:
    """As a live one does."""
    with Signals.replay(tape(invented("a", T0), invented("b", T0))) as signals:
        next(signals)
    assert list(signals) == []


def test_a_full_line_stops_the_reading() -> None:
    """No more than its capacity is ever held, the reader is told to idle meanwhile, and nothing is lost."""
    buffer, idled = Buffer(2, "block"), list[int]()
    records = [replace(as_record(invented(str(number), T0)), offset=number) for number in range(5)]

    def read() -> None:
        for record in records:
            buffer.put([Waiting(record, opens=True)], lambda: idled.append(len(buffer)))

    reader = Thread(target=read)
    reader.start()
    taken: list[Record | None] = []
    while len(taken) < 5:
        buffer.wait(5)
        known = len(idled)
        while len(buffer) == 2 and len(idled) == known and len(taken) < 3:
            sleep(0.01)  # until the reader has met the full line
        taken.append(buffer.take())
    reader.join()
    assert taken == records and idled and set(idled) == {2}


def instant(at_us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)


def test_batches_hold_one_row_a_signal() -> None:
    """Instants whole and in UTC, nulls where a retraction has no result, the rest for the next batch."""
    pytest.importorskip("pyarrow", reason="NO PYARROW: pip install -e '.[strategies]'")
    recorded = tape(invented("1", T0, -0.9), invented("1", T0, revision=1, action=RETRACT), invented("2", T0, -0.5))
    signals = Signals.replay(recorded, latency=7)
    first, retraction = signals.to_arrow(2).to_pylist()
    assert first == {
        "available_us": instant(T0 + 7), "event_us": instant(T0), "ingested_us": instant(T0), "updated_us": None,
        "published_us": instant(T0), "emitted_us": instant(T0), "signal_id": recorded[0][0].signal_id,
        "item_key": "wire:1", "revision": 0, "action": "new", "source": "wire", "item_type": "news",
        "symbols": ["NVDA"], "label": "negative", "score": -0.9, "confidence": 0.9, "p_negative": 0.9, "p_neutral": 0.1,
        "p_positive": 0.0, "exit_layer": 1, "exit_reason": "fixed", "cache_hit": False, "dup_of": None,
        "model_id": "invented", "model_sha256": "0" * 64, "config_hash": "0" * 16, "numerics": "none",
        "digest": recorded[0][0].digest, "run_id": "live", "dup_count": 0, "relevance": [None], "headline": None,
        "url": None,
    }  # fmt: skip
    missing = {name for name, value in retraction.items() if value is None}
    assert missing - {name for name, value in first.items() if value is None} - {"cache_hit", "dup_count"} == {
        "label", "score", "confidence", "p_negative", "p_neutral", "p_positive", "exit_layer", "exit_reason",
    }  # fmt: skip
    assert (retraction["available_us"], retraction["action"]) == (instant(T0 + SECOND + 7), "retract")
    assert signals.to_arrow(2).num_rows == 1
    assert signals.to_arrow(2).num_rows == 0


def test_an_odd_signal_costs_a_cell_and_not_the_frame() -> None:
    """Numbers beyond a column's type are null there, counted in the log."""
    pytest.importorskip("pyarrow", reason="NO PYARROW: pip install -e '.[strategies]'")
    deep = invented("deep", T0)
    assert deep.exit is not None
    deep = deep.model_copy(update={"exit": deep.exit.model_copy(update={"layer": 2**70})})
    recorded = tape(
        invented("1", T0), invented("2", T0, revision=2**63), deep, invented("4", T0, symbols=["A,B", "\0"])
    )
    with capture_logs() as logged:
        rows = Signals.replay(recorded).to_arrow(10).to_pylist()
    assert [(row["revision"], row["exit_layer"]) for row in rows] == [(0, 1), (None, 1), (0, None), (0, 1)]
    assert rows[3]["symbols"] == ["A,B", "\0"]
    told = [(line["column"], line["values"]) for line in logged if line["event"] == "column.values_left_out"]
    assert told == [("revision", 1), ("exit_layer", 1)]


def test_a_frame_is_indexed_by_availability() -> None:
    """Ready to be joined with prices: time-zone aware, microseconds kept."""
    pd = pytest.importorskip("pandas", reason="NO PANDAS: pip install -e '.[strategies]'")
    frame = Signals.replay(tape(invented("1", T0), invented("2", T0, 0.0))).to_pandas(10)
    assert list(frame.index) == [pd.Timestamp(T0, unit="us", tz="UTC"), pd.Timestamp(T0 + SECOND, unit="us", tz="UTC")]
    assert list(frame["label"]) == ["positive", "neutral"]
    odd = tape(
        invented("1", T0, revision=2**53 + 1), invented("2", T0, revision=2**63), invented("1", T0, action=RETRACT)
    )
    other = Signals.replay(odd).to_pandas(10)
    assert list(other["revision"].dropna()) == [2**53 + 1, 0]  # no float between, for a null beside it
    assert (frame.dtypes == other.dtypes).all()


def beat(shed: int, sequence: int, worker: str = "w1") -> Heartbeat:
    about = {"worker": worker, "sequence": sequence, "state": "running", "shed": shed, "sent_us": T0}
    return Heartbeat.model_validate(about | dict.fromkeys(("model_sha256", "config_hash", "numerics"), "0"))


def test_texts_that_a_new_worker_left_out_are_counted() -> None:
    """A count begins with its worker: after a restart under the same name, or one that joins while we watch; what one
    that ran before had left out by then is not ours to tell."""
    watch, told = StageMonitor(HealthTimeouts(), T0), list[int]()
    for heartbeat in (beat(7, 900), beat(9, 901), beat(3, 1), beat(4, 1, "w2"), beat(5, 2, "w2")):
        watch.note_heartbeat(heartbeat, T0)
        change = watch.judge(T0)
        told += [change.shed] if change else []
    assert told == [2] and watch.condition is Condition.SHEDDING
    watch.judge(T0 + 60 * SECOND)
    watch.note_heartbeat(beat(6, 60, "w2"), T0 + 60 * SECOND)
    change = watch.judge(T0 + 60 * SECOND)
    assert change is not None and change.shed == 2 + 3 + 4 + 1 + 1


def test_headers_of_before_signal_1_1_are_read_in_todays_spelling() -> None:
    """A pair had a dot then; a filter finds it live as in a replay."""
    record = as_record(invented("1", T0, symbols=["BTC-USD"]))
    headers = {name: value for name, value in record.headers if name != "raw"} | {"symbols": b"BTC.USD,BRK.B"}
    facts = SignalHeaders.of_record(replace(record, headers=tuple(headers.items())))
    assert facts.symbols == ("BTC/USD", "BRK.B")


@pytest.mark.parametrize(
    ("bounds", "complaint"),
    [
        ({"first": -5}, "first: 0 or more"),
        ({"last": True}, "last: 0 or more"),
        ({"first": "3"}, "first: 0 or more"),
        ({"first": {"0": 3}}, "first: 0 or more"),
        ({"last": {0: 1.5}}, "last: 0 or more"),
        ({"first": 5, "last": 2}, "first: at most last"),
        ({"slack_us": -1}, "slack_us: 0 or more"),
        ({"available": "foo"}, "available: auto"),
    ],
)
def test_a_range_that_names_no_records_is_refused_at_the_call(bounds: dict[str, object], complaint: str) -> None:
    """Taken as it stands it would be another range, without a word."""
    with pytest.raises(ValueError, match=complaint):
        TopicRange("localhost:1", **bounds)  # type: ignore[arg-type]


def test_a_replay_closes_what_it_was_given() -> None:
    """At once, also where somebody else holds it: it may have a consumer open."""
    closed = []

    def given() -> Iterator[tuple[Signal, int]]:
        try:
            for number in range(10):
                yield invented(str(number), 10**15 + number), 10**15 + number
        finally:
            closed.append(True)

    held = given()
    replay = Signals.replay(held)
    next(replay)
    replay.close()
    assert list(replay) == [] and closed
